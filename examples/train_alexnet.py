"""Train an AlexNet. Without arguments: a small one on pictures that the program draws, so that no file is needed. With
--data FOLDER, a folder of class folders of your photographs: the paper's net.

A run's folder holds config.json, log.jsonl, weights.safetensors, checkpoints/ and pictures of what was learned, renewed
after each epoch; a picture that cannot be written is a warning only. Ctrl-C ends a run with everything kept, and
--resume goes on with it. Exit codes: 0 done, 1 failed, 2 wrong usage; ended with everything kept: 130 by Ctrl-C, 143 by
SIGTERM, 129 by closing the terminal.
"""

import argparse
import contextlib
import itertools
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from options import COMMON, PHOTOS, data_kind, device_names, parse_arguments
from parts import (
    Trace,
    crossing,
    freeze,
    input_scale,
    learning_schedule,
    network,
    pack_mean,
    pictures,
    training_view,
    unpack_mean,
    where_it_computes,
)

import tinynet
from tinynet.checkpoint import Checkpoint, layer_names, load_metadata, load_pretrained, read_checkpoint
from tinynet.data import CentreCrop, Loader, TenCrop
from tinynet.device import checked_device
from tinynet.errors import DeviceError, Terminated
from tinynet.evaluate import evaluate
from tinynet.files import DISK_FULL, atomic_write, cannot_write
from tinynet.layers import Layer
from tinynet.ops.precision import check_precision_on
from tinynet.optim import SGD
from tinynet.parallel import Split
from tinynet.plots import RunPictures, save_figure, towers
from tinynet.progress import say
from tinynet.run_folder import LOG
from tinynet.train import Trainer

CHECKPOINTS = "checkpoints/step-*.safetensors"  # in a run's folder
LAST = "fc8"  # the layer that knows the classes
GREY = ("mnist", "fashion-mnist")  # sets of pictures of one channel
NEEDED = {
    "data",
    "data_kind",
    "model",
    "preset",
    "num_classes",
    "classes",
    "in_channels",
    "image_size",
    "mean",
    "std",
    "fingerprints",
}


def main() -> int:
    args = parse_arguments(__doc__ or "")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder's name may hold what the screen cannot show
    try:
        if getattr(args, "evaluate", None):
            measure(args)
        elif getattr(args, "resume", None):
            go_on(args)
        else:
            with run_folder(args.out, args.data) as args.out:
                train(args)
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
        say(f"train_alexnet.py: error: {text}", error=True)
        return 1
    return 0


def folder_of(args: argparse.Namespace) -> Path:
    """The run's; with --resume the path may be that of a checkpoint in it."""
    path: Path = getattr(args, "resume", None) or args.out or Path()
    return path.resolve().parent.parent if path.is_file() else path


def how_to_go_on(args: argparse.Namespace) -> str:
    return f"go on with: {shlex.join([sys.executable, sys.argv[0], '--resume', str(folder_of(args))])}"


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror  # the texts of tinynet's own name the file and need no [Errno 28]
    return str(error) or type(error).__name__


