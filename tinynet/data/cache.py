"""Decoded pictures of one size in files that are mapped into memory, made anew whenever the picture files change.

A cache is a folder with one .npy file a part ("train", "validation"), uint8 (N, 3, size, size), and index.json, which
says what was decoded. It is built in a temporary folder and gets its place by one renaming, so what stands there is
whole. Nothing in it is executed, and it is only used if the index is intact and says exactly what is asked for, and
the files begin with the right header and have the right length; else it is made again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
INDEX = "index.json"
UNFINISHED = ".unfinished"  # what the name of a build's temporary folder ends in
ABANDONED = 3600  # seconds without a sign of life after which such a folder belongs to a program that was killed
# what an index of another program, or another version, may cause
NOT_OURS = (OSError, ValueError, TypeError, LookupError, AttributeError)


class Source(NamedTuple):
    """A picture file: path from the set's folder with "/", length in bytes, time of its last change in ns. All three
    tell whether it is still the same."""

    path: str
    length: int
    changed: int


Parts = Mapping[str, Sequence[int]]  # of each part, the numbers of its sources, ascending
Skips = dict[str, tuple[str, bool]]  # by path: why it gives no picture, and whether that is lasting


@dataclass(frozen=True, eq=False)
class Request:
    """What a cache is to hold: each source in `folder`, as a square of `size`, in the part that `divide` says.

    divide(skips) gives the parts, as dict of lists; it may raise ValueError, which ends the build.
    `facts` is whatever JSON can hold: what the labels and parts depend on apart from the sources.
    """

    folder: Path
    size: int
    sources: Sequence[Source]
    facts: Mapping[str, Any]
    divide: Callable[[Mapping[str, Sequence]], Parts]

    def identity(self) -> dict[str, Any]:
        """What makes a cache the one that is asked for."""
        sources = [list(source) for source in self.sources]
        return {"version": VERSION, "size": self.size, "facts": self.facts, "sources": sources}


@dataclass(frozen=True, eq=False)
class Cache:
    """Read-only maps of the parts, (N, 3, size, size), the numbers of their sources, the skipped paths with their
    reasons, and those of them that may be read another time."""

    images: Mapping[str, np.ndarray]
    rows: Parts
    skipped: Mapping[str, str]
    try_again: Sequence[str]


def find_cache(place: Path, request: Request) -> tuple[Path, Cache] | None:
    """The cache in the folder `place` that is whole and holds what is asked for, and its own folder. Of several, which
    programs at work at the same time may have left, all programs choose the same."""
    found = (entry for folder in caches_in(place) if (entry := _opened(folder, request)) is not None)
    return min(found, key=lambda entry: (len(entry[1].try_again), entry[0]), default=None)


def _opened(folder: Path, request: Request) -> tuple[Path, Cache] | None:
    with contextlib.suppress(*NOT_OURS):
        return folder, open_cache(folder, request)
    return None


def caches_in(place: Path) -> list[Path]:
    """The finished caches in `place`."""
    with contextlib.suppress(OSError):
        return sorted(folder for folder in place.iterdir() if folder.is_dir() and folder.suffix != UNFINISHED)
    return []


def read_index(folder: Path) -> dict[str, Any]:
    """The index of the cache in `folder`. Raises OSError if it cannot be read, ValueError if it is damaged or of
    another version."""
    digest, _, text = (folder / INDEX).read_bytes().partition(b"\n")
    if digest != _digest(text):
        raise ValueError(f"{folder / INDEX}: the check sum is wrong")
    index = json.loads(text)
    if index["version"] != VERSION:
        raise ValueError(f"{folder / INDEX}: expected version {VERSION}, got {index['version']!r}")
    return index


def write_index(folder: Path, request: Request, rows: Parts, skipped: Skips) -> None:
    """What `read_index` reads: a line with the check sum of the rest, and the rest in JSON."""
    index = request.identity() | {"rows": rows, "skipped": skipped}
    text = json.dumps(index).encode()
    with open(folder / INDEX, "wb") as file:
        file.write(_digest(text) + b"\n" + text)
        file.flush()
        os.fsync(file.fileno())


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of a .npy file, format 1.0, of a uint8 array in C order; whatever N is, they stay 128."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def open_cache(folder: Path, request: Request) -> Cache:
    """The cache in `folder`. Raises one of NOT_OURS unless it is whole and holds what is asked for."""
    index = read_index(folder)
    for what, value in request.identity().items():
        if index[what] != value:
            raise ValueError(f"{folder}: {what} has changed")
    rows = request.divide(index["skipped"])
    if index["rows"] != rows:
        raise ValueError(f"{folder}: expected other pictures in its parts")
    images = {}
    for part in rows:
        path, shape = folder / f"{part}.npy", (len(rows[part]), 3, request.size, request.size)
        with open(path, "rb") as file:
            header = npy_header(shape)
            if file.read(len(header)) != header or file.seek(0, os.SEEK_END) != len(header) + np.prod(shape):
                raise ValueError(f"{path}: not the array that the index describes")
        images[part] = np.memmap(path, np.uint8, "r", len(header), shape)
    reasons = {path: reason for path, (reason, _) in index["skipped"].items()}
    return Cache(images, rows, reasons, [path for path, (_, lasting) in index["skipped"].items() if not lasting])


def remove_others(place: Path, keep: Path) -> None:
    """Remove all caches but one; on Windows not while a program has them mapped."""
    for folder in caches_in(place):
        if folder != keep:
            with contextlib.suppress(OSError):
                # renamed first: a cache that lost some of its files would be worse than one too many
                away = folder.with_name(folder.name + UNFINISHED)
                os.rename(folder, away)
                shutil.rmtree(away)


def remove_abandoned(place: Path) -> None:
    """Remove what killed builds have left."""
    with contextlib.suppress(OSError):
        for folder in place.glob(f"*{UNFINISHED}"):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder)
