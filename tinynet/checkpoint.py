"""A network's weights in a safetensors file, and files that no failure leaves half-written.

A weights file holds each parameter under its own name, "conv1.weight", and nothing else, so that other programs read it
too. What a run needs beyond that to go on, such as the optimiser's velocity, belongs in a file of its own kind.
"""

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from tinynet.layers.base import Layer

METADATA_KEY = "tinynet"  # one entry only: safetensors writes several in a random order, and equal runs would differ
DISK_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # the last: a user's quota
# seconds, 1.3 in all: Windows lets nobody replace a file while a viewer or a virus scanner holds it open
PAUSES = tuple(0.01 * 2**i for i in range(7)) if os.name == "nt" else ()


def save_weights(path: str | os.PathLike, model: Layer, metadata: Mapping[str, Any] | None = None) -> None:
    """Write all parameters of `model`, and `metadata` (whatever JSON can hold), to `path`, as `atomic_write` does.

    Equal weights and metadata give equal bytes. Raises OSError naming the file if it cannot be written.
    """
    tensors = {name: np.ascontiguousarray(parameter.data) for name, parameter in model.named_parameters()}
    text = json.dumps(dict(metadata or {}), sort_keys=True, allow_nan=False)
    atomic_write(path, safetensors.numpy.save(tensors, {METADATA_KEY: text}))


def load_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: array} of a safetensors file, tinynet's or another program's; for `model.load_state_dict`.

    Raises FileNotFoundError or another OSError if it cannot be read, ValueError if it is damaged or of another format.
    """
    raw = _read(path)
    try:
        # a copy: safetensors returns views of one buffer
        return {name: array.copy() for name, array in safetensors.numpy.load(raw).items()}
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: {_what_is_wrong(raw)} ({error})") from error


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """What `save_weights` got as metadata; {} for another program's file. Raises as `load_weights` does."""
    raw = _read(path)
    try:
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {_what_is_wrong(raw)} ({error})") from error


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Put `data` into the file `path`, which afterwards holds all of it or, after any failure, what it held before.

    The bytes go into a new file beside it, are forced to the disk, and take the old file's place in one step.
    Raises OSError, of the kind and with the errno of the operating system's, that names `path` and says what to do.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(aside, path)
    except BaseException as error:  # Ctrl-C too leaves nothing half-written
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    _sync_folder(path.parent)


class JsonLines:
    """A new file of JSON objects, one a line; each is with the operating system before `append` returns, so that a
    program that is killed loses none. Use it in a `with` statement; its folder is made if need be.

    Raises FileExistsError if `path` exists, another OSError naming it if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("xb", buffering=0)
        except OSError as error:
            if self.path.exists():
                raise FileExistsError(error.errno, f"{path} is there already and is not overwritten") from error
            raise cannot_write(path, error) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Raises ValueError for NaN and infinity, which JSON has not, OSError if the disk is full; then
        no part of the line stays."""
        line = memoryview((json.dumps(record, allow_nan=False) + "\n").encode())
        start = self.file.tell()
        try:
            while line:  # near the end of the disk the system may take a part only
                line = line[self.file.write(line) :]
        except OSError as error:
            self.file.seek(start)
            self.file.truncate()
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.file.close()


def cannot_write(path: str | os.PathLike, error: OSError) -> OSError:
    """An error of the same kind and errno whose text names the file, the reason and what to try."""
    remedy = "check that its folder exists and may be written to, and that no program holds the file open"
    if error.errno in DISK_FULL:
        remedy = "free some space on it"
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error}; {remedy}, or choose another folder")


def _read(path: str | os.PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"expected a safetensors file at {path}, got nothing there") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror or error}") from error


def _what_is_wrong(raw: bytes) -> str:
    # the format: 8 bytes with the length of the header, the header in JSON, the arrays
    if len(raw) >= 9 and raw[8:9] != b"{":
        return f"expected a safetensors file, got one that begins with {raw[:16]!r}"
    return f"expected a whole safetensors file, got {len(raw):,} bytes that are cut short or damaged; take another copy"


def _replace(aside: Path, path: Path) -> None:
    for pause in PAUSES:
        try:
            return os.replace(aside, path)
        except PermissionError:
            time.sleep(pause)
    return os.replace(aside, path)


def _sync_folder(folder: Path) -> None:
    # the file's new name is safe only when the folder is; Windows has no such call, and some file systems refuse it
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
