"""The options of train_alexnet.py: what each may be, and their defaults for each kind of data and net."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinynet import data
from tinynet.backend.precision import PRECISIONS
from tinynet.models import PRESETS

PHOTOS = "photos"  # a folder of class folders
TOWERS = 2  # of the nets that can be split
# what --data decides unless an option says otherwise
DEFAULTS: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 3, "train_size": 20_000, "val_size": 2_000, "augment": "none"},
    "mnist": {"epochs": 2, "augment": "none"},
    "fashion-mnist": {"epochs": 2, "augment": "none"},
    "cifar-10": {"epochs": 25, "augment": "mirror"},
    PHOTOS: {"epochs": 90, "augment": "paper", "workers": 1},
}
MODELS: dict[str, dict[str, Any]] = {
    "alexnet_mini": {"batch_size": 64, "lr": 0.01, "schedule": "step"},
    "alexnet": {"batch_size": 128, "lr": 0.01, "schedule": "plateau", "preset": "paper"},
}
COMMON: dict[str, Any] = {
    **{"data_dir": None, "train_size": None, "val_size": None, "image_size": None, "preset": None, "num_classes": None},
    **{"momentum": 0.9, "weight_decay": 5e-4, "patience": None, "workers": 0, "seed": 0, "devices": "cpu"},
    "precision": "fp32",
    **{"pretrained": None, "freeze": [], "out": None, "checkpoint_minutes": 10.0, "quiet": False, "tensorboard": False},
    **{"graph": False, "trace": None, "resume": None, "evaluate": None, "ten_crop": False},
}
IMAGE_SIZES = {"shapes": 32, "mnist": 28, "fashion-mnist": 28, "cifar-10": 32, PHOTOS: 64}  # for alexnet_mini
INPUT_SIZES = {"paper": 227, "torchvision": 224}  # of the presets of alexnet
AUGMENT = {
    "none": "the picture, or its centre if it is larger than the net's input",
    "crop": "a random crop, of pictures of the input's own size after padding them by an eighth",
    "mirror": "crop, and half of the pictures mirrored",
    "paper": "mirror, and colour noise (Krizhevsky et al. 2012, section 4.1)",
}
SCHEDULES = {
    "step": "a tenth after 60 and 85 %% of the epochs",
    "plateau": "a tenth each time the validation error stops improving, three times (the paper's)",
    "constant": "the same throughout",
}


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Gives the options that stand on the command line, and no others."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_data_options(parser.add_argument_group("what to learn from").add_argument)
    add_net_options(parser.add_argument_group("the net").add_argument)
    add_learning_options(parser.add_argument_group("how to learn").add_argument)
    add_run_options(parser.add_argument_group("the run").add_argument)
    return parser


def number(kind: type, expected: str, fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    """A type for argparse, whose error says what was expected and what came."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


COUNT = number(int, "a whole number of at least 1", lambda n: n >= 1)
WORKERS = number(int, "a whole number in [0, 64]", lambda n: 0 <= n <= 64)
CLASSES = number(int, "a whole number in [2, 100000]", lambda n: 2 <= n <= 100_000)
SIZE = number(int, "a whole number in [28, 512]", lambda n: 28 <= n <= 512)
SEED = number(int, "a whole number in [0, 2**64)", lambda n: 0 <= n < 2**64)
ABOVE_0 = number(float, "a finite number above 0", lambda x: 0 < x < math.inf)
BELOW_1 = number(float, "a number of at least 0 and below 1", lambda x: 0 <= x < 1)
AT_LEAST_0 = number(float, "a finite number of at least 0", lambda x: 0 <= x < math.inf)
FACTOR = number(float, "a factor of at least 0 and below 1 behind =", lambda x: 0 <= x < 1)


def layers(text: str) -> list[str]:
    """The items of a list with commas, each a name or NAME=FACTOR."""
    found = [item.strip() for item in text.split(",")]
    names = [name for name, _ in map(slowed, found)]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, each once, got {text!r}")
    return found


def slowed(item: str) -> tuple[str, float]:
    """(name, factor of the learning rate) of "conv2=0.1"; of "conv2" alone the factor is 0."""
    name, given, factor = item.partition("=")
    if not given:
        return name, 0.0
    return name.strip(), FACTOR(factor)


def device_names(devices: str) -> tuple[str, ...]:
    """What --devices says, as tinynet.backend.device has it: "0,1" is ("cuda:0", "cuda:1"). ValueError for what it
    cannot say, or for more devices than the nets have towers."""
    each = devices.split(",")
    if len(each) > TOWERS or not all(one == "cpu" or (one.isascii() and one.isdecimal()) for one in each):
        raise ValueError(devices)
    return tuple(one if one == "cpu" else f"cuda:{int(one)}" for one in each)


