"""The files of a cache that hold the pixels: one .npy file a part, uint8 (N, 3, size, size)."""

import os
import zlib
from pathlib import Path
from typing import Self

import numpy as np

SAMPLE = 64  # pictures of a part whose check sum is looked at


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of a .npy file, format 1.0, of a uint8 array in C order; whatever N is, they stay 128."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def map_part(folder: Path, part: str, count: int, size: int) -> np.ndarray:
    """The part's file as a read-only map. Raises OSError or ValueError unless it is one of `count` pictures."""
    path, shape = folder / f"{part}.npy", (count, 3, size, size)
    with open(path, "rb") as file:
        header = npy_header(shape)
        if file.read(len(header)) != header or file.seek(0, os.SEEK_END) != len(header) + np.prod(shape):
            raise ValueError(f"{path}: not the array that the index describes")
    return np.memmap(path, np.uint8, "r", len(header), shape)


def check_sum(images: np.ndarray) -> int:
    """The CRC-32 of SAMPLE pictures, spread evenly over all."""
    crc = 0
    for i in sorted({k * (len(images) - 1) // (SAMPLE - 1) for k in range(SAMPLE)} if len(images) else ()):
        crc = zlib.crc32(images[i], crc)
    return crc


class PartWriter:
    """Writes a part's file; `rows` are the numbers of the pictures that are in it. After an exception, Ctrl-C too, the
    file holds those that were whole.

    Not through a map: on a full disk that kills the process, and writing gives an error.
    """

    def __init__(self, path: Path, size: int):
        self.shape, self.rows = (3, size, size), list[int]()
        self.file = path.open("xb")
        self.file.write(npy_header((0, *self.shape)))

    def append(self, number: int, pixels: bytes) -> None:
        self.file.write(pixels)
        self.rows.append(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with self.file:
            header = npy_header((len(self.rows), *self.shape))
            self.file.truncate(len(header) + len(self.rows) * int(np.prod(self.shape)))
            self.file.seek(0)
            self.file.write(header)
            self.file.flush()
            os.fsync(self.file.fileno())
