"""A run that was trained before, ready to be asked: its net, its weights, and what its pictures went through."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynet.io.checkpoints import load_metadata, load_pretrained, weights_path
from tinynet.layers.layer import Layer
from tinynet.models import PRESETS, alexnet, alexnet_mini
from tinynet.training.preprocessing import Preprocessing

if TYPE_CHECKING:
    from tinynet.training.predict import Predictions

NET = ("model", "preset", "num_classes", "in_channels", "image_size")  # of the metadata: what the net is
MODELS = ("alexnet", "alexnet_mini")


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """What `load_run` gives. path: of the weights file; model: the net, in evaluation mode; metadata: what the file
    tells, `tinynet.io.checkpoints.load_metadata`; preprocessing: from a picture to the net's x."""

    path: Path
    model: Layer
    metadata: dict[str, Any]
    preprocessing: Preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the net's outputs."""
        return self.preprocessing.classes

    def predict(
        self, images: Any, *, ten_crop: bool = False, batch_size: int = 64, unreadable: str = "raise"
    ) -> Predictions:
        """What the net says to the images; `tinynet.predict` tells what they may be."""
        from tinynet.training.predict import predict  # here, because it knows this class

        return predict(self, images, ten_crop=ten_crop, batch_size=batch_size, unreadable=unreadable)

    def __repr__(self) -> str:
        about, S = self.metadata, self.preprocessing.image_size
        net = about["model"] + (f" ({about['preset']})" if about.get("preset") else "")
        some = ", ".join(self.classes[:3]) + (", ..." if len(self.classes) > 3 else "")
        learned = ""
        if {"epoch", "data"} <= about.keys():
            learned = f", {about['epoch']} epoch{'s' * (about['epoch'] != 1)} of {about['data']}"
        classes = f"{len(self.classes)} classes ({some})"
        return f"LoadedRun({str(self.path)!r}: {net}, {self.preprocessing.in_channels} x {S} x {S}, {classes}{learned})"


def load_run(path: str | os.PathLike, *, devices: Sequence[str] = ("cpu",)) -> LoadedRun:
    """The net of a run of tinynet's program, with its weights: `load_run("runs/shapes-1").predict("photo.jpg")`.

    path: the run's folder, whose weights after the last epoch are taken, or its newest checkpoint before there are any;
    or a file, weights or a checkpoint. devices: ("cpu",), ("cuda:0",), or two, one for each tower.

    Raises FileNotFoundError if nothing is there, ValueError for a damaged file or one of another program, which does
    not say what net its weights belong to, and what `load_weights` and `models.alexnet` raise.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"expected a run's folder, a weights file or a checkpoint at {path}, got nothing there")
    file = weights_path(path)
    metadata = load_metadata(file)
    missing = [name for name in ("model", "num_classes") if name not in metadata]
    if missing:
        raise ValueError(
            f"{file}: expected weights that tinynet's program wrote, got others, whose net is not known (no "
            f"{', '.join(missing)} in their metadata); build the net, "
            "net.load_state_dict(tinynet.load_weights(path)), and use tinynet.predict(net, images, preprocessing=...)"
        )
    try:
        preprocessing = Preprocessing.of(metadata)
        model = build_net(metadata, (devices,) if isinstance(devices, str) else devices)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if metadata["num_classes"] < len(preprocessing.classes):
        got = f"{metadata['num_classes']} for {len(preprocessing.classes)} classes"
        raise ValueError(f"{file}: expected a net with an output for each class, got {got}: the metadata are damaged")
    load_pretrained(model, file)
    model.preprocessing = preprocessing
    return LoadedRun(file, model.eval(), metadata, preprocessing)


def first_device(model: Any) -> str:
    """The device on which the net wants its input: of one on several devices, the first."""
    return next(iter(getattr(model, "devices", ())), None) or model.device or "cpu"


def build_net(metadata: Mapping[str, Any], devices: Sequence[str]) -> Any:
    """A fresh net of the kind that the metadata tell. Raises ValueError for one that the library has not."""
    about: dict[str, Any] = {name: metadata.get(name) for name in NET}
    return network(**about, devices=devices)


def network(
    model: Any,
    preset: Any,
    num_classes: Any,
    in_channels: Any,
    image_size: Any,
    seed: int = 0,
    devices: Sequence[str] = ("cpu",),
) -> Any:
    """The net of a run, by its settings. Raises ValueError for an unknown one, and for grey pictures in alexnet."""
    if model not in MODELS:
        raise ValueError(f"expected a net out of {', '.join(MODELS)}; got {model!r}")
    numbers = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{model}: expected {name} as a whole number of at least 1, got {value!r}")
    if model == "alexnet_mini":
        return alexnet_mini(num_classes, in_channels, image_size, seed=seed, devices=devices)
    if preset not in PRESETS:
        raise ValueError(f"alexnet: expected a preset out of {', '.join(PRESETS)}; got {preset!r}")
    if in_channels != 3:
        raise ValueError(f"alexnet: expected pictures in colour, got {in_channels} channel; use --model alexnet_mini")
    return alexnet(str(preset), num_classes, seed=seed, devices=devices)