def train(args: argparse.Namespace, checkpoint: Checkpoint | None = None) -> None:
    callbacks: list[Any] = []
    if args.tensorboard:  # first of all: it may not be installed
        from tinynet.tensorboard import TensorBoard

        callbacks.append(TensorBoard())
    if checkpoint is None:
        check_net(args)  # before time is spent on pictures
    train_set, val_set, fingerprints = pictures(args)
    num_classes = args.num_classes or len(train_set.classes)
    if num_classes < len(train_set.classes):
        raise ValueError(f"--num-classes: expected at least the data's {len(train_set.classes)}, got {num_classes}")
    devices = device_names(args.devices)
    model = network(args.model, args.preset, num_classes, train_set.channels, args.image_size, args.seed, devices)
    mean, std = input_scale(args, train_set)
    metadata = {
        **{"model": args.model, "preset": args.preset, "num_classes": num_classes, "classes": list(train_set.classes)},
        **{"in_channels": train_set.channels, "image_size": args.image_size, "fingerprints": fingerprints},
        **{"mean": pack_mean(mean), "std": std.tolist()},
        **{name: getattr(args, name) for name in ("data_kind", "train_size", "val_size", "seed")},
    }
    if checkpoint is None:
        config = describe(args) | {"num_classes": num_classes, "fingerprints": fingerprints}
        if args.pretrained:
            taken = begin_with(args, model, metadata)
            if not args.quiet:
                say(f"begin  with {layer_names(taken)} of {args.pretrained}")
    else:
        config = checkpoint.state["config"]
        if config["fingerprints"] != json.loads(json.dumps(fingerprints)):
            raise ValueError(f"--resume: expected the pictures that the run began with, got others in {args.data}")
    metadata["data"] = config["data"]
    freeze(model, args.freeze)
    model.set_precision(args.precision)
    options = {"seed": args.seed, "mean": mean, "std": std, "workers": args.workers, "device": devices[0]}
    train_loader = Loader(train_set, args.batch_size, view=training_view(args, train_set), **options)
    val_loader = Loader(val_set, args.batch_size, view=CentreCrop(args.image_size), shuffle=False, **options)
    optimizer = SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)
    if checkpoint is None:
        atomic_write(args.out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    if len(set(devices)) > 1 and "cpu" in devices:
        text = "one tower on the CPU: the numbers are the same, but the GPU will mostly wait for it"
        say(f"train_alexnet.py: warning: {text}", error=True)
    if not args.quiet:
        size = " x ".join(map(str, train_set.images.shape[1:]))
        parameters = sum(parameter.size for parameter in model.parameters())
        name = args.model + (f" ({args.preset})" if args.preset else "")
        steps = f"{args.epochs} x {len(train_loader):,} steps of {args.batch_size} pictures"
        say(f"data   {args.data}: {len(train_set):,} pictures to learn from, {len(val_set):,} to validate on, {size}")
        say(f"net    {name}: {parameters:,} parameters, {num_classes} classes; {where_it_computes(model)}")
        if isinstance(model, Split):
            crossed = crossing(model, train_set.channels, args.image_size)
            each = ", ".join(f"{layer} {nbytes:,}" for layer, nbytes in crossed.items())
            total = sum(crossed.values())
            say(f"cross  {total:,} bytes a picture ({each}), {total * args.batch_size:,} a step, from tower to tower")
        say(f"learn  {steps}, from rate {args.lr:g}")
        say(f"write  to {args.out}")
    if isinstance(model, Split):
        save_figure(towers(model, (train_set.channels, args.image_size, args.image_size)), args.out / "towers.png")
        if args.trace:
            callbacks.append(Trace(model, args.trace))
    elif args.trace:
        raise ValueError(
            f"--trace: expected a run on several devices, got one on {args.devices}; add --devices cpu,cpu"
        )
    callbacks.append(RunPictures(train_set, val_set, train_loader, val_loader))
    Trainer(
        model,
        optimizer,
        train_loader,
        val_loader,
        epochs=args.epochs,
        schedule=learning_schedule(args.schedule, optimizer, config["epochs"]),  # as planned, if there are more now
        patience=args.patience,
        out=args.out,
        checkpoint_minutes=args.checkpoint_minutes,
        graph=args.graph,
        quiet=args.quiet,
        callbacks=callbacks,
        config=config,
        metadata=metadata,
    ).fit(resume=checkpoint)


def check_net(args: argparse.Namespace) -> None:
    """Raises ValueError unless --freeze and --pretrained fit the net, whose last layer alone waits for the classes."""
    channels = 1 if args.data_kind in GREY else 3
    model = network(args.model, args.preset, 2, channels, args.image_size)
    freeze(model, args.freeze)
    if args.pretrained:
        about = {"model": args.model, "preset": args.preset, "in_channels": channels}
        begin_with(args, model, about | {"classes": "not known yet", "num_classes": 2})


def begin_with(args: argparse.Namespace, model: Layer, metadata: dict[str, Any]) -> list[str]:
    """--pretrained: all layers, but for the last one unless it knows the same classes. The names of the parameters."""
    try:
        found = load_metadata(args.pretrained)
        for key in ("model", "preset", "in_channels"):
            if key in found and found[key] != metadata[key]:
                raise ValueError(
                    f"{args.pretrained}: expected weights whose {key} is {metadata[key]}, got {found[key]}; the "
                    "options of this run say what the net is, --model among them"
                )
        same = all(found.get(key) == metadata[key] for key in ("classes", "num_classes"))
        return load_pretrained(model, args.pretrained, replace=() if same else (LAST,))
    except (OSError, ValueError) as error:
        raise ValueError(f"--pretrained: {reason(error)}") from error


def go_on(args: argparse.Namespace) -> None:
    """--resume: the run's own settings, from its checkpoint, and what was given besides."""
    if not args.resume.exists():
        raise FileNotFoundError(f"--resume: expected a run's folder or a checkpoint, got {args.resume}: nothing there")
    checkpoint = read_checkpoint(args.resume)
    config = checkpoint.state.get("config")
    if (
        not isinstance(config, dict)
        or not {"data", "data_kind", "model", "epochs", "fingerprints", "versions"} <= config.keys()
    ):
        raise ValueError(f"{checkpoint.path}: expected a run that this program began, got another's; use Trainer.fit")
    settings = (
        COMMON
        | config
        | {
            "epochs": checkpoint.state.get("epochs", config["epochs"]),
            "quiet": False,
            "tensorboard": False,
            "trace": None,
        }
    )
    settings |= {"out": checkpoint.path.resolve().parent.parent} | vars(args)
    places = device_names(settings["devices"])
    try:
        for where in places:
            checked_device(where)
            check_precision_on(where, settings["precision"])
    except DeviceError as error:
        raise DeviceError(f"--resume: the run was on {settings['devices']}: {error}; --devices says another") from error
    if not settings["devices"].isdecimal() and "graph" not in args.given:
        settings["graph"] = False  # a run of one GPU goes on elsewhere
    if set(places) == {"cpu"} and settings["precision"] != "fp32":
        text = f"the run was in {settings['precision']}; on the CPU it goes on in float32"
        say(f"train_alexnet.py: warning: {text}", error=True)
    for name in ("data_dir", "pretrained"):
        settings[name] = settings[name] and Path(settings[name])
    if data_kind(settings["data"]) != config["data_kind"]:
        raise ValueError(
            f"--resume: expected the run's pictures at {settings['data']}, got nothing there; if they were moved, say "
            "where to by --data"
        )
    for name, then in config["versions"].items():
        if versions().get(name) != then:
            text = f"the run had {name} {then} and has {versions().get(name)} now: its numbers may differ in their last"
            say(f"train_alexnet.py: warning: {text} digits", error=True)
    if settings["schedule"] == "step" and settings["epochs"] > config["epochs"]:
        text = (
            "the learning rate stays where the schedule planned at first left it; to learn much more, begin a new run "
        )
        text += "with --pretrained"
        say(f"train_alexnet.py: warning: {text}", error=True)
    train(argparse.Namespace(**settings), checkpoint)


def measure(args: argparse.Namespace) -> None:
    """--evaluate: the error of one net, or of several nets' mean, on the validation pictures."""
    about = [load_metadata(path) for path in args.evaluate]
    first = about[0]
    for path, found in zip(args.evaluate, about, strict=True):
        if not found.keys() >= NEEDED:
            raise ValueError(f"{path}: expected weights that this program wrote, got others: the net is not known")
        for key in ("image_size", "classes", "in_channels", "mean", "std"):
            if found[key] != first[key]:
                got = f"{found[key]}, not {first[key]}" if key == "image_size" else "others"
                raise ValueError(f"{path}: expected the same {key} as in {args.evaluate[0]}, got {got}")
    args.image_size, args.model, args.preset = (first[key] for key in ("image_size", "model", "preset"))
    if args.data_kind == first["data_kind"]:  # the same pictures as in training, unless told otherwise
        for name in {"train_size", "val_size", "seed"} - args.given:
            setattr(args, name, first[name])
    _, val_set, fingerprints = pictures(args)
    if list(val_set.classes) != first["classes"]:
        text = f"expected pictures of the classes that the net knows, {first['classes']}, got {val_set.classes}"
        raise ValueError(f"--evaluate: {text}; it was trained on {first['data']}: give --data")
    if any(json.loads(json.dumps(fingerprints)) != found["fingerprints"] for found in about):
        text = "these are not the pictures of the training run: it may have learned from some of them"
        say(f"train_alexnet.py: warning: {text}", error=True)
    nets = []
    for path, found in zip(args.evaluate, about, strict=True):
        what = {key: found[key] for key in ("model", "preset", "num_classes", "in_channels", "image_size")}
        nets.append(network(**what, devices=device_names(args.devices)))
        load_pretrained(nets[-1], path)
        nets[-1].set_precision(args.precision)
    view = TenCrop(args.image_size) if args.ten_crop else CentreCrop(args.image_size)
    scale = {"mean": unpack_mean(first["mean"]), "std": first["std"]}
    batch_size = max(1, args.batch_size // view.views)
    there = {"workers": args.workers, "device": device_names(args.devices)[0]}
    result = evaluate(nets, Loader(val_set, batch_size, shuffle=False, view=view, **there, **scale))
    top5 = f", top-5 error {result.top5_error:.2%}" if first["num_classes"] > 5 else ""  # of fewer it is always 0
    say(
        f"{len(val_set):,} pictures, {len(nets)} net{'s' * (len(nets) > 1)}, "
        f"{'ten crops' if args.ten_crop else 'centre crop'}: top-1 error {result.top1_error:.2%}{top5}, "
        f"loss {result.loss:.4f}"
    )


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """All settings, and what else decides the numbers that come out."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    del settings["given"]
    for name in ("data_dir", "pretrained"):  # a run may be resumed from another folder
        settings[name] = settings[name] and str(Path(settings[name]).resolve())
    if args.data_kind == PHOTOS:
        settings["data"] = str(Path(args.data).resolve())
    return {**settings, "threads": tinynet.get_num_threads(), "versions": versions()}


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "tinynet": tinynet.__version__,
    }


@contextlib.contextmanager
def run_folder(out: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run, made and found writable before time is spent; removed again if nothing came into it.

    Without `out` it is runs/NAME-N, N being the first free number. Raises OSError if it cannot be written, or if it
    holds a run already.
    """
    folder = out or Path("runs")
    if out is not None and out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out: expected a folder, got {out}, which is a file; choose another folder")
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1) if out is None else ():
            with contextlib.suppress(FileExistsError):
                made, folder = True, Path("runs", f"{Path(name).resolve().name}-{n}")
                folder.mkdir()
                break
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error
    if (folder / LOG).exists():
        remedy = f"go on with that run by --resume {folder}, or give --out another"
        if not list(folder.glob("checkpoints/*.safetensors")):
            remedy = "that run ended before its first checkpoint: delete the folder, or give --out another"
        raise FileExistsError(f"expected a folder without a run, got {folder}, which holds {LOG}; {remedy}")
    try:
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):  # which it raises if the folder is not empty
                folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
