"""What each command takes on the command line."""

from functools import partial

import click

from tinynet.cli.command import Option
from tinynet.cli.defaults import FEW, INPUT_SIZES, MODELS
from tinynet.cli.options import (
    NET,
    RUN,
    csv_option,
    data_options,
    device_options,
    learning_options,
    net_options,
    plain_option,
    quiet,
    run_options,
    ten_crop,
    view_options,
    workers,
)
from tinynet.cli.values import CHANNELS, CLASSES, COUNT, PATH, SEED, SHAPE, SIZE, Choice
from tinynet.data.names import NAMES


def train_params(default_model: str = "") -> list[click.Parameter]:
    """default_model: what --model is otherwise, in words."""
    model = default_model or f"alexnet_mini; alexnet for a folder of {FEW:,} photographs or more"
    return [*data_options(), *view_options(), *net_options(model), *learning_options(), *run_options()]


def train_alexnet_params() -> list[click.Parameter]:
    """Those of examples/train_alexnet.py."""
    return [
        *train_params("alexnet for photographs, else alexnet_mini"),
        Option(
            "--evaluate",
            heading=RUN,
            type=PATH,
            multiple=True,
            metavar="FILE ...",
            help="Do not train: the error "
            "of these weights on the validation pictures; of several nets the mean of their probabilities.",
        ),
        ten_crop(RUN, "with --evaluate: "),
    ]


def evaluate_params() -> list[click.Parameter]:
    own = "(default: the run's)"
    add = partial(Option, heading="the pictures")
    return [
        click.Argument(["runs"], type=PATH, nargs=-1, required=True, metavar="RUN..."),
        add("--data", metavar="NAME|DIR", help=f"{', '.join(NAMES)}, or a folder of class folders {own}."),
        add("--data-dir", type=PATH, metavar="DIR", help=f"Folder of a named set's files, or its parent {own}."),
        add(
            "--whole",
            is_flag=True,
            help="All pictures of the folder, also those that a run would learn from: for a folder of test pictures.",
        ),
        add("--val-size", type=COUNT, metavar="N", help=f"Pictures to measure on {own}."),
        add("--seed", type=SEED, metavar="N", help=f"Of shapes {own}."),
        *measuring_options("Pictures, or crops, at a time (default: 64)."),
        quiet("how"),
    ]


def measuring_options(batch_size: str) -> list[click.Parameter]:
    return [
        ten_crop("how"),
        Option("--batch-size", heading="how", type=COUNT, metavar="N", help=batch_size),
        workers("how", "(default: 1)"),
        *device_options("how"),
        plain_option("how"),
    ]


def predict_params() -> list[click.Parameter]:
    devices = next(option for option in device_options("how") if option.name == "devices")
    return [
        click.Argument(["run"], type=PATH, metavar="RUN_OR_WEIGHTS"),
        click.Argument(["images"], type=PATH, nargs=-1, required=True, metavar="IMAGE..."),
        Option("--top", heading="what is shown", type=COUNT, metavar="K", help="Classes of each picture (default: 5)."),
        csv_option("what is shown"),
        ten_crop("how"),
        devices,
        plain_option("how"),
    ]


def summary_params() -> list[click.Parameter]:
    add = partial(Option, heading=NET)
    return [
        click.Argument(["run"], type=PATH, required=False, metavar="[RUN_OR_WEIGHTS]"),
        add("--model", type=Choice(MODELS), help="(default: alexnet_mini)"),
        add("--preset", type=Choice(INPUT_SIZES), help="Which alexnet (default: paper)."),
        add("--num-classes", type=CLASSES, metavar="K", help="Outputs (default: 10, of alexnet 1000)."),
        add("--image-size", type=SIZE, metavar="S", help="The input is S x S (default: 32, 227 for the paper's net)."),
        add("--in-channels", type=CHANNELS, metavar="C", help="1 for grey pictures, 3 for colour (default: 3)."),
        add(
            "--batch-size",
            type=COUNT,
            metavar="N",
            help="Pictures at once, on which the way of computing depends (default: 1).",
        ),
        plain_option(NET),
    ]


def compare_params() -> list[click.Parameter]:
    return [
        click.Argument(["runs"], type=PATH, nargs=-1, required=True, metavar="RUN..."),
        csv_option("what is shown"),
        Option(
            "--plot",
            heading="what is shown",
            type=PATH,
            metavar="FILE.png",
            help="Draw their validation curves in one picture.",
        ),
    ]


def check_params() -> list[click.Parameter]:
    add = partial(Option, heading="a layer of yours")
    return [
        click.Argument(["layer"], required=False, metavar="[LAYER]"),
        add("--shape", type=SHAPE, metavar="2,3,4,5", help="Of an x (default: tried out)."),
        add("--args", metavar="'3, bias=False'", help="The constructor's arguments (default: none)."),
    ]
