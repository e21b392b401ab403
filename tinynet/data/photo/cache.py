"""Decoded pictures of one size in files that are mapped into memory, made anew whenever the picture files change.

A cache is a folder with one .npy file a part ("train", "validation"), uint8 (N, 3, size, size), and index.json, which
says what was decoded. It is built in a temporary folder and gets its place by one renaming, so what stands there is
whole. Nothing in it is executed, and it is only used if the index is intact and says exactly what is asked for, the
files begin with the right header and have the right length, and a sample of their pictures has the right check sum;
else it is made again.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

from tinynet.data.photo.cache_parts import check_sum, map_part
from tinynet.data.photo.decode import readable_formats
from tinynet.io.files import atomic_write
from tinynet.io.locks import FileLock, Timeout

VERSION = 2
INDEX = "index.json"
UNFINISHED = ".unfinished"  # what the name of a build's temporary folder ends in
LOCK = "lock"  # the file in it that is locked while the build goes on
ABANDONED = 3600  # seconds without a sign of life, or a lock, after which the program that made it was killed
USED = "used."  # what the name of a file begins with that says which computer has used the cache, and when
DAY = 86_400  # seconds
# what an index of another program, or another version, may cause
NOT_OURS = (OSError, ValueError, TypeError, LookupError, AttributeError)


class Source(NamedTuple):
    """A picture file: path from the set's folder with "/", length in bytes, time of its last change in ns, and, where
    the system knows it (not on Windows), when its length, name, rights or anything else last changed, in ns.

    Together they tell whether it is still the same. So files that are swapped, or written over and given the old time
    again, are noticed, though not on Windows, and copying files, renaming them or changing their rights makes them new.
    (The number of the inode says no more, and on some network drives is another after each mount.)
    """

    path: str
    length: int
    changed: int
    status: int = 0


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
    reasons, and those of them that may give a picture now: the reason was not lasting, or Pillow is another one."""

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
    return [folder for folder in _folders(place) if folder.suffix != UNFINISHED]


def _folders(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder for folder in place.iterdir() if folder.is_dir())
    return []


def reader() -> str:
    """What reads the picture files: what it cannot read, another one may."""
    formats = ",".join(sorted(readable_formats()))
    return f"Pillow {PIL.__version__}, formats {hashlib.sha256(formats.encode()).hexdigest()[:16]}"


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
    sums = {part: check_sum(map_part(folder, part, len(rows[part]), request.size)) for part in rows}
    index = request.identity() | {"rows": rows, "skipped": skipped, "reader": reader(), "sums": sums}
    text = json.dumps(index).encode()
    atomic_write(folder / INDEX, _digest(text) + b"\n" + text)


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
    images = {part: map_part(folder, part, len(rows[part]), request.size) for part in rows}
    if index["sums"] != {part: check_sum(images[part]) for part in rows}:
        raise ValueError(f"{folder}: the pictures are not those that were written")
    reasons = {path: reason for path, (reason, _) in index["skipped"].items()}
    other = index["reader"] != reader()
    return Cache(images, rows, reasons, [path for path, (_, last) in index["skipped"].items() if other or not last])


def note_use(folder: Path) -> None:
    """Leave word that this computer uses the cache in `folder`, if that can be written."""
    with contextlib.suppress(OSError):
        (folder / _mark()).touch()


def _mark() -> str:
    return USED + re.sub("[^A-Za-z0-9-]", "-", platform.node())[:100]


def _used_elsewhere(folder: Path) -> bool:
    """Another computer has used it in the last day: on a network drive, to remove it would stop a program there."""
    marks = (path for path in folder.glob(USED + "*") if path.name != _mark())
    return any(time.time() - mark.stat().st_mtime < DAY for mark in marks)


def remove_others(place: Path, keep: Path) -> None:
    """Remove all caches but one and those in use on other computers; on Windows not while a program has them mapped."""
    for folder in caches_in(place):
        with contextlib.suppress(OSError):
            if folder != keep and not _used_elsewhere(folder):
                # renamed first: a cache that lost some of its files would be worse than one too many
                away = folder.with_name(folder.name + UNFINISHED)
                os.rename(folder, away)
                shutil.rmtree(away)


@contextlib.contextmanager
def at_work(aside: Path) -> Iterator[None]:
    """While inside, `remove_abandoned` of no program takes the folder `aside`, whatever clocks say; on a file system
    without locks only its age protects it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(aside / LOCK, timeout=0))
        yield


def remove_abandoned(place: Path) -> None:
    """Remove what killed builds have left."""
    for folder in _folders(place):
        with contextlib.suppress(OSError):
            old = time.time() - folder.stat().st_mtime > ABANDONED
            if folder.suffix == UNFINISHED and old and not _in_work(folder):
                shutil.rmtree(folder)


def _in_work(aside: Path) -> bool:
    try:
        with FileLock(aside / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # no locks here: the age alone tells
        return False
