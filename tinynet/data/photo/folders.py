"""Find the classes and picture files in a folder of photographs; nothing is decoded here."""

import contextlib
import itertools
import os
import stat
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tinynet.data.photo.cache import Source

# how people call the two halves, in upper or lower case; of several the first
TRAIN = ("train", "training", "train_set", "training_set")
VALIDATION = (
    *("val", "valid", "validate", "validation", "val_set", "validation_set", "dev", "eval"),
    *("test", "testing", "test_set"),
)
PARTS = ("train", "validation")
MAX_CLASSES = 65_536
LAYOUT = "expected one folder a class with its pictures inside, {}/CLASS/*.jpg, or train/CLASS and val/CLASS in it"
LEFTOVERS = ("@eaDir", "__MACOSX")  # what Synology and the Mac's zip leave beside pictures: small or empty copies
LOOSE, LEFTOVER = "not in a class's folder", "made by another program beside pictures"  # why something is skipped
JUNCTION = 0xA0000003  # Windows' other kind of link to a folder


@dataclass(eq=False)
class Found:
    """The set's classes and its files, by class and then by path: of each file what it is, its label, and its part,
    "train" or "validation", or "" if the folders do not say. `skipped`: paths that are no file to read, and why."""

    folder: Path
    classes: tuple[str, ...] = ()
    sources: list[Source] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def composed(name: str) -> str:
    """The name in one Unicode form (NFC): macOS may store ä as a and two dots."""
    return unicodedata.normalize("NFC", name)


def find_photos(folder: Path, least: int = 2, empty: bool = False) -> Found:
    """The classes and files of `folder`; `tinynet.data.photos` says where they are looked for. least: classes that are
    expected; with `empty`, a class may have no file.

    Raises FileNotFoundError or NotADirectoryError if there is no such folder, another OSError if it cannot be read,
    ValueError that says what to do for another layout, such as halves of unknown names, fewer than `least` classes or
    more than MAX_CLASSES, a class without files, one folder that is two classes, or classes that differ between train
    and validation, or from each other in case only.
    """
    found = Found(folder)
    names = _folders(found, "")
    train, validation = _half(names, TRAIN), _half(names, VALIDATION)
    if train and validation:
        found.skipped |= {name: f"not {train} or {validation}" for name in names if name not in (train, validation)}
        halves = {"train": train + "/", "validation": validation + "/"}
        classes = {part: _classes(found, half, _folders(found, half), least) for part, half in halves.items()}
        _check_same(found, halves, classes)
    elif names and all(name.casefold() in TRAIN + VALIDATION for name in names):
        remedy = f"give {folder / names[0]}"
        if least > 1:
            remedy = f"to hold out a share of its pictures {remedy}, else put train and val side by side"
        raise ValueError(f"photos: {LAYOUT.format(folder)}, got {' and '.join(names)} alone; {remedy}")
    else:
        _check_no_halves(folder, names)
        classes = {"": _classes(found, "", names, least)}
    _check_apart(folder, [path for paths in classes.values() for path in paths.values()])
    found.classes = tuple(sorted(next(iter(classes.values()))))
    files = []
    for part, paths in classes.items():
        for label, name in enumerate(found.classes):
            its = [(label, composed(source.path), source, part) for source in _files(found, paths[name])]
            if not its and not empty:
                got = f"none (it {found.skipped[paths[name]]})" if paths[name] in found.skipped else "none"
                raise ValueError(
                    f"photos: expected pictures in {folder / paths[name]}, got {got}; add some or remove it"
                )
            files += its
    files.sort()
    found.sources, found.parts = [file[2] for file in files], [file[3] for file in files]
    found.labels = [file[0] for file in files]
    return found


def check_readable(found: Found, labels: Container[int], skipped: Mapping[str, Sequence], part: str = "") -> None:
    """Raise ValueError unless every class is among `labels`, those of the part's pictures that can be read."""
    for label, name in enumerate(found.classes):
        if label not in labels:
            rows = zip(found.sources, found.labels, found.parts, strict=True)
            files = [source.path for source, its_label, its_part in rows if (its_label, its_part) == (label, part)]
            raise ValueError(
                f"photos: expected pictures that can be read in class {name!r}{part and ' of ' + part}, got "
                f"{len(files)} that cannot, such as {files[0]!r}: {skipped[files[0]][0]}; add pictures or remove the "
                f"class's folder"
            )


def _half(names: list[str], wanted: tuple[str, ...]) -> str:
    """The folder that is a half of the set, "" if none is."""
    return min((n for n in names if n.casefold() in wanted), key=lambda n: (wanted.index(n.casefold()), n), default="")


def _folders(found: Found, inside: str) -> list[str]:
    """The names of the folders in found.folder/inside, sorted; stops at too many."""
    names: list[str] = []
    try:
        for entry in _visible(found.folder / inside):
            path = inside + entry.name
            if not entry.is_dir():
                found.skipped[path] = LOOSE
            elif entry.name in LEFTOVERS:
                found.skipped[path] = LEFTOVER
            elif _is_link(entry) and _holds(entry.path, found.folder):
                found.skipped[path] = "a link to a folder that it lies in"
            else:
                names.append(entry.name)
            if len(names) > MAX_CLASSES:
                raise ValueError(
                    f"photos: expected at most {MAX_CLASSES:,} class folders in {found.folder / inside}, got more; has "
                    f"each picture a folder of its own? put pictures of one class into one"
                )
    except FileNotFoundError:
        raise FileNotFoundError(f"photos: {LAYOUT.format(found.folder)}, got nothing there") from None
    except NotADirectoryError:
        raise NotADirectoryError(f"photos: {LAYOUT.format(found.folder)}, got a file") from None
    return sorted(names)


