"""`tinynet train`: data, net, optimiser, loop."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tinynet.cli.announce import announce, what_it_takes
from tinynet.cli.begin import begin_with, check_net, describe, run_folder
from tinynet.cli.building import (
    about_weights,
    freeze,
    input_scale,
    learning_schedule,
    outputs,
    pictures,
    traces,
    training_view,
)
from tinynet.cli.resume import config_of, run_to_resume
from tinynet.cli.screen import fail, folder_of, how_to_go_on, other_commands, reason
from tinynet.cli.usage import device_names
from tinynet.data import CentreCrop, Loader
from tinynet.errors import DeviceError, Terminated
from tinynet.io.checkpoints import Checkpoint
from tinynet.io.files import DISK_FULL
from tinynet.optim import SGD
from tinynet.plots import RunPictures
from tinynet.training.afterwards import what_next
from tinynet.training.loading import network
from tinynet.training.progress import say
from tinynet.training.tensorboard import TensorBoard
from tinynet.training.trainer import Trainer

CHECKPOINTS = "checkpoints/step-*.safetensors"  # in a run's folder


def begin(args: SimpleNamespace) -> int:
    """A new run. Gives the exit code."""

    def work() -> None:
        with run_folder(args.out, args.data) as args.out:
            train(args)

    return ends_well(args, work)


def resume(given: dict[str, Any]) -> int:
    """A run that goes on. Gives the exit code."""
    args = SimpleNamespace(**given, given=set(given))
    return ends_well(args, lambda: train(*run_to_resume(args)))


def ends_well(args: SimpleNamespace, work: Callable[[], None]) -> int:
    """The exit code of a run, and on stderr a line about one that does not end well."""
    try:
        work()
    except KeyboardInterrupt as interrupt:
        before = "began: nothing is kept" if hasattr(args, "out") else "went on: the run is as it was"
        text = f"{interrupt}; {how_to_go_on(args)}" if str(interrupt) else f"interrupted before training {before}"
        say(text, error=True)
        return 130
    except Terminated as end:
        say(f"{end}; {how_to_go_on(args)}", error=True)
        return int(end.code or 0)
    except (OSError, ValueError, FloatingPointError, MemoryError, ImportError, DeviceError) as error:
        text = reason(error)
        if isinstance(error, OSError) and error.errno in DISK_FULL and list(folder_of(args).glob(CHECKPOINTS)):
            text += f"; the checkpoint before it is intact: then {how_to_go_on(args)}"
        return fail(text)
    return 0


def train(args: SimpleNamespace, checkpoint: Checkpoint | None = None) -> None:
    """Data, net, optimiser, loop: a new run, or with `checkpoint` one that goes on."""
    callbacks: list[Any] = [TensorBoard()] if args.tensorboard else []  # first of all: it may not be installed
    if checkpoint is None:
        check_net(args)  # before time is spent on pictures
        what_it_takes(args)

    train_set, val_set, fingerprints = pictures(args)
    num_classes = outputs(args, train_set)
    if checkpoint is None:
        config = describe(args, num_classes, fingerprints)
    else:
        config = config_of(checkpoint, args.data, fingerprints)
    mean, std = input_scale(args, train_set)
    devices = device_names(args.devices)
    options = {"seed": args.seed, "mean": mean, "std": std, "workers": args.workers, "device": devices[0]}
    train_loader = Loader(train_set, args.batch_size, view=training_view(args, train_set), **options)
    val_loader = Loader(val_set, args.batch_size, view=CentreCrop(args.image_size), shuffle=False, **options)

    model = network(args.model, args.preset, num_classes, train_set.channels, args.image_size, args.seed, devices)
    metadata = about_weights(args, config, train_set, mean, std)
    if args.pretrained and checkpoint is None:
        begin_with(args, model, metadata)
    freeze(model, args.freeze)
    model.set_precision(args.precision)

    optimizer = SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)
    schedule = learning_schedule(args.schedule, optimizer, config["epochs"])  # as planned, if there are more now

    announce(args, model, num_classes, train_loader, val_loader)
    callbacks += [*traces(args, model), RunPictures(train_set, val_set, train_loader, val_loader)]
    Trainer(
        model,
        optimizer,
        train_loader,
        val_loader,
        epochs=args.epochs,
        schedule=schedule,
        patience=args.patience,
        out=args.out,
        checkpoint_minutes=args.checkpoint_minutes,
        graph=args.graph,
        quiet=args.quiet,
        callbacks=callbacks,
        config=config,
        metadata=metadata,
    ).fit(resume=checkpoint)
    for line in () if args.quiet else what_next(args.out, other_commands()):
        say(line)
