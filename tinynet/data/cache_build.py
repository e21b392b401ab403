"""Build a cache of decoded pictures; `tinynet.data.cache` says what one is.

The pictures are decoded in threads and written by one, in order, so the files do not depend on the threads.
"""

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Self

from tqdm import tqdm

from tinynet.checkpoint import cannot_write
from tinynet.data.cache import (
    NOT_OURS,
    UNFINISHED,
    Cache,
    Parts,
    Request,
    Skips,
    Source,
    caches_in,
    find_cache,
    npy_header,
    read_index,
    remove_abandoned,
    remove_others,
    write_index,
)
from tinynet.data.decode import PictureError, fit, read_picture
from tinynet.ops.parallel import get_num_threads

TRIES = 3
BEAT = 256  # pictures between two signs of life
AHEAD = 4  # pictures a thread that may be decoded and not yet written
SMALLEST_SIDE = 8  # pixels; a smaller picture shows nothing

Pixels = Generator[tuple[int, bytes | PictureError], None, None]


def open_or_build(place: Path, request: Request, progress: bool = False) -> Cache:
    """The cache in the folder `place`; built, if none that fits is there. Then older ones in `place` are removed.

    Pictures of an older cache whose files are unchanged are copied from it. The bytes do not depend on the number of
    threads. Programs that build at the same time do not disturb each other: each builds its own, and one of them stays.

    Raises OSError that says what to do if `place` cannot be written, the disk is full, or other programs remove each
    new cache at once; and what request.divide raises.
    """
    remove_abandoned(place)
    found = find_cache(place, request)
    if found and not any(os.access(request.folder / path, os.R_OK) for path in found[1].try_again):
        return found[1]
    for _ in range(TRIES):
        try:
            place.mkdir(parents=True, exist_ok=True)
            _build(place, request, progress)
        except OSError as error:
            raise cannot_write(place, error) from error
        if found := find_cache(place, request):
            remove_others(place, keep=found[0])
            return found[1]
    raise OSError(f"{place}: expected the new cache to stay, but another program removes it; choose another cache_dir")


def _build(place: Path, request: Request, progress: bool) -> None:
    """Put a new, finished cache into `place`. Whatever happens, Ctrl-C too, nothing unfinished stays."""
    aside = Path(tempfile.mkdtemp(UNFINISHED, "", place))
    try:
        with contextlib.ExitStack() as files:
            known = _Known(files, request.size)
            for folder in caches_in(place):
                known.add(folder)
            skipped = {s.path: known.skipped[s] for s in request.sources if s in known.skipped}
            made, rows = aside / "0", request.divide(skipped)
            found = _write(made, request, rows, known, progress)
            skipped |= found
            left = {part: [i for i in rows[part] if request.sources[i].path not in found] for part in rows}
            if found and (rows := request.divide(skipped)) != left:
                # the parts change when a picture drops out: copy what was decoded into the right order
                write_index(made, request, left, skipped)
                known.add(made)
                made = aside / "1"
                _write(made, request, rows, known, progress=False)
        write_index(made, request, rows, skipped)
        os.rename(made, place / aside.stem)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
            for part, numbers in index["rows"].items():
                file = self.files.enter_context((folder / f"{part}.npy").open("rb"))
                if file.read(128) == npy_header((len(numbers), 3, self.size, self.size)):
                    self.pictures |= {sources[i]: (file, row) for row, i in enumerate(numbers)}
            for source in sources:
                reason, lasting = index["skipped"].get(source.path, ("", False))
                if lasting:
                    self.skipped[source] = reason, lasting

    def pixels(self, source: Source) -> bytes | None:
        if source in self.pictures:
            file, number = self.pictures[source]
            with contextlib.suppress(OSError):
                file.seek(128 + number * self.row)
                pixels = file.read(self.row)
                return pixels if len(pixels) == self.row else None
        return None


class _Writer:
    """Writes a part's file. Not through a map: on a full disk that kills the process, and writing gives an error."""

    def __init__(self, path: Path, size: int):
        self.shape, self.count = (3, size, size), 0
        self.file = path.open("xb")
        self.file.write(npy_header((0, *self.shape)))

    def append(self, pixels: bytes) -> None:
        self.file.write(pixels)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with self.file:
            if failure[0] is None:
                self.file.seek(0)
                self.file.write(npy_header((self.count, *self.shape)))
                self.file.flush()
                os.fsync(self.file.fileno())


def _write(made: Path, request: Request, rows: Parts, known: _Known, progress: bool) -> Skips:
    """Put the pictures of the parts into files in the new folder `made`; returns those that gave none."""
    made.mkdir()
    part_of = {i: part for part in rows for i in rows[part]}
    found: Skips = {}
    with contextlib.ExitStack() as stack:
        writers = {part: stack.enter_context(_Writer(made / f"{part}.npy", request.size)) for part in rows}
        pictures = stack.enter_context(contextlib.closing(_pixels(request, sorted(part_of), known)))
        # None: only where stderr is a terminal
        bar = tqdm(desc="decoding", total=len(part_of), unit=" pictures", disable=None if progress else True)
        stack.enter_context(bar)
        for number, (i, pixels) in enumerate(pictures):
            if isinstance(pixels, PictureError):
                found[request.sources[i].path] = pixels.reason, pixels.lasting
            else:
                writers[part_of[i]].append(pixels)
            bar.update()
            if number % BEAT == 0:
                os.utime(made.parent)
    return found


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
    image = read_picture(path, shorter_side=size)
    if min(image.size) < SMALLEST_SIDE:
        raise PictureError(path, f"{image.width} x {image.height} pixels; each side must have {SMALLEST_SIDE}")
    return fit(image, size).tobytes()


def _result(i: int, pixels: bytes | Future[bytes]) -> tuple[int, bytes | PictureError]:
    try:
        return i, pixels if isinstance(pixels, bytes) else pixels.result()
    except PictureError as error:
        return i, error