def _classes(found: Found, inside: str, names: list[str], least: int) -> dict[str, str]:
    """{class: path of its folder}."""
    where, classes = found.folder / inside, {composed(name): inside + name for name in names}
    if len(names) < least:
        loose = sum(path.startswith(inside) and reason == LOOSE for path, reason in found.skipped.items())
        got = f"the one class {names[0]!r}: there is nothing to tell apart" if names else "an empty folder"
        if loose and not names:
            got = f"{loose:,} files without class folders; put those of a class into a folder with the class's name"
        raise ValueError(f"photos: {LAYOUT.format(where)}, got {got}")
    same: dict[str, str] = {}
    for name in names:
        other = same.setdefault(composed(composed(name).casefold()), name)
        if other != name:
            raise ValueError(
                f"photos: duplicate class names in {where}: {other!a} and {name!a} differ in upper and lower case "
                f"only, or in how Unicode spells them; rename one, or put their pictures together"
            )
    return classes


def _check_same(found: Found, halves: Mapping[str, str], classes: Mapping[str, Mapping[str, str]]) -> None:
    only = {part: sorted(classes[part].keys() - classes[other].keys()) for part, other in (PARTS, PARTS[::-1])}
    if any(only.values()):
        lists = [f"only in {halves[part]}: {', '.join(map(repr, only[part][:5]))}" for part in only if only[part]]
        more = sum(len(names[5:]) for names in only.values())
        raise ValueError(
            f"photos: expected the same class folders in both halves of {found.folder}, got {'; '.join(lists)}"
            f"{f' and {more:,} more' if more else ''}; rename, add or remove folders"
        )


def _check_no_halves(folder: Path, names: list[str]) -> None:
    """Raise ValueError if two of the folders have no pictures of their own and two or more folders of the same names:
    they may be two halves, or classes that are divided already; to mix all and hold out a share would be wrong. (One
    folder of the same name in each class, such as "images", says nothing.)"""
    first: dict[tuple[str, ...], str] = {}
    for name in names:
        inside = sorted(composed(inner).casefold() for inner in _only_folders(folder / name))
        for pair in itertools.combinations(inside[:12], 2):
            other = first.setdefault(pair, name)
            if other != name:
                raise ValueError(
                    f"photos: {LAYOUT.format(folder)}, got {other!r} and {name!r}, which both hold {pair[0]!r} and "
                    f"{pair[1]!r}; the names of two halves must be one of {', '.join(TRAIN)} and one of "
                    f"{', '.join(VALIDATION)}; if {other!r} and {name!r} are classes, put their pictures right into "
                    f"them, or give the folders inside different names"
                )


def _only_folders(folder: Path) -> list[str]:
    """The names of the folders in it; none if there are pictures too, by how their names end."""
    names, endings = [], Image.registered_extensions()
    with contextlib.suppress(OSError):  # what cannot be opened is told of where its pictures are looked for
        for entry in _visible(folder):
            if entry.is_dir():
                names.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in endings:
                return []
    return [name for name in names if name not in LEFTOVERS]


def _check_apart(folder: Path, paths: Sequence[str]) -> None:
    """Raise ValueError if a class's folder is, by way of links, another one's or inside of it."""
    real = sorted((os.path.join(os.path.normcase(os.path.realpath(folder / path)), ""), path) for path in paths)
    for (outer, one), (inner, other) in itertools.pairwise(real):
        if inner.startswith(outer):
            raise ValueError(
                f"photos: expected each class in a folder of its own, got {folder / one} and {folder / other}, which "
                f"links make one folder, or one inside the other; remove a link"
            )


def _files(found: Found, top: str) -> Iterator[Source]:
    """The files in found.folder/top and in the folders inside."""
    waiting = [top]
    while waiting:
        inside = waiting.pop()
        try:
            for entry in _visible(found.folder / inside):
                path = f"{inside}/{entry.name}"
                what = _look_at(entry, path)
                if isinstance(what, Source):
                    yield what
                elif what is None:
                    waiting.append(path)
                else:
                    found.skipped[path] = what
        except OSError as error:
            found.skipped[inside] = f"cannot be opened: {error.strerror}"


def _look_at(entry: os.DirEntry[str], path: str) -> Source | str | None:
    """The file; None for a folder, to look into; or why it is skipped."""
    try:
        if entry.is_dir(follow_symlinks=False) and not _is_link(entry):
            return LEFTOVER if entry.name in LEFTOVERS else None
        facts = entry.stat()
    except OSError as error:  # such as a link to nothing
        return f"cannot be looked at: {error.strerror}"
    if stat.S_ISREG(facts.st_mode):
        status = facts.st_ctime_ns if os.name == "posix" else 0  # on Windows st_ctime is when the file was made
        return Source(path, facts.st_size, facts.st_mtime_ns, status)
    return "a link to a folder, not followed" if stat.S_ISDIR(facts.st_mode) else "not a plain file"


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) == JUNCTION


def _holds(link: str, folder: Path) -> bool:
    inner, outer = (os.path.join(os.path.realpath(path), "") for path in (folder, link))
    return inner.startswith(outer)
