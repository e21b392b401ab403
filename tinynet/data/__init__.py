"""Pictures to learn from: the built-in `shapes`, files of MNIST, Fashion-MNIST and CIFAR-10, and batches of them."""

import os

from tinynet.data.cifar import cifar10
from tinynet.data.dataset import Dataset
from tinynet.data.idx import fashion_mnist, mnist, read_idx
from tinynet.data.loader import Loader, channel_statistics
from tinynet.data.shapes import shapes

NAMES = ("shapes", "mnist", "fashion-mnist", "cifar-10")
TRAIN_SIZE, VALIDATION_SIZE = 20_000, 2_000  # of shapes

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
    train_size: int = TRAIN_SIZE,
    validation_size: int = VALIDATION_SIZE,
) -> tuple[Dataset, Dataset]:
    """(train, validation) of the set `name`: "shapes", drawn with `seed` in the sizes given, or "mnist",
    "fashion-mnist" and "cifar-10", read from data_dir, where seed and sizes mean nothing.

    Raises ValueError for an unknown name or a missing data_dir, and what `shapes` and `read_idx` raise.
    """
    if name == "shapes":
        return shapes(train_size, image_size, seed, "train"), shapes(validation_size, image_size, seed, "validation")
    if name not in NAMES:
        raise ValueError(f"load: expected one of {', '.join(NAMES)}; got {name!r}")
    if data_dir is None:
        raise ValueError(f"load: expected data_dir, the folder of {name}'s files, got none; give --data-dir DIR")
    read = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar-10": cifar10}[name]
    return read("train", data_dir), read("validation", data_dir)
