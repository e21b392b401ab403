"""MNIST and Fashion-MNIST, from their original IDX files.

An IDX file is big-endian: two zero bytes, a byte for the type (8: uint8), a byte with the number of axes, the length of
each axis in four bytes, and the values in C order. (LeCun, Cortes, Burges: The MNIST database.)
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from tinynet.data.dataset import Dataset

Split = Literal["train", "validation"]

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "validation": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
    ),
}  # fmt: skip
GZIP = b"\x1f\x8b"
CHUNK = 1 << 20
MOST_VALUES = 1 << 28  # 342,392 pictures of 28x28, five times MNIST: a gzip file of 260 kB can hold as many zeros


def mnist(split: Split, data_dir: str | os.PathLike) -> Dataset:
    """MNIST's 60,000 "train" or 10,000 "validation" digits, 28x28, grey; see `read_split` for data_dir and errors."""
    return read_split("mnist", split, data_dir)


def fashion_mnist(split: Split, data_dir: str | os.PathLike) -> Dataset:
    """Fashion-MNIST's 60,000 "train" or 10,000 "validation" pictures, 28x28, grey; see `read_split`."""
    return read_split("fashion-mnist", split, data_dir)


def read_split(name: str, split: Split, data_dir: str | os.PathLike) -> Dataset:
    """One half of the set `name`. data_dir holds the files, as .gz or unpacked, or a folder `name` that does.

    Raises FileNotFoundError, with the places it looked, if one is missing, and ValueError for a damaged file, for
    pictures that are not 28x28, or unless there are as many labels as pictures.
    """
    if split not in FILES:
        raise ValueError(f"{name}: expected split to be one of {', '.join(FILES)}; got {split!r}")
    image_path, label_path = (find_file(name, file, data_dir) for file in FILES[split])
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        raise ValueError(f"{image_path}: expected pictures of shape (N, 28, 28), got {images.shape}")
    if labels.shape != (len(images),):
        raise ValueError(f"{label_path}: expected {len(images)} labels, one a picture, got shape {labels.shape}")
    try:
        return Dataset(images[:, None], labels.astype(np.int64), CLASSES[name])
    except ValueError as error:
        raise ValueError(f"{label_path}: {error}") from None


def find_file(name: str, file: str, data_dir: str | os.PathLike) -> Path:
    """The path of `file` in data_dir or data_dir/name, with or without .gz."""
    folder = Path(data_dir)
    places = [place / (file + ending) for place in (folder, folder / name) for ending in (".gz", "")]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{name}: expected the file {file}.gz in {folder} or {folder / name}, found none; --data-dir takes the folder "
        f"that holds {name}'s four original files, or its parent"
    )


def read_idx(path: str | os.PathLike, *, most: int = MOST_VALUES) -> np.ndarray:
    """The uint8 array of an IDX file, gzip-compressed or not, of at most `most` values (bytes).

    Raises ValueError, naming the file, what was expected and what is there, for a file that is empty, cut short, too
    long, damaged, above `most`, or of another format; OSError if it cannot be read. Never holds more than the file
    really contains.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if not packed:
                return _read(raw, path, most)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(unpacked, path, most)  # type: ignore[arg-type]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a whole gzip file, got a damaged one ({error}); take another copy"
        ) from error


def _read(file: BinaryIO, path: str | os.PathLike, most: int) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not 1 <= head[3] <= 4:
        raise ValueError(
            f"{path}: expected an IDX file of uint8 values, which begins with the bytes 0, 0, 8 and 1 to 4, got "
            f"{head!r}; is it another file, or a web page?"
        )
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError(f"{path}: expected the lengths of {head[3]} axes, got only {len(sizes)} bytes of them")
    shape = struct.unpack(f">{head[3]}I", sizes)
    if 0 in shape:
        raise ValueError(
            f"{path}: expected axes of at least one value, got a header with shape {shape}; is it damaged?"
        )
    expected = math.prod(shape)
    if expected > most:
        raise ValueError(
            f"{path}: expected at most {most:,} values, got a header that promises {expected:,}, shape {shape}; if "
            f"that is right, read_idx(path, most={expected}) reads it"
        )
    values = bytearray()  # grows with what is there: the header may promise anything
    while chunk := file.read(CHUNK):
        values += chunk
        if len(values) > expected:
            raise ValueError(
                f"{path}: expected {expected:,} values for shape {shape}, got more; is the header damaged?"
            )
    if len(values) < expected:
        raise ValueError(f"{path}: expected {expected:,} values for shape {shape}, got {len(values):,}: cut short")
    return np.frombuffer(values, np.uint8).reshape(shape)
