"""The data sets that have names."""

import os

from tinynet.data.cifar import cifar10
from tinynet.data.dataset import Dataset
from tinynet.data.download import fetch
from tinynet.data.idx import fashion_mnist, mnist
from tinynet.data.names import NAMES, known_name
from tinynet.data.shapes import shapes

TRAIN_SIZE, VALIDATION_SIZE = 20_000, 2_000  # of shapes, if nothing else is asked for


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
    "cifar-10" in any usual spelling, read from data_dir; without data_dir `fetch` downloads them once. With sizes, the
    first so many pictures; None: all (of shapes 20,000 and 2,000).

    Raises ValueError for an unknown name or more pictures than there are, and what `shapes`, `read_idx`, `cifar10` and
    `fetch` raise.
    """
    known = known_name(name) if isinstance(name, str) else None
    if known is None:
        raise ValueError(f"load: expected one of {', '.join(NAMES)}; got {name!r}")
    if known == "shapes":
        train = shapes(TRAIN_SIZE if train_size is None else train_size, image_size, seed, "train")
        count = VALIDATION_SIZE if validation_size is None else validation_size
        return train, shapes(count, image_size, seed, "validation")
    folder = fetch(known, progress=progress) if data_dir is None else data_dir
    read = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar-10": cifar10}[known]
    train, validation = read("train", folder), read("validation", folder)
    return _first(train, train_size, "train_size"), _first(validation, validation_size, "validation_size")


def _first(pictures: Dataset, count: int | None, what: str) -> Dataset:
    if count is None:
        return pictures
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(pictures):
        raise ValueError(f"load: expected {what} to be a whole number in [1, {len(pictures)}], got {count!r}")
    return pictures.subset(slice(count))
