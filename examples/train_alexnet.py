"""Train an AlexNet. Without arguments: a small one on pictures that the program draws, so that no file is needed. With
--data FOLDER, a folder of class folders of your photographs: the paper's net.

A run's folder holds config.json, log.jsonl, weights.safetensors, checkpoints/ and pictures of what was learned, renewed
after each epoch; a picture that cannot be written is a warning only. Ctrl-C ends a run with everything kept, and
--resume goes on with it. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM.
"""

import argparse
import contextlib
import itertools
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from options import PHOTOS, parse_arguments

import tinynet
from tinynet import data
from tinynet.checkpoint import Checkpoint, layer_names, load_metadata, load_pretrained, read_checkpoint
from tinynet.data import Augment, CentreCrop, Dataset, Loader, TenCrop
from tinynet.errors import Terminated
from tinynet.evaluate import evaluate
from tinynet.files import atomic_write, cannot_write
from tinynet.layers import Sequential
from tinynet.models import alexnet, alexnet_mini
from tinynet.optim import SGD, MultiStepLR, ReduceLROnPlateau
from tinynet.plots import RunPictures
from tinynet.run_folder import LOG
from tinynet.train import Trainer

COLOUR_NOISE = 0.1  # section 4.1
DROPS = 0.6, 0.85  # of the epochs, where --schedule step takes a tenth of the learning rate
LAST = "fc8"  # the layer that knows the classes


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
        print(str(interrupt) or "interrupted before training began: nothing is kept", file=sys.stderr)
        return 130
    except Terminated as end:
        print(end, file=sys.stderr)
        return int(end.code or 0)
    except (OSError, ValueError, FloatingPointError, MemoryError, ImportError) as error:
        print(f"train_alexnet.py: error: {reason(error)}", file=sys.stderr)
        return 1
    return 0


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror  # the texts of tinynet's own name the file and need no [Errno 28]
    return str(error) or type(error).__name__


# the parts of a run


