"""The options of the commands, under their headings."""

from functools import partial

from tinynet.cli.command import Option
from tinynet.cli.defaults import AUGMENT, INPUT_SIZES, MODELS, PRECISIONS, SCHEDULES
from tinynet.cli.values import (
    ABOVE_0,
    AT_LEAST_0,
    BELOW_1,
    CLASSES,
    COUNT,
    LAYERS,
    PATH,
    SEED,
    SIZE,
    WORKERS,
    Choice,
    Place,
)
from tinynet.data.names import NAMES

DATA, NET, LEARNING, RUN = "what to learn from", "the net", "how to learn", "the run"


def explain(choices: dict[str, str], default: str) -> str:
    return "; ".join(f"{name}: {text}" for name, text in choices.items()) + f" (default: {default})"


def data_options(heading: str = DATA) -> list[Option]:
    """Which pictures; of a run already trained they are its own unless an option says otherwise."""
    add = partial(Option, heading=heading)
    return [
        add(
            "--data",
            metavar="NAME|DIR",
            help=f"One of {', '.join(NAMES)}, or a folder of class folders of "
            "photographs (default: shapes, which the program draws).",
        ),
        add(
            "--data-dir",
            type=PATH,
            metavar="DIR",
            help="Folder of a named set's files, or its parent (default: they are downloaded once).",
        ),
        add("--train-size", type=COUNT, metavar="N", help="Pictures to learn from (default: 20000 shapes, else all)."),
        add("--val-size", type=COUNT, metavar="N", help="Pictures to validate on (default: 2000 shapes, else all)."),
    ]


def view_options() -> list[Option]:
    """What the net gets of a picture."""
    add = partial(Option, heading=DATA)
    return [
        add(
            "--image-size",
            type=SIZE,
            metavar="S",
            help="The net's input is S x S (default: 227 for the paper's net, "
            "224 for torchvision's; for alexnet_mini the set's own, 64 for photographs).",
        ),
        add(
            "--augment",
            type=Choice(AUGMENT),
            help=explain(AUGMENT, "mirror for cifar-10, paper for photographs, else none"),
        ),
        workers(DATA, "(default: 1 for photographs, else 0)"),
    ]


def workers(heading: str, default: str) -> Option:
    text = "Threads that prepare batches ahead; the numbers do not depend on it"
    return Option("--workers", heading=heading, type=WORKERS, metavar="N", help=f"{text} {default}.")


def net_options(default_model: str) -> list[Option]:
    add = partial(Option, heading=NET)
    return [
        add("--model", type=Choice(MODELS), help=f"(default: {default_model})"),
        add("--preset", type=Choice(INPUT_SIZES), help="Which alexnet (default: paper)."),
        add("--num-classes", type=CLASSES, metavar="K", help="Outputs of the net (default: the data's classes)."),
        add(
            "--pretrained",
            type=PATH,
            metavar="FILE",
            help="Begin with these weights; fc8 is new unless the classes are the same.",
        ),
        add(
            "--freeze",
            type=LAYERS,
            metavar="LAYERS",
            help="Layers that do not learn, such as conv1,conv2; or learn "
            "more slowly: conv1,conv2=0.1, at a tenth of the learning rate.",
        ),
    ]


def learning_options() -> list[Option]:
    add = partial(Option, heading=LEARNING)
    return [
        add(
            "--epochs",
            type=COUNT,
            metavar="N",
            help="Passes over the training pictures (default: 3 for shapes, 25 "
            "for cifar-10, 90 for photographs, else 2).",
        ),
        add(
            "--batch-size",
            type=COUNT,
            metavar="N",
            help="Pictures in a step (default: 128 for alexnet, 64 for the mini).",
        ),
        add("--lr", type=ABOVE_0, metavar="R", help="Learning rate at the start (default: 0.01)."),
        add("--momentum", type=BELOW_1, metavar="M", help="Share of the last update kept (default: 0.9)."),
        add("--weight-decay", type=AT_LEAST_0, metavar="D", help="Pull of weights to 0 (default: 0.0005)."),
        add("--schedule", type=Choice(SCHEDULES), help=explain(SCHEDULES, "plateau for alexnet, step for the mini")),
        add(
            "--patience", type=COUNT, metavar="N", help="End early after N epochs without a new best (default: do not)."
        ),
        add("--seed", type=SEED, metavar="N", help="Of shapes, initial weights, order, crops, dropout (default: 0)."),
        *device_options(LEARNING),
        plain_option(LEARNING),
        add(
            "--graph",
            is_flag=True,
            help="On a GPU: record a step once and replay it, which spares the host work; the numbers are the same.",
        ),
        add(
            "--trace",
            type=PATH,
            metavar="FILE.json",
            help="With several devices: write when each computed and "
            "copied in the third step, for chrome://tracing or ui.perfetto.dev, and as a picture beside it.",
        ),
    ]


def device_options(heading: str) -> list[Option]:
    add = partial(Option, heading=heading)
    return [
        add(
            "--devices",
            metavar="DEVICES",
            help="Where to compute: cpu, or the number of a GPU, such as 0; or two, "
            "0,1 or cpu,cpu or 0,0, one for each tower of the net (default: cpu).",
        ),
        add(
            "--precision",
            type=Choice(PRECISIONS),
            help="Of a GPU's products: fp32; tf32x3, as exact, on tensor "
            "cores; tf32 or bf16, faster and less exact (default: fp32).",
        ),
    ]


def plain_option(heading: str) -> Option:
    text = (
        "Compute by the lines of the layers' own files, without numba, kernels or fused passes: slower, same results."
    )
    return Option("--plain", heading=heading, is_flag=True, help=text)


def run_options() -> list[Option]:
    add = partial(Option, heading=RUN)
    return [
        add(
            "--out", type=PATH, metavar="DIR", help="The run's folder (default: runs/DATA-N, N the first free number)."
        ),
        add("--resume", type=PATH, metavar="PATH", help="Go on with a run: its folder, or a checkpoint in it."),
        add(
            "--checkpoint-minutes",
            type=ABOVE_0,
            metavar="T",
            help="A checkpoint at least every T minutes (default: 10).",
        ),
        add("--tensorboard", is_flag=True, help="Write event files for TensorBoard too (needs tensorboardX)."),
        quiet(RUN),
    ]


def quiet(heading: str) -> Option:
    return Option("--quiet", heading=heading, is_flag=True, help="Print the result, warnings and errors only.")


def ten_crop(heading: str, text: str = "") -> Option:
    text += "corners, centre and their mirrored copies, averaged."
    return Option("--ten-crop", heading=heading, is_flag=True, help=text[0].upper() + text[1:])


def csv_option(heading: str) -> Option:
    text = "Comma-separated values instead of the table; with =FILE into a file"
    return Option("--csv", heading=heading, type=Place(), metavar="[=FILE]", alone="-", help=f"{text}, else on stdout.")
