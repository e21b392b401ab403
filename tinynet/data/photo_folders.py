"""Find the classes and picture files in a folder of photographs; nothing is decoded here."""

import os
import stat
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tinynet.data.cache import Source

# how people call the two halves, in upper or lower case; of several the first
TRAIN = ("train", "training", "train_set", "training_set")
VALIDATION = ("val", "valid", "validation", "val_set", "validation_set", "test", "testing", "test_set")
PARTS = ("train", "validation")
MAX_CLASSES = 65_536
LAYOUT = "expected one folder a class with its pictures inside, {}/CLASS/*.jpg, or train/CLASS and val/CLASS in it"
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


def find_photos(folder: Path) -> Found:
    """The classes and files of `folder`; `tinynet.data.photos` says where they are looked for.

    Raises FileNotFoundError or NotADirectoryError if there is no such folder, another OSError if it cannot be read,
    ValueError that says what to do for another layout, fewer than two classes or more than MAX_CLASSES, a class without
    files, or classes that differ between train and validation, or from each other in case only.
    """
    found = Found(folder)
    names = _folders(found, "")
    train, validation = _half(names, TRAIN), _half(names, VALIDATION)
    if train and validation:
        found.skipped |= {name: f"not {train} or {validation}" for name in names if name not in (train, validation)}
        halves = {"train": train + "/", "validation": validation + "/"}
        classes = {part: _classes(found, half, _folders(found, half)) for part, half in halves.items()}
        _check_same(found, halves, classes)
    elif names and all(name.casefold() in TRAIN + VALIDATION for name in names):
        raise ValueError(
            f"photos: {LAYOUT.format(folder)}, got {' and '.join(names)} alone; to hold out a share of its pictures "
            f"give {folder / names[0]}, else put train and val side by side"
        )
    else:
        classes = {"": _classes(found, "", names)}
    found.classes = tuple(sorted(next(iter(classes.values()))))
    files = []
    for part, paths in classes.items():
        for label, name in enumerate(found.classes):
            its = [(label, composed(source.path), source, part) for source in _files(found, paths[name])]
            if not its:
                raise ValueError(
                    f"photos: expected pictures in {folder / paths[name]}, got none; add some or remove it"
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
                found.skipped[path] = "not in a class's folder"
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


def _classes(found: Found, inside: str, names: list[str]) -> dict[str, str]:
    """{class: path of its folder}."""
    where, classes = found.folder / inside, {composed(name): inside + name for name in names}
    if len(names) < 2:
        loose = sum(path.startswith(inside) for path in found.skipped)
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


def _files(found: Found, top: str) -> Iterator[Source]:
    """The files in found.folder/top and in the folders inside."""
    waiting = [top]
    while waiting:
        inside = waiting.pop()
        try:
            for entry in _visible(found.folder / inside):
                path = f"{inside}/{entry.name}"
                try:
                    if entry.is_dir(follow_symlinks=False) and not _is_link(entry):
                        waiting.append(path)
                        continue
                    facts = entry.stat()
                    if stat.S_ISREG(facts.st_mode):
                        yield Source(path, facts.st_size, facts.st_mtime_ns)
                    else:
                        is_folder = stat.S_ISDIR(facts.st_mode)
                        found.skipped[path] = "a link to a folder, not followed" if is_folder else "not a plain file"
                except OSError as error:  # such as a link to nothing
                    found.skipped[path] = f"cannot be looked at: {error.strerror}"
        except OSError as error:
            found.skipped[inside] = f"cannot be opened: {error.strerror}"


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) == JUNCTION


def _holds(link: str, folder: Path) -> bool:
    inner, outer = (os.path.join(os.path.realpath(path), "") for path in (folder, link))
    return inner.startswith(outer)
