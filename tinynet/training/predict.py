"""What nets say to pictures: the same numbers that evaluation computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinynet.data.dataset import Dataset
from tinynet.layers.layer import Layer
from tinynet.training.evaluate import predict_parts
from tinynet.training.loading import LoadedRun, first_device
from tinynet.training.pictures import Pictures, recognised
from tinynet.training.predictions import Predictions
from tinynet.training.preprocessing import Preprocessing

UNREADABLE = ("raise", "skip")


def predict(
    model: Any,
    images: Any,
    *,
    preprocessing: Preprocessing | None = None,
    ten_crop: bool = False,
    batch_size: int = 64,
    unreadable: str = "raise",
) -> Predictions:
    """The probabilities of the classes for each of the images, the same numbers that evaluation computes.

    model: a `LoadedRun` (`tinynet.load_run`) or its model, which know their preprocessing; another Layer; or a list of
    these, whose probabilities are averaged. images: a picture file's path; a folder, whose picture files, also in
    folders inside, are taken in the order of their paths; a Pillow image; a list of these; pixels, uint8 (N, C, H, W)
    or (C, H, W); a Dataset. For these a model that does not know its preprocessing needs `preprocessing`. Or what is
    prepared already: floats (N, C, H, W), a Loader, of which epoch 0 is read, or any iterable of batches (x, labels).
    Of a large JPEG give the path: it is then decoded at a part of its size, as evaluation does; what Pillow has opened
    is decoded whole, and its pixels differ a little.

    ten_crop: average over the corners, the centre and their mirrored copies instead of the centre alone. batch_size:
    crops that go through the net at a time. Batches of other sizes may change the last bits of a probability.
    unreadable: "raise", or "skip" files that are no picture and name them in the result's `skipped`.

    Raises PictureError, a ValueError, for a file that is no picture; FileNotFoundError for a folder without any;
    ValueError for another unfit value, such as nets of different preprocessing or classes; TypeError for another kind
    of model or images, and what `tinynet.training.evaluate.predict` does.
    """
    models, known = _models(model)
    preprocessing = known if preprocessing is None else preprocessing
    if unreadable not in UNREADABLE:
        raise ValueError(f"predict: expected unreadable as 'raise' or 'skip', got {unreadable!r}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"predict: expected batch_size as a whole number of at least 1, got {batch_size!r}")
    asked = recognised(images, int(batch_size))
    batches: Any = asked
    if isinstance(asked, (Pictures, Dataset)):
        if preprocessing is None:
            raise ValueError(
                "predict: expected a model that knows how pictures become its input, got one that does not; use "
                "tinynet.load_run(path), or pass preprocessing=tinynet.training.preprocessing.Preprocessing(...)"
            )
        device = first_device(models[0])
        options: dict[str, Any] = {"batch_size": int(batch_size), "ten_crop": ten_crop, "device": device}
        if isinstance(asked, Dataset):  # whose labels may be of other classes: nobody looks at them
            unlabelled = Dataset(asked.images, np.zeros(len(asked), np.int64), preprocessing.classes)
            batches = preprocessing.loader(unlabelled, **options)
        else:
            batches = asked.batches(preprocessing, unreadable == "skip", options)
    elif ten_crop:
        raise ValueError("predict: expected ten_crop for pictures, got it for batches, which are cropped already")
    classes = () if preprocessing is None else preprocessing.classes
    try:
        with contextlib.closing(batches) if isinstance(asked, Pictures) else contextlib.nullcontext():
            probabilities = np.concatenate([rows for rows, _ in predict_parts(models, batches)])
    except ValueError:
        if not isinstance(asked, Pictures) or asked.kept or not asked.skipped:
            raise
        probabilities = np.empty((0, len(classes)))  # all were skipped
    if isinstance(asked, Pictures):
        return Predictions(probabilities, classes, asked.paths(), tuple(asked.skipped))
    return Predictions(probabilities, classes)


def _models(model: Any) -> tuple[list[Layer], Preprocessing | None]:
    """The nets, and the preprocessing that they share."""
    given = [model] if isinstance(model, (Layer, LoadedRun)) else model
    if not isinstance(given, Iterable):
        raise TypeError(f"predict: expected a Layer, a LoadedRun or a list of these, got {type(model).__name__}")
    models = [one.model if isinstance(one, LoadedRun) else one for one in given]
    if not models:
        raise ValueError("predict: expected a model or a list of at least one, got an empty list")
    for one in models:
        if not isinstance(one, Layer):
            raise TypeError(f"predict: expected models that are a Layer or a LoadedRun, got {type(one).__name__}")
    known = [one.preprocessing for one in models if one.preprocessing is not None]
    for other in known[1:]:
        if names := known[0].differences(other):
            raise ValueError(
                "predict: expected nets that see pictures alike and know the same classes, got some that differ in "
                f"{', '.join(names)}; predict with each alone"
            )
    return models, known[0] if known else None
