"""Pictures to learn from: the built-in `shapes`; MNIST, Fashion-MNIST and CIFAR-10; folders of photographs; and batches
of them, augmented or not."""

import os

from tinynet.data.augment import Augment, CentreCrop, TenCrop, colour_components
from tinynet.data.cifar import cifar10
from tinynet.data.dataset import Dataset
from tinynet.data.download import fetch
from tinynet.data.folders import cache_folder
from tinynet.data.idx import fashion_mnist, mnist, read_idx
from tinynet.data.loader import Loader
from tinynet.data.photo.album import photos
from tinynet.data.shapes import shapes
from tinynet.data.statistics import channel_statistics, mean_picture

NAMES = ("shapes", "mnist", "fashion-mnist", "cifar-10")
TRAIN_SIZE, VALIDATION_SIZE = 20_000, 2_000  # of shapes, if nothing else is asked for

__all__ = [
    "NAMES",
    "Augment",
    "CentreCrop",
    "Dataset",
    "Loader",
    "TenCrop",
    "cache_folder",
    "channel_statistics",
    "cifar10",
    "colour_components",
    "fashion_mnist",
    "fetch",
    "load",
    "mean_picture",
    "mnist",
    "photos",
    "read_idx",
    "shapes",
]


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    image_size: int = 32,
    train_size: int | None = None,
    validation_size: int | None = None,
    progress: bool = False,
) -> tuple[Dataset, Dataset]:
    """(train, validation) of the set `name`: "shapes", drawn with `seed` in image_size, or "mnist", "fashion-mnist" and
    "cifar-10", read from data_dir; without data_dir `fetch` downloads them once. With sizes, the first so many
    pictures; None: all (of shapes 20,000 and 2,000).

    Raises ValueError for an unknown name or more pictures than there are, and what `shapes`, `read_idx`, `cifar10` and
    `fetch` raise.
    """
    if name == "shapes":
        train = shapes(TRAIN_SIZE if train_size is None else train_size, image_size, seed, "train")
        count = VALIDATION_SIZE if validation_size is None else validation_size
        return train, shapes(count, image_size, seed, "validation")
    if name not in NAMES:
        raise ValueError(f"load: expected one of {', '.join(NAMES)}; got {name!r}")
    folder = fetch(name, progress=progress) if data_dir is None else data_dir
    read = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar-10": cifar10}[name]
    train, validation = read("train", folder), read("validation", folder)
    return _first(train, train_size, "train_size"), _first(validation, validation_size, "validation_size")


def _first(pictures: Dataset, count: int | None, what: str) -> Dataset:
    if count is None:
        return pictures
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(pictures):
        raise ValueError(f"load: expected {what} to be a whole number in [1, {len(pictures)}], got {count!r}")
    return pictures.subset(slice(count))
