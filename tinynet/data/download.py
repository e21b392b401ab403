"""Fetch MNIST, Fashion-MNIST and CIFAR-10 from the net, once; afterwards they are read from the cache folder.

A file gets its name, and is opened or unpacked, only after its checksum was found right. Until then it is NAME.part: a
download that broke, or was stopped, goes on from there (HTTP Range, RFC 9110 section 14). A lock file lets one process
fetch and the others wait for it.
"""

import itertools
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from tinynet.data.cifar import FOLDERS, MOST_BYTES
from tinynet.data.folders import REMOTES, Remote, cache_folder
from tinynet.io.locks import FileLock

TIMEOUT = (10, 30)  # seconds: for the connection, and for each next piece
CHUNK = 1 << 16
WEB_PAGE = "a web page came instead of the file: does the network ask for a login, or a proxy block the address?"


def fetch(name: str, cache_dir: str | os.PathLike | None = None, *, progress: bool = False) -> Path:
    """The folder cache_dir/name with the files of "mnist", "fashion-mnist" or "cifar-10", fetched if they are missing
    or their checksum is wrong: a data_dir for `mnist`, `fashion_mnist` or `cifar10`. No request if all are right.

    cache_dir: None is `cache_folder()`. progress: a bar for each file, if stderr is a terminal.

    Raises ValueError for another name, ConnectionError with what came from each address if none gave the right file,
    OSError if the folder cannot be written or its disk is full. An interrupted call leaves no wrong file behind; what
    it has loaded stays for the next one.
    """
    if name not in REMOTES:
        raise ValueError(f"fetch: expected one of {', '.join(REMOTES)}; got {name!r}")
    remote, folder = REMOTES[name], (cache_folder() if cache_dir is None else Path(cache_dir)) / name
    try:
        if not _complete(remote, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "fetch.lock"):
                if not _complete(remote, folder):  # another process may have done it while we waited
                    for file in remote.files:
                        _get(name, file, folder, progress)
                    if remote.batches:
                        _unpack(folder / next(iter(remote.files)), folder / FOLDERS[""], remote.batches)
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            f"fetch: expected to keep {name} in {folder}, got: {error}; make room there, or name another folder with "
            "the environment variable TINYNET_CACHE"
        ) from error
    return folder


def _complete(remote: Remote, folder: Path) -> bool:
    if remote.batches:
        return all(_is(folder / FOLDERS[""] / file, "md5", md5) for file, md5 in remote.batches.items())
    return all(_is(folder / file, "sha256", sha256) for file, (_, sha256) in remote.files.items())


def _is(path: Path, kind: str, checksum: str) -> bool:
    import pooch  # here, because nothing else of the library needs it: tinynet is imported where it is missing

    return path.is_file() and pooch.file_hash(str(path), kind) == checksum


def _get(name: str, file: str, folder: Path, progress: bool) -> None:
    remote, part, tried = REMOTES[name], folder / f"{file}.part", []
    size, sha256 = remote.files[file]
    if _is(folder / file, "sha256", sha256):
        return
    for mirror in remote.mirrors:
        again, started_anew = True, False
        while again:
            before = _size(part)
            try:
                _receive(mirror + file, part, size, progress)
            except _BrokenError as error:
                reason = str(error)
                again = _size(part) > before  # there is a connection, so go on from where it broke
                continue
            if _is(part, "sha256", sha256):
                os.replace(part, folder / file)
                return
            reason = "another file came: its checksum is wrong"
            part.unlink()
            again, started_anew = before > 0 and not started_anew, True  # what an earlier try left may be to blame
        tried.append(f"  {mirror}{file}: {reason}\n")
    raise ConnectionError(
        f"fetch: expected {file} of {name} from one of {len(tried)} addresses, got\n{''.join(tried)}"
        f"The next try goes on from what has come. Or put {', '.join(remote.files)} into {folder} by hand, and try "
        f"again;\nor put {'what is packed in it' if remote.batches else 'them'} into any folder that --data-dir names."
    )


class _BrokenError(Exception):
    """The file did not come, or not all of it; says why."""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, size: int, progress: bool) -> None:
    """Brings `part` to `size` bytes or, if more come, a little above. Raises _BrokenError if it stays shorter."""
    start = _size(part)
    if start >= size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            place = answer.headers.get("Content-Range", "")
            goes_on = answer.status_code == 206 and place.startswith(f"bytes {start}-")
            if answer.status_code != 200 and not goes_on:
                raise _BrokenError(f"HTTP {answer.status_code} {answer.reason}")
            # as they travel: some servers declare a .gz file to be a packed file, and requests would unpack it
            chunks = answer.raw.stream(CHUNK, decode_content=False)
            first = next(chunks, b"")
            if "html" in answer.headers.get("Content-Type", "") or (not goes_on and first.lstrip()[:1] == b"<"):
                raise _BrokenError(WEB_PAGE)
            bar = tqdm(desc=part.stem, total=size, unit="B", unit_scale=True, disable=None if progress else True)
            with bar, open(part, "ab" if goes_on else "wb") as out:
                bar.update(out.tell())
                for chunk in itertools.chain([first], chunks):
                    out.write(chunk)
                    bar.update(len(chunk))
                    if out.tell() > size:
                        break
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenError(_why(error)) from error
    if _size(part) < size:
        raise _BrokenError(f"the connection ended after {_size(part):,} of {size:,} bytes")


def _why(error: BaseException) -> str:
    """One line of a chain of exceptions that says many."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    via = "proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    cause: BaseException | None = error
    while cause and not (isinstance(cause, OSError) and cause.strerror):
        # not __context__, which can lead to what the caller of fetch was about
        cause = cause.__cause__ or next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
    return via + (str(cause.strerror) if isinstance(cause, OSError) else f"broke off ({type(error).__name__})")


def _unpack(archive: Path, folder: Path, wanted: Mapping[str, str]) -> None:
    """Takes the regular files folder.name/wanted out of the tar.gz, nothing else, and makes no path of its names."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.size > MOST_BYTES:
                raise ValueError(f"{archive}: expected files of at most {MOST_BYTES:,} bytes, got {member.size:,}")
            for file in wanted:
                if member.name == f"{folder.name}/{file}" and member.isreg() and (source := tar.extractfile(member)):
                    with source, open(part / file, "wb") as out:
                        shutil.copyfileobj(source, out)
    wrong = [file for file, md5 in wanted.items() if not _is(part / file, "md5", md5)]
    if wrong:
        raise ValueError(f"{archive}: expected the files {', '.join(wanted)}, got none or others for {wrong}")
    if folder.exists():  # with damaged files; what else is there stays
        for file in wanted:
            os.replace(part / file, folder / file)
        part.rmdir()
    else:
        os.replace(part, folder)
