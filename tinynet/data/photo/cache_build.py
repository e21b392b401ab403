"""Build a cache of decoded pictures; `tinynet.data.photo.cache` says what one is.

The pictures are decoded in threads and written by one, in order, so the files do not depend on the threads.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from tinynet.backend.threads import get_num_threads
from tinynet.data.photo.cache import (
    NOT_OURS,
    UNFINISHED,
    Cache,
    Parts,
    Request,
    Skips,
    Source,
    at_work,
    caches_in,
    find_cache,
    note_use,
    read_index,
    reader,
    remove_abandoned,
    remove_others,
    write_index,
)
from tinynet.data.photo.cache_parts import PartWriter, check_sum, map_part
from tinynet.data.photo.decode import PictureError, read_square
from tinynet.io.files import cannot_write, replace

TRIES = 3
BEAT = 256  # pictures between two signs of life
AHEAD = 4  # pictures a thread that may be decoded and not yet written

Step = tuple[Path, dict[str, list[int]]]  # a new folder, and the numbers of the pictures in it, by part
Pixels = Generator[tuple[int, bytes | PictureError], None, None]


def open_or_build(place: Path, request: Request, progress: bool = False, beside: Path | None = None) -> Cache:
    """The cache in the folder `place`; built, if none that fits is there. Then older ones in `place` are removed.

    Pictures of an older cache whose files are unchanged are copied from it, and from the caches in the folder `beside`,
    which stay as they are. Files that gave no picture are tried again if the reason may be gone; if one gives a picture
    now, the cache is built anew. The bytes do not depend on the number of threads. Programs that build at the same time
    do not disturb each other: each builds its own, and one stays. What was decoded when Ctrl-C or request.divide ends
    the build is kept for the next one.

    Raises OSError that says what to do if `place` cannot be written, the disk is full or too small, or other programs
    remove each new cache at once; and what request.divide raises.
    """
    remove_abandoned(place)
    if (found := find_cache(place, request)) and (cache := _tried_again(*found, request)):
        note_use(found[0])
        return cache
    for _ in range(TRIES):
        try:
            place.mkdir(parents=True, exist_ok=True)
            _build(place, request, progress, beside)
        except OSError as error:
            raise cannot_write(place, error) from error
        if found := find_cache(place, request):
            note_use(found[0])
            remove_others(place, keep=found[0])
            return found[1]
    raise OSError(f"{place}: expected the new cache to stay, but another program removes it; choose another cache_dir")


def _tried_again(folder: Path, cache: Cache, request: Request) -> Cache | None:
    """The cache, with what is known by now of the files that gave no picture; None if one of them gives one."""
    again, skipped = set(cache.try_again), {}
    numbers = [i for i, source in enumerate(request.sources) if source.path in again]
    with contextlib.ExitStack() as stack:
        pictures = _pixels(request, numbers, _Known(stack, request.size))
        for i, pixels in stack.enter_context(contextlib.closing(pictures)):
            if not isinstance(pixels, PictureError):
                return None
            skipped[request.sources[i].path] = pixels.reason, pixels.lasting
    if any(lasting for _, lasting in skipped.values()):
        others = {path: (reason, True) for path, reason in cache.skipped.items() if path not in again}
        with contextlib.suppress(OSError):  # what cannot be written down is tried again next time
            write_index(folder, request, cache.rows, others | skipped)
    reasons = {path: reason for path, (reason, _) in skipped.items()}
    return dataclasses.replace(cache, skipped={**cache.skipped, **reasons})


def _build(place: Path, request: Request, progress: bool, beside: Path | None) -> None:
    """Put a new cache into `place`: a finished one, or after Ctrl-C and if request.divide refuses, one of what was
    decoded, which fits no request and is there to be copied from. On a disk that is full or fails, nothing stays."""
    aside = Path(tempfile.mkdtemp(UNFINISHED, "", place))
    try:
        with at_work(aside), contextlib.ExitStack() as files:
            known = _Known(files, request.size)
            for folder in [*(caches_in(beside) if beside is not None else ()), *caches_in(place)]:
                known.add(folder)
            skipped = {s.path: known.skipped[s] for s in request.sources if s in known.skipped}
            had, rows = known.pictures.keys() & set(request.sources), request.divide(skipped)
            _check_space(place, sum(map(len, rows.values())) * known.row)
            steps: list[Step] = []
            try:
                while not steps or rows != steps[-1][1]:
                    # the parts change when a picture drops out: copy what was decoded into the right order
                    made, left = aside / str(len(steps)), dict[str, list[int]]()
                    steps.append((made, left))
                    _write(made, request, rows, known, left, skipped, progress and len(steps) == 1)
                    write_index(made, request, left, skipped)
                    if (rows := request.divide(skipped)) != left:
                        known.add(made)
            except OSError:
                raise  # the disk is full, or fails
            except BaseException:
                files.close()
                _keep_most(place / aside.stem, request, steps, skipped, had)
                raise
            replace(made, place / aside.stem)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _keep_most(cache: Path, request: Request, steps: list[Step], skipped: Skips, had: set[Source]) -> None:
    """Make `cache` of the step that decoded most, if that is more than the pictures that older caches had."""
    made, rows = max(steps, key=lambda step: sum(map(len, step[1].values())), default=(cache, {}))
    if had < {request.sources[i] for numbers in rows.values() for i in numbers}:
        with contextlib.suppress(OSError):
            write_index(made, request, rows, skipped)
            replace(made, cache)
            remove_others(cache.parent, keep=cache)


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        text = f"{needed / 1e6:,.0f} MB are needed for the decoded pictures, and {free / 1e6:,.0f} MB are free"
        raise OSError(errno.ENOSPC, text)


class _Known:
    """What older caches hold: the pixels of pictures, and which files give none."""

    def __init__(self, files: contextlib.ExitStack, size: int):
        self.files, self.size, self.row = files, size, 3 * size**2
        self.pictures: dict[Source, tuple[BinaryIO, int]] = {}  # a file and the row in it
        self.skipped: dict[Source, tuple[str, bool]] = {}

    def add(self, folder: Path) -> None:
        with contextlib.suppress(*NOT_OURS):  # a damaged cache has nothing for us
            index = read_index(folder)
            if index["size"] != self.size:
                return
            sources = [Source(*source) for source in index["sources"]]
            for source in sources:
                reason, lasting = index["skipped"].get(source.path, ("", False))
                if lasting and index["reader"] == reader():
                    self.skipped[source] = reason, lasting
            for part, numbers in index["rows"].items():
                with contextlib.suppress(OSError, ValueError):  # the other parts may be whole
                    if check_sum(map_part(folder, part, len(numbers), self.size)) == index["sums"][part]:
                        file = self.files.enter_context((folder / f"{part}.npy").open("rb"))
                        self.pictures |= {sources[i]: (file, row) for row, i in enumerate(numbers)}

    def pixels(self, source: Source) -> bytes | None:
        if source in self.pictures:
            file, number = self.pictures[source]
            with contextlib.suppress(OSError):
                file.seek(128 + number * self.row)
                pixels = file.read(self.row)
                return pixels if len(pixels) == self.row else None
        return None


def _write(
    made: Path,
    request: Request,
    rows: Parts,
    known: _Known,
    left: dict[str, list[int]],
    skipped: Skips,
    progress: bool,
) -> None:
    """Put the pictures of the parts into files in the new folder `made`. As it goes, `left` gets the numbers of those
    that are written, by part, and `skipped` the others."""
    made.mkdir()
    part_of = {i: part for part in rows for i in rows[part]}
    with contextlib.ExitStack() as stack:
        writers = {part: stack.enter_context(PartWriter(made / f"{part}.npy", request.size)) for part in rows}
        left |= {part: writer.rows for part, writer in writers.items()}
        pictures = stack.enter_context(contextlib.closing(_pixels(request, sorted(part_of), known)))
        # None: only where stderr is a terminal
        bar = tqdm(desc="decoding", total=len(part_of), unit=" pictures", disable=None if progress else True)
        stack.enter_context(bar)
        for number, (i, pixels) in enumerate(pictures):
            if isinstance(pixels, PictureError):
                skipped[request.sources[i].path] = pixels.reason, pixels.lasting
            else:
                writers[part_of[i]].append(i, pixels)
            bar.update()
            if number % BEAT == 0:
                os.utime(made.parent)


def _pixels(request: Request, numbers: Sequence[int], known: _Known) -> Pixels:
    """(number, pixels or why there are none) of the sources, in order; decoded in threads, a few ahead."""
    waiting: deque[tuple[int, bytes | Future[bytes]]] = deque()
    threads = ThreadPoolExecutor(get_num_threads(), thread_name_prefix="tinynet decode")
    try:
        for i in numbers:
            source = request.sources[i]
            pixels = known.pixels(source)
            waiting.append((i, pixels or threads.submit(_decode, request.folder / source.path, request.size)))
            if len(waiting) > AHEAD * get_num_threads():
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        threads.shutdown(cancel_futures=True)  # after Ctrl-C: one picture a thread is finished, no more


def _decode(path: Path, size: int) -> bytes:
    return read_square(path, size).tobytes()


def _result(i: int, pixels: bytes | Future[bytes]) -> tuple[int, bytes | PictureError]:
    try:
        return i, pixels if isinstance(pixels, bytes) else pixels.result()
    except PictureError as error:
        return i, error
