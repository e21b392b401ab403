"""Pictures to learn from: the built-in `shapes`, files of MNIST, Fashion-MNIST and CIFAR-10, and batches of them."""

import os

from tinynet.data.cifar import cifar10
from tinynet.data.dataset import Dataset
from tinynet.data.idx import fashion_mnist, mnist, read_idx
from tinynet.data.loader import Loader, channel_statistics
from tinynet.data.shapes import shapes

NAMES = ("shapes", "mnist", "fashion-mnist", "cifar-10")
TRAIN_SIZE, VALIDATION_SIZE = 20_000, 2_000  # of shapes, if nothing else is asked for

__all__ = [
    "NAMES",
    "Dataset",
    "Loader",
    "channel_statistics",
    "cifar10",
    "fashion_mnist",
    "load",
    "mnist",
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
) -> tuple[Dataset, Dataset]:
    """(train, validation) of the set `name`: "shapes", drawn with `seed` in image_size, or "mnist", "fashion-mnist" and
    "cifar-10", read from data_dir. With sizes, the first so many pictures; None: all (of shapes 20,000 and 2,000).

    Raises ValueError for an unknown name, a missing data_dir or more pictures than there are, and what `shapes`,
    `read_idx` and `cifar10` raise.
    """
    if name == "shapes":
        train = shapes(TRAIN_SIZE if train_size is None else train_size, image_size, seed, "train")
        count = VALIDATION_SIZE if validation_size is None else validation_size
        return train, shapes(count, image_size, seed, "validation")
    if name not in NAMES:
        raise ValueError(f"load: expected one of {', '.join(NAMES)}; got {name!r}")
    if data_dir is None:
        raise ValueError(f"load: expected data_dir, the folder of {name}'s files, got none")
    read = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar-10": cifar10}[name]
    train, validation = read("train", data_dir), read("validation", data_dir)
    return _first(train, train_size, "train_size"), _first(validation, validation_size, "validation_size")


def _first(pictures: Dataset, count: int | None, what: str) -> Dataset:
    if count is None:
        return pictures
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(pictures):
        raise ValueError(f"load: expected {what} to be a whole number in [1, {len(pictures)}], got {count!r}")
    return pictures.subset(slice(count))
