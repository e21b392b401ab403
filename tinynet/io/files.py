"""Files that no failure leaves half-written: whole files that take their place in one step, and logs of whole lines."""

import contextlib
import errno
import importlib
import io
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tinynet.io.locks import BaseFileLock, FileLock, SoftFileLock, Timeout

fcntl: Any = None  # not on Windows
with contextlib.suppress(ImportError):
    fcntl = importlib.import_module("fcntl")

DISK_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # the last: a user's quota
# seconds, 1.3 in all: Windows lets nobody replace a file while a viewer or a virus scanner holds it open
PAUSES = tuple(0.01 * 2**i for i in range(7)) if os.name == "nt" else ()


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Put `data` into the file `path`, which afterwards holds all of it or, after any failure, what it held before.

    The bytes go into a new file beside it, are forced to the disk, and take the old file's place in one step. A link
    stays: the file that it names is written. What is no file, such as /dev/stdout or a pipe, gets the bytes as it is.
    Raises OSError, of the kind and with the errno of the operating system's, that names `path` and says what to do.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            with open(path, "wb", buffering=0) as stream:
                _write_all(stream, data)
            return
        except OSError as error:
            raise cannot_write(path, error) from error
    path = path.resolve() if path.is_symlink() else path
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            _force(file.fileno())
        replace(aside, path)
    except BaseException as error:  # Ctrl-C too leaves nothing half-written
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    sync_folder(path.parent)


class JsonLines:
    """A file of JSON objects, one a line; each is with the operating system before `append` returns, so that a program
    that is killed loses none. Use it in a `with` statement; its folder is made if need be.

    A new file; or, with `keep=(size, crc)` of an earlier moment, an existing one, of which that much is kept: `records`
    holds its lines, and `cut` takes off what came later. Of two programs that begin the same new file one gets it, on
    every system; and no second one can open it for writing meanwhile, where files can be locked.

    Raises FileExistsError if a new file's `path` exists, ValueError if the kept part is not what it was at that
    moment, BlockingIOError if another program is writing to it, another OSError naming it if it cannot be written.
    """

    _lock_beside: BaseFileLock | None = None

    def __init__(self, path: str | os.PathLike, keep: tuple[int, int] | None = None):
        self.path, self.size, self.crc = Path(path), 0, 0
        self.records: list[dict[str, Any]] = []
        try:
            if keep is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("xb" if keep is None else "r+b", buffering=0)
            sync_folder(self.path.parent)
        except OSError as error:
            if keep is None and self.path.exists():
                raise FileExistsError(error.errno, f"{path} is there already and is not overwritten") from error
            if keep is not None and not self.path.exists():
                text = f"expected the run's log at {path}, got nothing there; a run is resumed in its own folder"
                raise FileNotFoundError(error.errno, text) from error
            raise cannot_write(path, error) from error
        try:
            self._lock()
            if keep is not None:
                self._read(*keep)
        except BaseException:
            self.close()
            if keep is None:  # nobody wrote into it: the next program may begin it
                with contextlib.suppress(OSError):
                    self.path.unlink()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Raises ValueError for NaN and infinity, which JSON has not, OSError if the disk is full; then
        no part of the line stays."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            _write_all(self.file, line)
        except OSError as error:
            self.cut()
            raise cannot_write(self.path, error) from error
        self.size, self.crc = self.size + len(line), zlib.crc32(line, self.crc)

    def sync(self) -> None:
        """Force all lines to the disk: a pulled plug loses none of them."""
        try:
            _force(self.file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def cut(self) -> None:
        """Take off what came after the lines that are kept."""
        self.file.seek(self.size)
        self.file.truncate()

    def _read(self, size: int, crc: int) -> None:
        kept = self.file.read(size)
        if len(kept) < size or zlib.crc32(kept) != crc:
            raise ValueError(
                f"{self.path}: expected the lines that were there when the checkpoint was written, {size:,} bytes, got "
                "others or fewer: it was changed since or belongs to another run"
            )
        self.records = [json.loads(line) for line in kept.splitlines()]
        self.size, self.crc = size, crc

    def _lock(self) -> None:
        """Of the kind that is gone with the process, however that ends."""
        try:
            if fcntl is not None:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif FileLock is not SoftFileLock:  # Windows, where a locked file cannot be read
                beside = self.path.with_name(f".{self.path.name}.lock")
                self._lock_beside = FileLock(beside, timeout=0)
                self._lock_beside.acquire()
        except (BlockingIOError, Timeout) as error:
            text = f"cannot write {self.path}: another program is writing to it; wait until it ends, or stop it"
            raise BlockingIOError(errno.EAGAIN, text) from error
        except (OSError, NotImplementedError):
            pass  # some network file systems have no locks

    def close(self) -> None:
        self.file.close()
        if self._lock_beside is not None:
            self._lock_beside.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _write_all(file: io.FileIO, data: bytes) -> None:
    """To a file without a buffer, of which the system may take a part only, near the end of the disk."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def cannot_write(path: str | os.PathLike, error: OSError) -> OSError:
    """An error of the same kind and errno whose text names the file, the reason and what to try."""
    remedy = "check that its folder exists and may be written to, and that no program holds the file open"
    if error.errno in DISK_FULL:
        remedy = "free some space on it"
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error}; {remedy}, or choose another folder")


def replace(aside: Path, path: Path) -> None:
    """Give `aside`, a file or folder, the name `path` in one step. On Windows another program may hold a file open for
    a moment: then it is tried again for a second."""
    for pause in PAUSES:
        try:
            return os.replace(aside, path)
        except PermissionError:
            time.sleep(pause)
    return os.replace(aside, path)


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk: a new file's name is safe only then."""
    with contextlib.suppress(OSError):  # Windows has no such call, and some file systems refuse it
        handle = os.open(folder, os.O_RDONLY)
        try:
            _force(handle)
        finally:
            os.close(handle)


def _force(handle: int) -> None:
    if sys.platform == "darwin" and fcntl is not None:
        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # there fsync reaches the drive, but not its platter
    else:
        os.fsync(handle)
