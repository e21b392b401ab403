"""Train a small two-tower AlexNet. Without arguments it draws its own pictures, so that no file is needed.

A run's folder holds config.json, log.jsonl, weights.safetensors, learning_curves.png and first_layer_kernels.png, the
last three renewed after each epoch; a picture that cannot be written is a warning only. Exit codes: 0 done, 1 failed,
2 wrong usage, 130 ended by Ctrl-C, weights kept.
"""

import argparse
import contextlib
import itertools
import json
import math
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

import tinynet
from tinynet import data
from tinynet.checkpoint import atomic_write, cannot_write
from tinynet.models import alexnet_mini
from tinynet.optim import SGD, StepLR
from tinynet.plots import first_layer_kernels, learning_curves, save_figure
from tinynet.train import LOG, Record, Trainer

DEFAULTS: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 3, "batch_size": 64, "lr": 0.01, "train_size": 20_000, "val_size": 2_000},
    "mnist": {"epochs": 2, "batch_size": 64, "lr": 0.01, "train_size": None, "val_size": None},
    "fashion-mnist": {"epochs": 2, "batch_size": 64, "lr": 0.01, "train_size": None, "val_size": None},
    "cifar-10": {"epochs": 12, "batch_size": 64, "lr": 0.01, "train_size": None, "val_size": None},
}
DROP_AFTER = 0.6  # of the epochs: from there on the learning rate is a tenth


def main() -> int:
    args = parse_arguments()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder's name may hold what the screen cannot show
    try:
        with run_folder(args.out, args.data) as args.out:
            train(args)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted before training began: nothing is kept", file=sys.stderr)
        return 130
    except (OSError, ValueError, FloatingPointError, MemoryError) as error:
        print(f"train_alexnet.py: error: {reason(error)}", file=sys.stderr)
        return 1
    return 0


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror  # the texts of tinynet's own name the file and need no [Errno 28]
    return str(error) or type(error).__name__


def train(args: argparse.Namespace) -> None:
    sizes = {"train_size": args.train_size, "validation_size": args.val_size}
    train_set, val_set = data.load(args.data, args.data_dir, seed=args.seed, **sizes)
    mean, std = data.channel_statistics(train_set)
    train_loader = data.Loader(train_set, args.batch_size, shuffle=True, seed=args.seed, mean=mean, std=std)
    val_loader = data.Loader(val_set, args.batch_size, shuffle=False, seed=args.seed, mean=mean, std=std)
    num_classes = len(train_set.classes)
    model = alexnet_mini(num_classes, train_set.channels, train_set.image_size[0], seed=args.seed)
    optimizer = SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)
    config = describe(args) | {"num_classes": num_classes}
    atomic_write(args.out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    if not args.quiet:
        size = " x ".join(map(str, train_set.images.shape[1:]))
        parameters = sum(parameter.size for parameter in model.parameters())
        print(f"data   {args.data}: {len(train_set):,} pictures to learn from, {len(val_set):,} to validate on, {size}")
        print(f"net    alexnet_mini: {parameters:,} parameters, {num_classes} classes; {config['threads']} CPU threads")
        print(
            f"learn  {args.epochs} x {len(train_loader):,} steps of {args.batch_size} pictures, from rate {args.lr:g}"
        )
        print(f"write  to {args.out}", flush=True)

    def draw(trainer: Trainer, record: Record) -> None:
        kernels = dict(model.named_parameters())["conv1.weight"].data
        with failure_is_a_warning():
            save_figure(learning_curves(trainer.records), args.out / "learning_curves.png")
        with failure_is_a_warning():
            save_figure(first_layer_kernels(kernels), args.out / "first_layer_kernels.png")

    trainer = Trainer(
        model,
        optimizer,
        train_loader,
        val_loader,
        epochs=args.epochs,
        schedule=StepLR(optimizer, max(1, round(DROP_AFTER * args.epochs))),
        out=args.out,
        quiet=args.quiet,
        callbacks=[draw],
        config=config,
    )
    trainer.fit()


@contextlib.contextmanager
def failure_is_a_warning() -> Iterator[None]:
    """For a picture, which on Windows a viewer may hold open: without it training goes on, and it is drawn again after
    the next epoch."""
    try:
        yield
    except Exception as error:
        text = " ".join(reason(error).split())  # one line
        print(f"train_alexnet.py: warning: {text}; training goes on without this picture", file=sys.stderr)


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """All settings, and what else decides the numbers that come out."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "tinynet": tinynet.__version__,
    }
    return {**settings, "threads": tinynet.get_num_threads(), "versions": versions}


@contextlib.contextmanager
def run_folder(out: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run, made and found writable before time is spent; removed again if nothing came into it.

    Without `out` it is runs/NAME-N, N being the first free number. Raises OSError if it cannot be written, or if it
    holds a run already.
    """
    folder = out or Path("runs")
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1) if out is None else ():
            with contextlib.suppress(FileExistsError):
                made, folder = True, Path("runs", f"{name}-{n}")
                folder.mkdir()
                break
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error
    if (folder / LOG).exists():
        raise FileExistsError(f"expected a folder without a run, got {folder}, which holds {LOG}; give --out another")
    try:
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):  # which it raises if the folder is not empty
                folder.rmdir()