def pictures(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """(to learn from, to validate on)."""
    if args.data_kind != PHOTOS:
        sizes = {"train_size": args.train_size, "validation_size": args.val_size}
        return data.load(args.data, args.data_dir, seed=args.seed, image_size=args.image_size, progress=True, **sizes)
    found = data.photos(args.data, size=stored_size(args.image_size), progress=not args.quiet)
    for skipped in found.skipped[:10]:
        print(f"train_alexnet.py: warning: skipped {skipped.path}: {skipped.reason}", file=sys.stderr)
    if found.skipped:
        print(
            f"train_alexnet.py: warning: {len(found.skipped)} file{'s' * (len(found.skipped) > 1)} skipped in all",
            file=sys.stderr,
        )
    return found.train, found.validation


def stored_size(image_size: int) -> int:
    """Photographs are kept a little larger than the net's input, which crops are cut from: 256 for the paper's 224 (and
    for 227, see `alexnet`), and in that proportion."""
    return 256 if image_size == 227 else round(image_size * 256 / 224)


def network(model: str, preset: str | None, num_classes: int, in_channels: int, image_size: int, seed: int = 0) -> Any:
    if model == "alexnet_mini":
        return alexnet_mini(num_classes, in_channels, image_size, seed=seed)
    if in_channels != 3:
        raise ValueError(f"alexnet: expected pictures in colour, got {in_channels} channel; use --model alexnet_mini")
    return alexnet(str(preset), num_classes, seed=seed)


def input_scale(args: argparse.Namespace, train_set: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std): of each channel; for the paper's net the mean picture, and 0-255 as they are (section 2)."""
    if args.model == "alexnet" and args.preset == "paper":
        return data.mean_picture(train_set), np.full(train_set.channels, 1 / 255)
    return data.channel_statistics(train_set)


def training_view(args: argparse.Namespace, train_set: Dataset) -> CentreCrop | Augment:
    if args.augment == "none":
        return CentreCrop(args.image_size)
    padding = args.image_size // 8 if args.image_size == train_set.image_size[0] else 0
    if args.augment != "paper":
        return Augment(args.image_size, padding=padding, mirror=args.augment == "mirror")
    colour = data.colour_components(train_set)
    return Augment(args.image_size, padding=padding, mirror=True, colour_noise=COLOUR_NOISE, colour=colour)


def learning_schedule(name: str, optimizer: SGD, epochs: int) -> Any:
    if name == "step":
        return MultiStepLR(optimizer, [max(1, round(share * epochs)) for share in DROPS])
    return ReduceLROnPlateau(optimizer) if name == "plateau" else None


def freeze(model: Sequential, layers: list[str]) -> None:
    """Their parameters keep their values: learning rate 0."""
    for layer in layers:
        own = [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[0] == layer]
        if not own:
            known = layer_names(name for name, _ in model.named_parameters())
            raise ValueError(f"--freeze: expected layers out of {known}; got {layer!r}")
        for parameter in own:
            parameter.lr_mult = 0.0


# what the program does


def train(args: argparse.Namespace, checkpoint: Checkpoint | None = None) -> None:
    train_set, val_set = pictures(args)
    num_classes = args.num_classes or len(train_set.classes)
    if num_classes < len(train_set.classes):
        raise ValueError(f"--num-classes: expected at least the data's {len(train_set.classes)}, got {num_classes}")
    model = network(args.model, args.preset, num_classes, train_set.channels, args.image_size, args.seed)
    mean, std = input_scale(args, train_set)
    metadata = {
        **{"model": args.model, "preset": args.preset, "num_classes": num_classes, "classes": list(train_set.classes)},
        **{"in_channels": train_set.channels, "image_size": args.image_size, "std": std.tolist()},
        "mean": mean.tolist() if mean.ndim == 1 else None,  # a mean picture is made again from the training pictures
    }
    if args.pretrained and checkpoint is None:
        same_classes = load_metadata(args.pretrained).get("classes") == metadata["classes"]
        taken = load_pretrained(model, args.pretrained, replace=() if same_classes else (LAST,))
        if not args.quiet:
            print(f"begin  with {layer_names(taken)} of {args.pretrained}")
    freeze(model, args.freeze)
    options = {"seed": args.seed, "mean": mean, "std": std, "workers": args.workers}
    train_loader = Loader(train_set, args.batch_size, view=training_view(args, train_set), **options)
    val_loader = Loader(val_set, args.batch_size, view=CentreCrop(args.image_size), shuffle=False, **options)
    optimizer = SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)
    fingerprints = {"train": train_set.fingerprint(), "validation": val_set.fingerprint()}
    if checkpoint is None:
        config = describe(args) | {"num_classes": num_classes, "fingerprints": fingerprints}
        atomic_write(args.out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    else:
        config = checkpoint.state["config"]
        if config["fingerprints"] != fingerprints:
            raise ValueError(f"--resume: expected the pictures that the run began with, got others in {args.data}")
    if not args.quiet:
        size = " x ".join(map(str, train_set.images.shape[1:]))
        parameters = sum(parameter.size for parameter in model.parameters())
        name = args.model + (f" ({args.preset})" if args.preset else "")
        print(f"data   {args.data}: {len(train_set):,} pictures to learn from, {len(val_set):,} to validate on, {size}")
        print(
            f"net    {name}: {parameters:,} parameters, {num_classes} classes; {tinynet.get_num_threads()} CPU threads"
        )
        print(
            f"learn  {args.epochs} x {len(train_loader):,} steps of {args.batch_size} pictures, from rate {args.lr:g}"
        )
        print(f"write  to {args.out}", flush=True)
    callbacks: list[Any] = [RunPictures(train_set, val_set, train_loader, val_loader)]
    if args.tensorboard:
        from tinynet.tensorboard import TensorBoard

        callbacks.append(TensorBoard())
    Trainer(
        model,
        optimizer,
        train_loader,
        val_loader,
        epochs=args.epochs,
        schedule=learning_schedule(args.schedule, optimizer, config["epochs"]),
        patience=args.patience,
        out=args.out,
        checkpoint_minutes=args.checkpoint_minutes,
        quiet=args.quiet,
        callbacks=callbacks,
        config=config,
        metadata=metadata,
    ).fit(resume=checkpoint)


def go_on(args: argparse.Namespace) -> None:
    """--resume: the run's own settings, from its checkpoint, and what was given besides."""
    checkpoint = read_checkpoint(args.resume)
    settings = dict(checkpoint.state["config"])
    for name in ("data_dir", "pretrained"):
        settings[name] = settings[name] and Path(settings[name])
    settings |= {"out": checkpoint.path.parent.parent, "quiet": False, "tensorboard": False} | vars(args)
    train(argparse.Namespace(**settings), checkpoint)


def measure(args: argparse.Namespace) -> None:
    """--evaluate: the error of one net, or of several nets' mean, on the validation pictures."""
    about = [load_metadata(path) for path in args.evaluate]
    for path, found in zip(args.evaluate, about, strict=True):
        if "model" not in found:
            raise ValueError(f"{path}: expected weights that this program wrote, got others: the net is not known")
        differing = [key for key in ("image_size", "classes", "in_channels") if found[key] != about[0][key]]
        if differing:
            raise ValueError(
                f"{path}: expected the same {' and '.join(differing)} as in {args.evaluate[0]}, got others"
            )
    args.image_size, args.model, args.preset = (about[0][key] for key in ("image_size", "model", "preset"))
    train_set, val_set = pictures(args)
    if list(val_set.classes) != about[0]["classes"]:
        raise ValueError(
            f"--evaluate: expected the classes of the weights, {about[0]['classes']}, got {val_set.classes}"
        )
    view = TenCrop(args.image_size) if args.ten_crop else CentreCrop(args.image_size)
    batch_size = max(1, args.batch_size // view.views)
    nets, scales = [], set()
    for path, found in zip(args.evaluate, about, strict=True):
        nets.append(network(*(found[key] for key in ("model", "preset", "num_classes", "in_channels", "image_size"))))
        load_pretrained(nets[-1], path)
        scales.add(json.dumps([found["mean"], found["std"]]))
    if len(scales) > 1:
        raise ValueError(
            "--evaluate: expected nets trained on the same pictures, got ones whose input has another scale"
        )
    mean, std = about[0]["mean"], about[0]["std"]
    loader = Loader(
        val_set,
        batch_size,
        shuffle=False,
        view=view,
        mean=data.mean_picture(train_set) if mean is None else mean,
        std=std,
        workers=args.workers,
    )
    result = evaluate(nets, loader)
    crops = "ten crops" if args.ten_crop else "centre crop"
    print(
        f"{len(val_set):,} pictures, {len(nets)} net{'s' * (len(nets) > 1)}, {crops}: top-1 error "
        f"{result.top1_error:.2%}, top-5 error {result.top5_error:.2%}, loss {result.loss:.4f}"
    )


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """All settings, and what else decides the numbers that come out."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    for name in ("data_dir", "pretrained"):  # a run may be resumed from another folder
        settings[name] = settings[name] and str(Path(settings[name]).resolve())
    if args.data_kind == PHOTOS:
        settings["data"] = str(Path(args.data).resolve())
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
                made, folder = True, Path("runs", f"{Path(name).resolve().name}-{n}")
                folder.mkdir()
                break
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error
    if (folder / LOG).exists():
        raise FileExistsError(
            f"expected a folder without a run, got {folder}, which holds {LOG}; give --out another, or go on with that "
            f"run by --resume {folder}"
        )
    try:
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):  # which it raises if the folder is not empty
                folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
