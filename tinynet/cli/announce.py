"""What a run says before training: a line each for the data, the net, what it takes, the learning, the folder."""

from types import SimpleNamespace
from typing import Any

import numpy as np

import tinynet
from tinynet.cli.defaults import FEW
from tinynet.cli.screen import warn
from tinynet.data import Loader
from tinynet.data.names import PHOTOS
from tinynet.layers.layer import Layer
from tinynet.mode import is_plain
from tinynet.parallel import Split
from tinynet.training.evaluate import evaluation_mode
from tinynet.training.loading import network
from tinynet.training.progress import say


def what_it_takes(args: SimpleNamespace) -> None:
    """Before work begins: which net was chosen for a folder of photographs, and what the paper's will take."""
    if args.data_kind != PHOTOS or args.quiet:
        return
    if args.found is not None and args.model == "alexnet_mini":
        count = f"{len(args.found.sources):,} photographs, fewer than {FEW:,}"
        say(f"choose alexnet_mini, {args.image_size} x {args.image_size}: {count}; --model alexnet is the paper's net")
    elif "model" not in args.given and args.model == "alexnet":
        model = network("alexnet", args.preset, args.num_classes or 1000, 3, args.image_size)
        memory, disk = gigabytes(model, (args.batch_size, 3, args.image_size, args.image_size))
        text = f"about {memory:.1f} GB of memory with --batch-size {args.batch_size}, up to {disk:.1f} GB on the disk"
        say(f"takes  {text}, for the paper's net; --model alexnet_mini trains the small one")


def gigabytes(model: Layer, batch: tuple[int, ...]) -> tuple[float, float]:
    """(of memory, on the disk) that a run takes at most, about; 1 GB is 10**9 bytes.

    Memory: weights, gradients and velocity; a checkpoint while it is written, twice; what the layers keep of a batch,
    with their gradients, for which memory is used again, a little more than all outputs; and half a GB for Python, the
    libraries and the pictures. (Measured for the paper's net: 2.3 to 2.7 GB with batches of 32, 3.1 GB with 128; this
    says 2.5 and 3.3.) Disk: weights, and the last three checkpoints, the best one and the one being written, each of
    weights and velocity.
    """
    weights = 4 * sum(parameter.size for parameter in model.parameters())
    outputs = 4 * tinynet.summary(model, batch).activations
    memory = 3 * weights + 2 * 2 * weights + 1.1 * outputs + 0.5e9
    return memory / 1e9, (weights + 5 * 2 * weights) / 1e9


def announce(args: SimpleNamespace, model: Any, num_classes: int, train_loader: Loader, val_loader: Loader) -> None:
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
    where = where_it_computes(model) + (", in plain mode" if is_plain() else "")
    say(f"net    {name}: {parameters:,} parameters, {num_classes} classes; {where}")
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
