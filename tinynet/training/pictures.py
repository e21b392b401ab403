"""What somebody may ask a net about: paths, folders, Pillow images, arrays, data sets, batches."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tinynet.backend.threads import get_num_threads
from tinynet.data.dataset import Dataset
from tinynet.data.loader import ahead
from tinynet.data.photo.album import Skipped
from tinynet.data.photo.decode import PictureError, readable_formats
from tinynet.data.photo.folders import LEFTOVERS
from tinynet.training.preprocessing import Preprocessing

Batches = Iterable[tuple[Any, Any]]  # or what has epoch(number), which gives them
KINDS = (
    "a picture's path, a folder, a Pillow image, a list of these, an array (uint8 (N, C, H, W) or (C, H, W), or float "
    "(N, C, H, W) as the net gets it), a Dataset, a Loader or batches (x, labels)"
)


def recognised(images: Any, batch_size: int) -> Pictures | Dataset | Batches:
    """What `tinynet.predict` may get. Raises TypeError for anything else, ValueError for an array of another shape,
    FileNotFoundError for a folder without pictures."""
    if isinstance(images, Dataset) or hasattr(images, "epoch"):
        return images
    if isinstance(images, np.ndarray):
        return _recognised_array(images, batch_size)
    if _is_picture(images):
        return Pictures(_with_folders([images]))
    if not isinstance(images, Iterable):
        raise TypeError(f"predict: expected images as {KINDS}; got {type(images).__name__}")
    iterator = iter(images)
    first = next(iterator, None)
    if first is None:
        raise ValueError("predict: expected at least one picture, got none")
    if _is_picture(first):
        return Pictures(_with_folders([first, *iterator]))
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise TypeError(f"predict: expected images as {KINDS}; got a {type(images).__name__} of {type(first).__name__}")
    return itertools.chain([first], iterator)


def picture_files(folder: Path) -> list[Path]:
    """The files in it and in the folders inside whose names end as a picture's, sorted; hidden ones are left out.
    Raises FileNotFoundError if there is none."""
    formats = readable_formats()  # which loads all that Pillow knows
    endings = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    found: list[Path] = []
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in LEFTOVERS]
        found += [Path(above, name) for name in files if not name.startswith(".")]
    found = sorted(path for path in found if path.suffix.lower() in endings)
    if not found:
        raise FileNotFoundError(f"expected picture files in {folder}, such as *.jpg or *.png, got none")
    return found


class Pictures:
    """Pictures to be read: each a path, a Pillow image or an array. `kept` are the numbers of those that could be read
    so far, `skipped` the others."""

    def __init__(self, items: Sequence[Any]):
        self.items = items
        self.kept: list[int] = []
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        return len(self.items)

    def paths(self) -> tuple[Path | None, ...] | None:
        """Of those that were kept; None if no picture is a file."""
        if not any(map(_is_path, self.items)):
            return None
        return tuple(Path(self.items[i]) if _is_path(self.items[i]) else None for i in self.kept)

    def batches(self, preprocessing: Preprocessing, skip: bool, options: dict[str, Any]) -> Generator:
        """As full as those of a set that holds the readable pictures alone. options: of `Preprocessing.loader`. Raises
        PictureError unless `skip`."""
        size = preprocessing.pictures_a_batch(options["batch_size"], options["ten_crop"])
        with contextlib.closing(self._read(preprocessing, skip)) as pixels:
            while some := list(itertools.islice(pixels, size)):
                pictures = Dataset(np.stack(some), np.zeros(len(some), np.int64), preprocessing.classes)
                yield from preprocessing.loader(pictures, **options).epoch(0)

    def _read(self, preprocessing: Preprocessing, skip: bool) -> Generator[np.ndarray, None, None]:
        """In threads, a few ahead."""

        def read(i: int) -> np.ndarray | PictureError:
            item = self.items[i]
            try:
                return preprocessing.read(item) if _is_path(item) else preprocessing.picture(item)
            except PictureError as error:
                return error

        with contextlib.closing(ahead(read, range(len(self.items)), get_num_threads())) as answers:
            for i, answer in enumerate(answers):
                if not isinstance(answer, PictureError):
                    self.kept.append(i)
                    yield answer
                elif skip:
                    self.skipped.append(Skipped(answer.path, answer.reason))
                else:
                    raise answer


def _is_path(one: Any) -> bool:
    return isinstance(one, (str, os.PathLike))


def _is_picture(one: Any) -> bool:
    return _is_path(one) or isinstance(one, (Image.Image, np.ndarray))


def _recognised_array(array: np.ndarray, batch_size: int) -> Pictures | Batches:
    if not array.size:
        raise ValueError(f"predict: expected at least one picture, got an array of shape {array.shape}")
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return Pictures(list(array) if array.ndim == 4 else [array])
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 4:
        parts = (array[start : start + batch_size] for start in range(0, len(array), batch_size))
        return ((part, np.zeros(len(part), np.int64)) for part in parts)
    raise ValueError(
        f"predict: expected pixels, uint8 (N, C, H, W) or (C, H, W), or what the net gets, floats (N, C, H, W); got "
        f"{array.dtype} {array.shape}"
    )


def _with_folders(items: Sequence[Any]) -> list[Any]:
    """The items, with the picture files of each folder in its place."""
    found: list[Any] = []
    for item in items:
        if not _is_picture(item):
            raise TypeError(f"predict: expected each of the images as a path, an image or an array, got {item!r:.80}")
        found += picture_files(Path(item)) if _is_path(item) and Path(item).is_dir() else [item]
    return found
