"""A folder of photographs, in one folder a class, becomes two data sets that are mapped into memory, or one."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinynet.data.dataset import Dataset
from tinynet.data.folders import cache_folder
from tinynet.data.photo.cache import Cache, Request
from tinynet.data.photo.cache_build import open_or_build
from tinynet.data.photo.folders import PARTS, Found, check_readable, composed, find_photos

ALL = "all"  # the one part of a set that is not divided


@dataclass(frozen=True)
class Skipped:
    """A file or folder that gave no picture, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Photos:
    """What `photos` returns; the images of both sets are read-only maps of files, (N, 3, size, size).

    `digest` changes with the picture files and with their division: the SHA-256, in hexadecimal digits, of each file's
    path from the folder, length, time of the last change, and part. A folder that was moved, or copied with its times,
    has the same.
    """

    train: Dataset
    validation: Dataset
    skipped: tuple[Skipped, ...]
    digest: str


@dataclass(frozen=True, eq=False)
class AllPhotos:
    """What `all_photos` returns; the fields are as those of `Photos`, but for one set instead of two."""

    dataset: Dataset
    skipped: tuple[Skipped, ...]
    digest: str


def photos(
    folder: str | os.PathLike,
    *,
    size: int = 256,
    val_share: float = 0.2,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = False,
    found: Found | None = None,
) -> Photos:
    """The pictures in folder/CLASS/*, or in folder/train/CLASS/* and folder/val/CLASS/* (validation or test will do),
    each scaled and cropped to size x size pixels as `tinynet.data.photo.decode.fit` does.

    Pictures in folders inside of a class's folder count too; hidden ones do not, nor folders named @eaDir or __MACOSX,
    and links to folders are not followed below the classes. Classes are in the order of their names as Python sorts
    them, pictures by class and then by path. Without a folder train, the first round(val_share * n) of each class's n
    pictures, at least one and not all, become the validation set, in the order of the SHA-256 of their paths from
    `folder`: on every machine the same ones.

    Decoded pictures are kept in a cache (see `tinynet.data.photo.cache`), in cache_dir or else `cache_folder()`, and
    decoded again when a file changes. With progress, a bar on stderr if that is a terminal. Files that are no picture
    or have a side under 8 pixels are named in `skipped`. `found`: what `find_photos(folder)` gave, if it was looked
    through just before.

    Raises FileNotFoundError or NotADirectoryError if there is no such folder; ValueError for another layout, such as
    halves of unknown names, fewer than two classes, a class without enough pictures that can be read, one folder as
    two classes, classes whose names differ in case only, other classes in val than in train, size outside of
    [8, 1024], val_share outside of (0, 1); OSError if the cache cannot be written.
    """
    _check_size("photos", size)
    if isinstance(val_share, bool) or not isinstance(val_share, (int, float, np.number)) or not 0 < val_share < 1:
        raise ValueError(f"photos: expected val_share to be a number above 0 and below 1, got {val_share!r}")
    folder = Path(folder)
    found = found or find_photos(folder)
    root = _caches(folder, cache_dir)
    share = float(val_share) if not any(found.parts) else None
    facts = {"classes": list(found.classes), "labels": found.labels, "parts": found.parts, "val_share": share}
    request = Request(folder, int(size), found.sources, facts, lambda skipped: _divide(found, share, skipped))
    cache = open_or_build(root / _place(folder, int(size)), request, progress)
    labels = np.array(found.labels, np.int64)
    train, validation = (Dataset(cache.images[part], labels[cache.rows[part]], found.classes) for part in PARTS)
    return Photos(train, validation, _skipped(found, cache), _digest(found, cache))