def parse_arguments() -> argparse.Namespace:
    def default(option: str) -> str:
        return "default: " + ", ".join(f"{values[option] or 'all'} for {name}" for name, values in DEFAULTS.items())

    count = number(int, "a whole number of at least 1", lambda n: n >= 1)
    seed = number(int, "a whole number in [0, 2**64)", lambda n: 0 <= n < 2**64)
    above_0 = number(float, "a finite number above 0", lambda x: 0 < x < math.inf)
    below_1 = number(float, "a number of at least 0 and below 1", lambda x: 0 <= x < 1)
    at_least_0 = number(float, "a finite number of at least 0", lambda x: 0 <= x < math.inf)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data", choices=DEFAULTS, default="shapes", help="(default: shapes, which the program draws)")
    add("--data-dir", type=Path, metavar="DIR", help="folder of the data set's files, or its parent; not for shapes")
    add("--train-size", type=count, metavar="N", help=f"pictures to learn from ({default('train_size')})")
    add("--val-size", type=count, metavar="N", help=f"pictures to validate on ({default('val_size')})")
    add("--epochs", type=count, metavar="N", help=f"passes over the training pictures ({default('epochs')})")
    add("--batch-size", type=count, metavar="N", help=f"pictures in a step ({default('batch_size')})")
    add("--lr", type=above_0, metavar="R", help=f"learning rate; a tenth of it near the end ({default('lr')})")
    add("--momentum", type=below_1, metavar="M", default=0.9, help="share of the last update kept (default: 0.9)")
    add("--weight-decay", type=at_least_0, metavar="D", default=5e-4, help="pull of weights to 0 (default: 0.0005)")
    add("--seed", type=seed, metavar="N", default=0, help="of shapes, initial weights, order, dropout (default: 0)")
    add("--devices", metavar="LIST", default="cpu", help="where to compute; so far cpu alone (default: cpu)")
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/DATA-N, N the first free number)")
    add("--quiet", action="store_true", help="print the result and errors only")
    args = parser.parse_args()
    if args.devices != "cpu":
        parser.error(
            f"argument --devices: expected cpu, got {args.devices!r}: GPUs (cuda:0) and nets split over several "
            "devices come in a later version; leave the option out to train on the CPU"
        )
    if args.data != "shapes" and args.data_dir is None:
        parser.error(f"argument --data-dir: expected the folder of {args.data}'s files, got none")
    if args.data == "shapes" and args.data_dir is not None:
        parser.error(
            f"argument --data-dir: expected none for shapes, which the program draws, got {str(args.data_dir)!r}; "
            "leave it out, or choose other --data"
        )
    for option, value in DEFAULTS[args.data].items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    return args


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


if __name__ == "__main__":
    sys.exit(main())
