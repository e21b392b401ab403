"""What a new run begins with: a folder, settings, and perhaps weights of an earlier one."""

import contextlib
import importlib.metadata
import itertools
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import tinynet
from tinynet.cli.building import freeze
from tinynet.cli.defaults import GREY
from tinynet.cli.screen import reason
from tinynet.data.names import PHOTOS
from tinynet.io.checkpoints import layer_names, load_metadata, load_pretrained
from tinynet.io.files import cannot_write
from tinynet.layers import Layer
from tinynet.training.loading import network
from tinynet.training.progress import say
from tinynet.training.run_folder import LOG

LAST = "fc8"  # the layer that knows the classes


@contextlib.contextmanager
def run_folder(out: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run, made and found writable before time is spent; what was made is removed again if nothing
    came into it.

    Without `out` it is runs/NAME-N, N being the first free number. name: what --data says. Raises OSError if it cannot
    be written, or if it holds a run already; ValueError if it lies among the pictures.
    """
    folder = out or Path("runs")
    if out is not None and out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out: expected a folder, got {out}, which is a file; choose another folder")
    if Path(name).is_dir() and folder.resolve().is_relative_to(Path(name).resolve()):
        text = "the run's own pictures would be taken for photographs"
        raise ValueError(f"--out: expected a folder outside of {name}, got {folder}; {text}")
    made = []
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            made.append(folder)
        for n in itertools.count(1) if out is None else ():
            with contextlib.suppress(FileExistsError):
                folder = Path("runs", f"{Path(name).resolve().name}-{n}")
                folder.mkdir()
                made.append(folder)
                break
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error
    if (folder / LOG).exists():
        remedy = f"go on with that run by --resume {folder}, or give --out another"
        if not list(folder.glob("checkpoints/*.safetensors")):
            remedy = "that run has no checkpoint yet: give --out another, or, if it has ended, delete the folder"
        raise FileExistsError(f"expected a folder without a run, got {folder}, which holds {LOG}; {remedy}")
    try:
        yield folder
    finally:
        for empty in reversed(made):
            with contextlib.suppress(OSError):  # which it raises if the folder is not empty
                empty.rmdir()


def describe(args: SimpleNamespace, num_classes: int, fingerprints: dict[str, Any]) -> dict[str, Any]:
    """All settings, and what else decides the numbers that come out."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    del settings["given"], settings["found"]
    for name in ("data_dir", "pretrained"):  # a run may be resumed from another folder
        settings[name] = settings[name] and str(Path(settings[name]).resolve())
    if args.data_kind == PHOTOS:
        settings["data"] = str(Path(args.data).resolve())
    settings |= {"threads": tinynet.get_num_threads(), "versions": versions()}
    return settings | {"num_classes": num_classes, "fingerprints": fingerprints}


def versions() -> dict[str, str]:
    """What decides a run's last digits. numba is asked for its version without being imported; it may be missing."""
    numba = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        numba = {"numba": importlib.metadata.version("numba")}
    return {"python": platform.python_version(), "numpy": np.__version__, **numba, "tinynet": tinynet.__version__}


def check_net(args: SimpleNamespace) -> None:
    """Raises ValueError unless --freeze and --pretrained fit the net, whose last layer alone waits for the classes."""
    channels = 1 if args.data_kind in GREY else 3
    model = network(args.model, args.preset, 2, channels, args.image_size)
    freeze(model, args.freeze)
    if args.pretrained:
        about = {"model": args.model, "preset": args.preset, "in_channels": channels}
        take_weights(args, model, about | {"classes": "not known yet", "num_classes": 2})


def begin_with(args: SimpleNamespace, model: Layer, metadata: dict[str, Any]) -> None:
    """--pretrained. metadata: as these weights' own, of the net that is to be trained."""
    taken = take_weights(args, model, metadata)
    if not args.quiet:
        say(f"begin  with {layer_names(taken)} of {args.pretrained}")


def take_weights(args: SimpleNamespace, model: Layer, metadata: dict[str, Any]) -> list[str]:
    """All layers, but for the last one unless it knows the same classes. Gives the names of the parameters taken."""
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