def all_photos(
    folder: str | os.PathLike,
    *,
    size: int = 256,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = False,
) -> AllPhotos:
    """Every picture of a folder as `photos` takes it, in one set: to measure a net on all of them. Of a folder with
    halves, train and val, these are the pictures of both.

    A class may have a single picture or none, and one class is enough. The cache is one of its own, so that the one
    that `photos` made of the same folder stays as it is; what is decoded there already is copied.

    Raises what `photos` does, ValueError if no picture of the folder can be read.
    """
    _check_size("all_photos", size)
    folder = Path(folder)
    found = find_photos(folder, least=1, empty=True)
    root = _caches(folder, cache_dir)
    facts = {"classes": list(found.classes), "labels": found.labels, "parts": found.parts, "val_share": 1.0}
    request = Request(folder, int(size), found.sources, facts, lambda skipped: {ALL: _readable(found, skipped)})
    place = root / _place(folder, int(size))
    cache = open_or_build(place.with_name(f"{place.name}-{ALL}"), request, progress, beside=place)
    labels = np.array(found.labels, np.int64)[cache.rows[ALL]]
    return AllPhotos(Dataset(cache.images[ALL], labels, found.classes), _skipped(found, cache), _digest(found, cache))


def _check_size(where: str, size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 8 <= size <= 1024:
        raise ValueError(f"{where}: expected size to be a whole number in [8, 1024], got {size!r}")


def _caches(folder: Path, cache_dir: str | os.PathLike | None) -> Path:
    """The folder of all caches of photographs."""
    root = (Path(cache_dir) if cache_dir is not None else cache_folder()) / "photos"
    if any(above.exists() and above.samefile(folder) for above in Path(os.path.realpath(root)).parents):
        raise ValueError(f"photos: expected a cache_dir outside of the pictures' folder, got {root.parent}")
    return root


def _skipped(found: Found, cache: Cache) -> tuple[Skipped, ...]:
    skipped = [Skipped(found.folder / path, reason) for path, reason in {**found.skipped, **cache.skipped}.items()]
    return tuple(sorted(skipped, key=lambda entry: entry.path))


def _readable(found: Found, skipped: Mapping[str, Sequence]) -> list[int]:
    readable = [i for i, source in enumerate(found.sources) if source.path not in skipped]
    if not readable:
        first = next(iter(found.sources), None)
        such = f" that cannot, such as {first.path!r}: {skipped[first.path][0]}" if first else ""
        text = f"expected pictures that can be read in {found.folder}, got {len(found.sources)}{such}"
        raise ValueError(f"photos: {text}")
    return readable


def _digest(found: Found, cache: Cache) -> str:
    part_of = {i: part for part, numbers in cache.rows.items() for i in numbers}
    rows = [[composed(s.path), s.length, s.changed, part_of.get(i, "")] for i, s in enumerate(found.sources)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _place(folder: Path, size: int) -> str:
    path = os.path.realpath(folder)
    digest = hashlib.sha256(os.path.normcase(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9]+', '-', os.path.basename(path))[:40]}-{digest}-{size}"


def _divide(found: Found, share: float | None, skipped: Mapping[str, Sequence]) -> dict[str, list[int]]:
    """The numbers of the files in each part, ascending; share None: the parts are those of the folders."""
    readable = [i for i, source in enumerate(found.sources) if source.path not in skipped]
    if share is None:
        parts = {part: [i for i in readable if found.parts[i] == part] for part in PARTS}
        for part, numbers in parts.items():
            check_readable(found, {found.labels[i] for i in numbers}, skipped, part)
        return parts
    by_class: dict[int, list[int]] = {}
    for i in readable:
        by_class.setdefault(found.labels[i], []).append(i)
    check_readable(found, by_class, skipped)
    held_out: set[int] = set()
    for label, numbers in by_class.items():
        if len(numbers) < 2:
            raise ValueError(
                f"photos: expected at least 2 pictures that can be read in class {found.classes[label]!r}, one to "
                f"learn from and one to hold out, got 1; add pictures or remove the class's folder"
            )
        count = min(max(1, round(share * len(numbers))), len(numbers) - 1)
        held_out |= set(sorted(numbers, key=lambda i: _rank(found.sources[i].path))[:count])
    return {"train": [i for i in readable if i not in held_out], "validation": sorted(held_out)}


def _rank(path: str) -> bytes:
    return hashlib.sha256(composed(path).encode("utf-8", "surrogateescape")).digest()