def data_kind(name: str) -> str | None:
    """The set's name, PHOTOS for a folder, or None."""
    if name in data.NAMES:
        return name
    return PHOTOS if Path(name).is_dir() else None


def explain(choices: dict[str, str], default: str) -> str:
    return "; ".join(f"{name}: {text}" for name, text in choices.items()) + f" (default: {default})"


def add_data_options(add: Callable) -> None:
    add("--data", metavar="NAME|DIR", help=f"one of {', '.join(data.NAMES)}, or a folder of class folders of "
        "photographs (default: shapes, which the program draws)")  # fmt: skip
    add("--data-dir", type=Path, metavar="DIR", help="folder of a named set's files, or its parent (default: they are "
        "downloaded once)")  # fmt: skip
    add("--train-size", type=COUNT, metavar="N", help="pictures to learn from (default: 20000 shapes, else all)")
    add("--val-size", type=COUNT, metavar="N", help="pictures to validate on (default: 2000 shapes, else all)")
    add("--image-size", type=SIZE, metavar="S", help="the net's input is S x S (default: 227 for the paper's net, 224 "
        "for torchvision's; for alexnet_mini the set's own, 64 for photographs)")  # fmt: skip
    add("--augment", choices=AUGMENT, help=explain(AUGMENT, "mirror for cifar-10, paper for photographs, else none"))
    add("--workers", type=WORKERS, metavar="N", help="threads that prepare batches ahead; the numbers do not depend on "
        "it (default: 1 for photographs, else 0)")  # fmt: skip


def add_net_options(add: Callable) -> None:
    add("--model", choices=MODELS, help="(default: alexnet for photographs, else alexnet_mini)")
    add("--preset", choices=PRESETS, help="which alexnet (default: paper)")
    add("--num-classes", type=CLASSES, metavar="K", help="outputs of the net (default: the data's classes)")
    add("--pretrained", type=Path, metavar="FILE", help="begin with these weights; fc8 is new unless the classes are "
        "the same")  # fmt: skip
    add("--freeze", type=layers, metavar="LAYERS", help="layers that do not learn, such as conv1,conv2; or learn more "
        "slowly: conv1,conv2=0.1, at a tenth of the learning rate")  # fmt: skip


def add_learning_options(add: Callable) -> None:
    add("--epochs", type=COUNT, metavar="N", help="passes over the training pictures (default: 3 for shapes, 25 for "
        "cifar-10, 90 for photographs, else 2)")  # fmt: skip
    add("--batch-size", type=COUNT, metavar="N", help="pictures in a step (default: 128 for alexnet, 64 for the mini)")
    add("--lr", type=ABOVE_0, metavar="R", help="learning rate at the start (default: 0.01)")
    add("--momentum", type=BELOW_1, metavar="M", help="share of the last update kept (default: 0.9)")
    add("--weight-decay", type=AT_LEAST_0, metavar="D", help="pull of weights to 0 (default: 0.0005)")
    add("--schedule", choices=SCHEDULES, help=explain(SCHEDULES, "plateau for alexnet, step for the mini"))
    add("--patience", type=COUNT, metavar="N", help="end early after N epochs without a new best (default: do not)")
    add("--seed", type=SEED, metavar="N", help="of shapes, initial weights, order, crops, dropout (default: 0)")
    add("--devices", metavar="DEVICES", help="where to compute: cpu, or the number of a GPU, such as 0; or two, 0,1 or "
        "cpu,cpu or 0,0, one for each tower of the net (default: cpu)")  # fmt: skip
    add("--graph", action="store_true", help="on a GPU: record a step once and replay it, which spares the host work; "
        "the numbers are the same")  # fmt: skip
    add("--trace", type=Path, metavar="FILE.json", help="with several devices: write when each computed and copied in "
        "the third step, for chrome://tracing or ui.perfetto.dev, and as a picture beside it")  # fmt: skip
    add("--precision", choices=PRECISIONS, help="of a GPU's products: fp32; tf32x3, as exact, on tensor cores; tf32 or "
        "bf16, faster and less exact (default: fp32)")  # fmt: skip


def add_run_options(add: Callable) -> None:
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/DATA-N, N the first free number)")
    add("--resume", type=Path, metavar="PATH", help="go on with a run: its folder, or a checkpoint in it")
    add("--checkpoint-minutes", type=ABOVE_0, metavar="T", help="a checkpoint at least every T minutes (default: 10)")
    add("--tensorboard", action="store_true", help="write event files for TensorBoard too (needs tensorboardX)")
    add("--evaluate", type=Path, nargs="+", metavar="FILE", help="do not train: the error of these weights on the "
        "validation pictures; of several nets the mean of their probabilities")  # fmt: skip
    add("--ten-crop", action="store_true", help="with --evaluate: corners, centre and their mirrored copies, averaged")
    add("--quiet", action="store_true", help="print the result, warnings and errors only")
