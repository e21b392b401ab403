"""The parts of a run, each as its options say."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinynet import data, plots
from tinynet.cli.screen import name_skipped, warn
from tinynet.cli.values import slowed
from tinynet.data import Augment, CentreCrop, Dataset
from tinynet.data.names import PHOTOS
from tinynet.io.checkpoints import layer_names
from tinynet.layers import Layer
from tinynet.optim import SGD, MultiStepLR, ReduceLROnPlateau
from tinynet.parallel import Split
from tinynet.parallel.towers.timeline import STEP, Timeline, write_chrome_trace
from tinynet.training.preprocessing import pack_mean, stored_size
from tinynet.training.progress import say

COLOUR_NOISE = 0.1  # section 4.1
DROPS = 0.6, 0.85  # of the epochs, where --schedule step takes a tenth of the learning rate


def pictures(args: SimpleNamespace) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """(to learn from, to validate on, {"train": what tells this set from another, "validation": the same})."""
    if args.data_kind == PHOTOS:
        found = data.photos(args.data, size=stored_size(args.image_size), progress=not args.quiet, found=args.found)
        name_skipped(found.skipped)
        train_set, val_set, digest = found.train, found.validation, found.digest
    else:
        sizes = {"train_size": args.train_size, "validation_size": args.val_size, "image_size": args.image_size}
        train_set, val_set = data.load(args.data, args.data_dir, seed=args.seed, progress=not args.quiet, **sizes)
        digest = None
    fingerprints = {"train": [digest, *train_set.fingerprint()], "validation": [digest, *val_set.fingerprint()]}
    return train_set, val_set, json.loads(json.dumps(fingerprints))  # as a file gives them back


def outputs(args: SimpleNamespace, train_set: Dataset) -> int:
    """Of the net: the data's classes, or --num-classes if they are more."""
    classes = len(train_set.classes)
    if args.num_classes and args.num_classes < classes:
        raise ValueError(f"--num-classes: expected at least the data's {classes}, got {args.num_classes}")
    return args.num_classes or classes


class Trace:
    """A Trainer's callback that writes the timeline of a split model's third step: a Chrome trace, and a picture."""

    def __init__(self, model: Split, path: Path):
        self.model, self.path, self.picture = model, path, path.with_suffix(".png")
        self.timeline: Timeline | None = Timeline(model)
        model.recorder = self.timeline

    def __call__(self, trainer: Any, record: dict[str, Any]) -> None:
        if self.timeline is None or not (self.timeline.done or record["event"] == "final"):
            return
        spans, self.timeline, self.model.recorder = self.timeline.spans(), None, None
        if not spans:
            warn(f"the run ended before its step number {STEP}, of which --trace was to write: no {self.path}")
            return
        write_chrome_trace(spans, self.path)
        plots.save_figure(plots.timeline(spans), self.picture)
        if not trainer.quiet:
            say(f"trace  of step {STEP} in {self.path} and {self.picture}")


def traces(args: SimpleNamespace, model: Any) -> list[Trace]:
    """What --trace asks for. Raises ValueError for a net that is not split."""
    if not args.trace:
        return []
    if not isinstance(model, Split):
        raise ValueError(
            f"--trace: expected a run on several devices, got one on {args.devices}; add --devices cpu,cpu"
        )
    return [Trace(model, args.trace)]


def input_scale(args: SimpleNamespace, train_set: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std): of each channel; for the paper's net the mean picture, and 0-255 as they are (section 2)."""
    if args.model == "alexnet" and args.preset == "paper":
        # as float32, as which it is kept with the weights
        return data.mean_picture(train_set).astype(np.float32).astype(np.float64), np.full(train_set.channels, 1 / 255)
    return data.channel_statistics(train_set)


def training_view(args: SimpleNamespace, train_set: Dataset) -> CentreCrop | Augment:
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


def freeze(model: Layer, layers: list[str]) -> None:
    """Their parameters keep their values, learning rate 0; or learn at the rate's part that "conv2=0.1" says."""
    for layer, factor in map(slowed, layers):
        own = [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[0] == layer]
        if not own:
            known = layer_names(name for name, _ in model.named_parameters())
            raise ValueError(f"--freeze: expected layers out of {known}; got {layer!r}")
        for parameter in own:
            parameter.lr_mult = factor
    if all(parameter.lr_mult == 0 for parameter in model.parameters()):
        raise ValueError("--freeze: expected at least one layer that learns, got all of them")


def about_weights(
    args: SimpleNamespace, config: dict[str, Any], train_set: Dataset, mean: np.ndarray, std: np.ndarray
) -> dict[str, Any]:
    """For whoever uses them: the net, its input and classes, the pictures that it learned from; JSON can hold it."""
    return {
        **{"model": args.model, "preset": args.preset, "image_size": args.image_size},
        "stored_size": train_set.image_size[0],
        **{"in_channels": train_set.channels, "mean": pack_mean(mean), "std": std.tolist()},
        **{"num_classes": config["num_classes"], "classes": list(train_set.classes)},
        **{"data": config["data"], "data_dir": config.get("data_dir"), "fingerprints": config["fingerprints"]},
        **{name: getattr(args, name) for name in ("data_kind", "train_size", "val_size", "seed")},
    }
