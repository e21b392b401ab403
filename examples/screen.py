"""What train_alexnet.py says on the screen, beside the lines of the training itself."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet.data import Loader
from tinynet.parallel import Split
from tinynet.training.evaluate import evaluation_mode
from tinynet.training.progress import say


def warn(text: str) -> None:
    say(f"train_alexnet.py: warning: {text}", error=True)


# before training


def announce(args: argparse.Namespace, model: Any, num_classes: int, train_loader: Loader, val_loader: Loader) -> None:
    """A line each for the data, the net, what crosses between its towers, the learning, the folder."""
    towers = isinstance(model, Split)
    if towers and "cpu" in model.devices and len(set(model.devices)) > 1:
        warn("one tower on the CPU: the numbers are the same, but the GPU will mostly wait for it")
    if args.quiet:
        return
    train_set, val_set = train_loader.dataset, val_loader.dataset
    size = " x ".join(map(str, train_set.images.shape[1:]))
    say(f"data   {args.data}: {len(train_set):,} pictures to learn from, {len(val_set):,} to validate on, {size}")
    name = args.model + (f" ({args.preset})" if args.preset else "")
    parameters = sum(parameter.size for parameter in model.parameters())
    say(f"net    {name}: {parameters:,} parameters, {num_classes} classes; {where_it_computes(model)}")
    if towers:
        say(f"cross  {what_crosses(model, (1, train_set.channels, args.image_size, args.image_size), args.batch_size)}")
    steps = f"{args.epochs} x {len(train_loader):,} steps of {args.batch_size} pictures"
    say(f"learn  {steps}, from rate {args.lr:g}")
    say(f"write  to {args.out}")


def where_it_computes(model: Any) -> str:
    threads = f"{tinynet.get_num_threads()} CPU threads"
    if not isinstance(model, Split):
        return threads if model.device == "cpu" else model.device
    towers = f"{len(model.devices)} towers on {', '.join(model.devices)}"
    return f"{towers}, {threads}" if "cpu" in model.devices else towers


def what_crosses(model: Split, one_picture: tuple[int, ...], batch_size: int) -> str:
    """Bytes that go from tower to tower, counted in a forward and backward of one picture."""
    with evaluation_mode(model):
        model.backward(model(np.zeros(one_picture, np.float32)))
    model.zero_grad()
    each = ", ".join(f"{layer} {nbytes:,}" for layer, nbytes in model.crossed.items())
    total = sum(model.crossed.values())
    return f"{total:,} bytes a picture ({each}), {total * batch_size:,} a step, from tower to tower"


# when it ends early


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror  # the texts of tinynet's own name the file and need no [Errno 28]
    return str(error) or type(error).__name__


def how_to_go_on(args: argparse.Namespace) -> str:
    return f"go on with: {shlex.join([sys.executable, sys.argv[0], '--resume', str(folder_of(args))])}"


def folder_of(args: argparse.Namespace) -> Path:
    """The run's; with --resume the path may be that of a checkpoint in it."""
    path: Path = getattr(args, "resume", None) or args.out or Path()
    return path.resolve().parent.parent if path.is_file() else path
