"""The cache of decoded pictures: what is trusted, what is rebuilt, what a failure leaves behind."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import tinynet
from tinynet import random
from tinynet.data.photo import cache as cache_file
from tinynet.data.photo import cache_build, cache_parts, decode
from tinynet.data.photo.cache import INDEX, UNFINISHED, Request, Source, find_cache
from tinynet.data.photo.cache_build import open_or_build
from tinynet.data.photo.cache_parts import npy_header
from tinynet.data.photo.decode import PictureError, fit, read_picture
from tinynet.io import files

SIZE = 9
NAMES = [f"{name}.png" for name in "abcdefg"]


def paint(path, seed):
    picture = random.uniform((SIZE + seed % 3, SIZE + 4, 3), seed, "cache test", high=256).astype(np.uint8)
    Image.fromarray(picture).save(path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        paint(folder / name, seed)
    return folder


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cache" / "here"


def divide(names):
    """Every third picture that there is goes into "validation"."""

    def parts(skipped):
        readable = [i for i, name in enumerate(names) if name not in skipped]
        return {"train": [i for i in readable if readable.index(i) % 3], "validation": readable[::3]}

    return parts


def request(folder, size=SIZE, **facts):
    names = sorted(path.name for path in folder.iterdir())
    stats = [(folder / name).stat() for name in names]
    sources = [Source(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True)]
    return Request(folder, size, sources, facts, divide(names))


def check(cache, asked):
    """The cache holds what the files give, and nothing else is in its place."""
    parts = asked.divide(cache.skipped)
    assert cache.rows == parts
    for part, numbers in parts.items():
        images = cache.images[part]
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert images.flags.c_contiguous
        expected = [fit(read_picture(asked.folder / asked.sources[i].path), asked.size) for i in numbers]
        assert np.array_equal(images, expected)


def contents(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded from now on."""
    names = []

    def noting(path, *args, **options):
        names.append(Path(path).name)
        return read_picture(path, *args, **options)

    monkeypatch.setattr(decode, "read_picture", noting)
    return names


def test_built_once_and_then_opened(folder, place, decoded):
    asked = request(folder)
    check(open_or_build(place, asked), asked)
    assert sorted(decoded) == NAMES
    before = contents(place)
    assert [Path(name).name for name in before] == [
        *(Path(before[0]).name, INDEX, "train.npy", cache_file._mark(), "validation.npy")
    ]
    check(open_or_build(place, request(folder)), asked)
    assert sorted(decoded) == NAMES
    assert contents(place) == before
    (made,) = place.iterdir()
    assert np.load(made / "train.npy", allow_pickle=False).shape == (4, 3, SIZE, SIZE)  # other programs read it too


@pytest.mark.parametrize("N", [0, 1, 9, 10**9])
def test_the_header_is_one_that_numpy_reads(tmp_path, N):
    header = npy_header((N, 3, 256, 256))
    assert len(header) == 128
    (tmp_path / "a.npy").write_bytes(header)
    with open(tmp_path / "a.npy", "rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == ((N, 3, 256, 256), False, np.dtype(np.uint8))
        assert file.tell() == 128


def test_the_bytes_do_not_depend_on_the_threads(folder, tmp_path):
    made, before = [], tinynet.get_num_threads()
    try:
        for threads in (1, 3, 8):
            tinynet.set_num_threads(threads)
            open_or_build(tmp_path / str(threads), request(folder))
            (only,) = (tmp_path / str(threads)).iterdir()
            made.append({path.name: path.read_bytes() for path in only.iterdir()})
    finally:
        tinynet.set_num_threads(before)
    assert made[0] == made[1] == made[2]


def _add(folder):
    paint(folder / "ab.png", 30)


def _remove(folder):
    (folder / "b.png").unlink()


def _replace(folder):
    paint(folder / "b.png", 31)


def _touch(folder):
    os.utime(folder / "b.png", ns=(1, 10**18))


@pytest.mark.parametrize(
    ("change", "anew"), [(_add, ["ab.png"]), (_remove, []), (_replace, ["b.png"]), (_touch, ["b.png"])]
)
def test_changed_files_are_noticed_and_only_they_are_decoded(folder, place, decoded, change, anew):
    old = open_or_build(place, request(folder))
    before = {part: images.copy() for part, images in old.images.items()}
    decoded.clear()
    change(folder)
    asked = request(folder)
    new = open_or_build(place, asked)
    assert decoded == anew
    check(new, asked)
    assert len(list(place.iterdir())) == 1  # the old one is gone
    assert all(np.array_equal(images, before[part]) for part, images in old.images.items())  # who holds it reads on


def test_other_facts_are_another_cache(folder, place, decoded):
    open_or_build(place, request(folder, val_share=0.2))
    decoded.clear()
    check(open_or_build(place, request(folder, val_share=0.5)), request(folder))
    assert not decoded
    assert find_cache(place, request(folder, val_share=0.2)) is None


def test_another_size_is_decoded_anew(folder, place, decoded):
    open_or_build(place, request(folder))
    decoded.clear()
    check(open_or_build(place, request(folder, size=5)), request(folder, size=5))
    assert sorted(decoded) == NAMES


def test_files_without_a_picture_are_skipped_with_the_reason(folder, place, decoded):
    (folder / "a.png").write_bytes(b"no picture")  # its place in "validation" falls to another
    Image.new("RGB", (40, 7)).save(folder / "c.png")
    Image.new("RGB", (8, 40)).save(folder / "d.png")
    asked = request(folder)
    for _ in range(2):
        cache = open_or_build(place, asked)
        assert list(cache.skipped) == ["a.png", "c.png"]
        assert "no picture that Pillow can read" in cache.skipped["a.png"]
        assert cache.skipped["c.png"] == "40 x 7 pixels; each side must have 8"
        check(cache, asked)
        assert sorted(decoded) == NAMES  # each once, though the parts changed halfway and all was opened again
    _touch(folder)
    open_or_build(place, request(folder))
    assert decoded[len(NAMES) :] == ["b.png"]  # what gave no picture gives none now


def test_a_skipped_file_that_changes_no_part(folder, place):
    (folder / "g.png").write_bytes(b"")
    (folder / "h.png").write_bytes(b"")
    asked = Request(folder, SIZE, request(folder).sources, {}, lambda skipped: {
        "train": [i for i, name in enumerate([*NAMES, "h.png"]) if name not in skipped]
    })  # fmt: skip
    cache = open_or_build(place, asked)
    assert cache.images["train"].shape == (6, 3, SIZE, SIZE)
    check(cache, asked)


@pytest.fixture
def builds(monkeypatch):
    """One entry for each build from now on."""
    seen, real = [], cache_build._build
    monkeypatch.setattr(cache_build, "_build", lambda *args: (seen.append(1), real(*args)))
    return seen


def fail_on_b(monkeypatch, lasting):
    def failing(path, *args, **options):
        if Path(path).name == "b.png":
            raise PictureError(path, f"lasting: {lasting}", lasting)
        return read_picture(path, *args, **options)

    monkeypatch.setattr(decode, "read_picture", failing)


def test_a_file_that_could_not_be_read_is_tried_again(folder, place, monkeypatch, builds):
    for _ in range(2):
        fail_on_b(monkeypatch, lasting=False)
        assert open_or_build(place, request(folder)).skipped == {"b.png": "lasting: False"}
        assert len(builds) == 1  # for one file that still gives none, nothing is built
    monkeypatch.setattr(decode, "read_picture", read_picture)
    check(again := open_or_build(place, request(folder)), request(folder))
    assert not again.skipped
    assert len(builds) == 2


def test_a_file_that_turns_out_damaged_is_not_tried_a_third_time(folder, place, monkeypatch, builds, decoded):
    (folder / "c.png").write_bytes(b"")
    fail_on_b(monkeypatch, lasting=False)
    open_or_build(place, request(folder))
    fail_on_b(monkeypatch, lasting=True)
    empty = {"c.png": "an empty file, 0 bytes"}
    for _ in range(2):
        assert open_or_build(place, request(folder)).skipped == {"b.png": "lasting: True"} | empty
        monkeypatch.setattr(decode, "read_picture", lambda *args, **options: pytest.fail("tried again"))
    assert len(builds) == 1


@pytest.mark.parametrize("what", ["version", "formats"])
def test_with_another_pillow_what_was_skipped_is_tried_again(folder, place, monkeypatch, builds, decoded, what):
    (folder / "b.png").write_bytes(b"of a kind that is not known yet")
    (folder / "c.png").write_bytes(b"")
    open_or_build(place, request(folder))
    if what == "version":
        monkeypatch.setattr(cache_file.PIL, "__version__", "99.0")
    else:
        monkeypatch.setitem(Image.OPEN, "NEW", (None, lambda prefix: False))
    for tries in (["b.png", "c.png"], []):  # and written down: once
        decoded.clear()
        cache = open_or_build(place, request(folder))
        assert sorted(decoded) == tries
        assert sorted(cache.skipped) == ["b.png", "c.png"]
    assert len(builds) == 1
    monkeypatch.setattr(cache_file.PIL, "__version__", "100.0")

    def read(path, *args, **options):
        return read_picture(folder / "a.png" if Path(path).name == "b.png" else path, *args, **options)

    monkeypatch.setattr(decode, "read_picture", read)
    cache = open_or_build(place, request(folder))
    assert list(cache.skipped) == ["c.png"]
    rows = {
        i: image for part, numbers in cache.rows.items() for i, image in zip(numbers, cache.images[part], strict=True)
    }
    assert np.array_equal(rows[1], rows[0])


def test_what_divide_raises_ends_the_build_and_keeps_what_was_decoded(folder, place, decoded):
    def refuse(skipped):
        if skipped:
            raise ValueError("too few")
        return divide(NAMES)(skipped)

    (folder / "f.png").write_bytes(b"")
    refused = Request(folder, SIZE, request(folder).sources, {}, refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="too few"):
            open_or_build(place, refused)
        assert find_cache(place, refused) is None
        assert sorted(decoded) == NAMES  # the second time nothing
        assert len(list(place.iterdir())) == 1
    paint(folder / "f.png", 5)
    check(open_or_build(place, request(folder)), request(folder))
    assert sorted(decoded) == sorted([*NAMES, "f.png"])
    assert len(list(place.iterdir())) == 1


@contextlib.contextmanager
def stopped_at(monkeypatch, number, failure):
    def result(i, pixels, real=cache_build._result):
        if i == number:
            raise failure
        return real(i, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "_result", result)
        yield


@pytest.mark.parametrize("stop", range(1, len(NAMES) + 1))
def test_ctrl_c_keeps_what_was_decoded(folder, place, monkeypatch, decoded, stop):
    """Also after a picture that gives none, in another build, and not twice."""
    (folder / "b.png").write_bytes(b"")

    for _ in range(2):
        with stopped_at(monkeypatch, stop - 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            open_or_build(place, request(folder))
        assert find_cache(place, request(folder)) is None
        kept = NAMES[: stop - 1]
        assert len(list(place.iterdir())) == (1 if kept else 0)
    decoded.clear()
    cache = open_or_build(place, request(folder))
    check(cache, request(folder))
    assert list(cache.skipped) == ["b.png"]
    assert sorted(decoded) == [name for name in NAMES if name not in kept]
    assert len(list(place.iterdir())) == 1


def test_ctrl_c_while_the_parts_are_put_in_order_keeps_all_that_was_decoded(folder, place, monkeypatch, decoded):
    (folder / "a.png").write_bytes(b"")
    fits = []

    def interrupted(i, pixels, real=cache_build._result):
        if not isinstance(pixels, bytes):
            return real(i, pixels)
        fits.append(i)
        if len(fits) == 4:
            raise KeyboardInterrupt
        return i, pixels

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "_result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_or_build(place, request(folder))
    assert len(list(place.iterdir())) == 1
    check(open_or_build(place, request(folder)), request(folder))
    assert sorted(decoded) == NAMES


def test_a_picture_that_is_lost_while_the_parts_are_put_in_order(folder, place, monkeypatch, builds):
    (folder / "a.png").write_bytes(b"")
    real = cache_build._Known.pixels

    def pixels(known, source):
        if source.path == "e.png" and source in known.pictures:
            (folder / "e.png").unlink()
            del known.pictures[source]
        return real(known, source)

    asked = request(folder)
    monkeypatch.setattr(cache_build._Known, "pixels", pixels)
    cache = open_or_build(place, asked)
    assert sorted(cache.skipped) == ["a.png", "e.png"]
    check(cache, asked)
    assert len(builds) == 1


def test_builds_stopped_later_and_later_leave_one_cache(folder, place, monkeypatch, decoded):
    before = set()
    for number in (2, 4, 6):
        with stopped_at(monkeypatch, number, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            open_or_build(place, request(folder))
        (kept,) = place.iterdir()
        assert kept not in before
        before.add(kept)
    decoded.clear()
    check(open_or_build(place, request(folder)), request(folder))
    assert decoded == ["g.png"]


def test_a_build_stopped_by_the_disk_leaves_it_no_fuller(folder, place, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    with stopped_at(monkeypatch, 4, full), pytest.raises(OSError, match="No space left on device"):
        open_or_build(place, request(folder))
    assert not list(place.iterdir())


def test_a_build_stopped_before_it_has_anything_new_keeps_the_older_cache(folder, place, monkeypatch, decoded):
    open_or_build(place, request(folder))
    before = contents(place)
    _touch(folder)
    paint(folder / "ab.png", 30)
    with stopped_at(monkeypatch, 4, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        open_or_build(place, request(folder))
    assert contents(place) == before
    decoded.clear()
    check(open_or_build(place, request(folder)), request(folder))
    assert sorted(decoded) == ["ab.png", "b.png"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("where", ["decode", "write", "move"])
def test_a_build_that_is_stopped_leaves_nothing_unfinished(folder, place, monkeypatch, failure, where):
    def fail(*args, **options):
        raise failure

    target = {
        "decode": (cache_build, "_result"),
        "write": (cache_parts.os, "fsync"),
        "move": (cache_build, "replace"),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        expected = r"cannot write .*here: No space left on device; free some space" if failure.args else None
        with pytest.raises(type(failure), match=expected):
            open_or_build(place, request(folder))
    assert not list(place.iterdir())
    check(open_or_build(place, request(folder)), request(folder))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk: this system has no /dev/full")
def test_a_full_disk(folder, place, monkeypatch):
    place.mkdir(parents=True)
    before = Path.open

    def full(path, mode="r", **options):
        return before(Path("/dev/full"), "wb") if path.name == "train.npy" else before(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=r"cannot write .*here: No space left on device; free some space") as error:
        open_or_build(place, request(folder, size=200))
    assert error.value.errno == errno.ENOSPC
    assert not list(place.iterdir())


def test_a_place_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"cannot write .*here: .*choose another folder"):
        open_or_build(tmp_path / "file" / "here", request(folder))


def test_a_cache_that_others_always_remove(folder, place, monkeypatch):
    monkeypatch.setattr(cache_build, "find_cache", lambda *args: None)
    with pytest.raises(OSError, match="another program removes it; choose another cache_dir"):
        open_or_build(place, request(folder))


def test_a_killed_build_is_not_read_and_is_removed_later(folder, place):
    open_or_build(place, request(folder))
    (made,) = place.iterdir()
    left, working = place / f"killed{UNFINISHED}", place / f"working{UNFINISHED}"
    made.rename(left)
    working.mkdir()
    assert find_cache(place, request(folder)) is None
    long_ago = time.time() - cache_file.ABANDONED - 60
    os.utime(left, (long_ago, long_ago))
    check(open_or_build(place, request(folder)), request(folder))
    assert not left.exists()
    assert working.exists()  # another program may be at work there


def test_a_build_that_is_alive_is_not_removed_after_a_clock_jump(folder, place, monkeypatch):
    seen = []

    def read(path, *args, **options):
        (aside,) = place.iterdir()
        os.utime(aside, (0, 0))
        cache_file.remove_abandoned(place)
        seen.append(aside.exists())
        return read_picture(path, *args, **options)

    monkeypatch.setattr(decode, "read_picture", read)
    check(open_or_build(place, request(folder)), request(folder))
    assert seen == [True] * len(NAMES)


@pytest.mark.parametrize("failure", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_where_the_disk_has_no_locks(folder, place, monkeypatch, failure):
    def fail(*args):
        raise failure

    monkeypatch.setattr(cache_file.FileLock, "acquire", fail)
    left = place / f"killed{UNFINISHED}"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    check(open_or_build(place, request(folder)), request(folder))
    assert not left.exists()


def test_a_killed_build_that_cannot_be_removed_keeps_no_other_one(place, monkeypatch):
    left = [place / f"{name}{UNFINISHED}" for name in "abc"]
    for path in left:
        path.mkdir(parents=True)
        os.utime(path, (0, 0))
    real = cache_file.shutil.rmtree

    def remove(path):
        if path == left[0]:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path)

    monkeypatch.setattr(cache_file.shutil, "rmtree", remove)
    cache_file.remove_abandoned(place)
    assert [path.exists() for path in left] == [True, False, False]


def test_a_cache_in_use_on_another_computer_stays_for_a_day(folder, place):
    open_or_build(place, request(folder))
    (old,) = place.iterdir()
    mark = old / f"{cache_file.USED}elsewhere"
    mark.touch()
    _touch(folder)
    for kept in (2, 1):
        open_or_build(place, request(folder))
        assert old.exists() == (kept == 2)
        assert len(list(place.iterdir())) == kept
        long_ago = time.time() - cache_file.DAY - 60
        if kept == 2:
            os.utime(mark, (long_ago, long_ago))
        paint(folder / "b.png", 40 + kept)


def test_a_cache_takes_its_place_though_windows_does_not_allow_it_at_once(folder, place, monkeypatch):
    refused, real = [], os.replace

    def replace(aside, path):
        if os.path.isdir(aside) and not refused:
            refused.append(path)
            raise PermissionError(errno.EACCES, "Access is denied")
        real(aside, path)

    monkeypatch.setattr(files, "PAUSES", (0,))
    monkeypatch.setattr(os, "replace", replace)
    check(open_or_build(place, request(folder)), request(folder))
    assert len(refused) == 1


def test_a_disk_that_is_too_small_is_noticed_before_any_work(folder, place, monkeypatch, decoded):
    usage = cache_build.shutil.disk_usage(folder)
    needed = len(NAMES) * 3 * SIZE**2
    monkeypatch.setattr(cache_build.shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=r"cannot write .*here: 0 MB are needed .* are free; free some space") as error:
        open_or_build(place, request(folder))
    assert error.value.errno == errno.ENOSPC
    assert not decoded
    assert not list(place.iterdir())
    monkeypatch.setattr(cache_build.shutil, "disk_usage", lambda path: usage._replace(free=needed))
    check(open_or_build(place, request(folder)), request(folder))


@pytest.mark.parametrize("N", [1, 2, 63, 64, 65, 200])
def test_the_check_sum_is_that_of_pictures_from_all_over(N):
    images = random.uniform((N, 3, 2, 2), 1, "check sum", high=256).astype(np.uint8)
    whole, seen = cache_parts.check_sum(images), []
    for i in range(N):
        images[i, 2, 1, 0] ^= 4
        if cache_parts.check_sum(images) != whole:
            seen.append(i)
        images[i, 2, 1, 0] ^= 4
    assert len(seen) == min(N, cache_parts.SAMPLE)
    assert {0, N - 1} <= set(seen)
    assert max(np.diff(seen), default=1) <= N // cache_parts.SAMPLE + 1


def test_a_build_gives_signs_of_life(folder, place, monkeypatch):
    seen = []
    real = os.utime
    monkeypatch.setattr(cache_build.os, "utime", lambda path, *rest: (seen.append(path), real(path, *rest)))
    monkeypatch.setattr(cache_build, "BEAT", 3)
    open_or_build(place, request(folder))
    seen = [path for path in seen if path.parent == place]
    assert len(seen) == 3
    assert all(path.suffix == UNFINISHED for path in seen)


def test_two_builds_at_once(folder, place, monkeypatch):
    both, real, results = threading.Barrier(2), cache_build._build, []

    def together(*args):
        both.wait()
        real(*args)
        both.wait()

    monkeypatch.setattr(cache_build, "_build", together)
    threads = [threading.Thread(target=lambda: results.append(open_or_build(place, request(folder)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cache in results:
        check(cache, request(folder))
    assert len(results) == 2
    assert len(list(place.iterdir())) == 1


def test_two_programs_at_once(folder, place):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_cache as t;"
        "asked = t.request(Path(sys.argv[2])); t.check(t.open_or_build(Path(sys.argv[3]), asked), asked)"
    )
    command = [sys.executable, "-W", "error", "-c", code, os.path.dirname(__file__), str(folder), str(place)]
    programs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for program in programs:
        _, err = program.communicate()
        assert program.returncode == 0, err
    check(open_or_build(place, request(folder)), request(folder))
    assert not list(place.glob(f"*{UNFINISHED}"))


def made_by(place):
    (made,) = (folder for folder in place.iterdir() if folder.suffix != UNFINISHED)
    return made


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train.npy", lambda raw: raw[:-1]),
        ("train.npy", lambda raw: raw + b"\0"),
        ("train.npy", lambda raw: npy_header((5, 3, SIZE, SIZE)) + raw[128:]),
        ("train.npy", lambda raw: raw.replace(b"|u1", b"|i1")),
        ("train.npy", lambda raw: raw.replace(b"|u1", b"|O8")),
        ("train.npy", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
        ("train.npy", lambda raw: raw[:128] + raw[-3 * SIZE**2 :] + raw[128 : -3 * SIZE**2]),
        ("validation.npy", lambda raw: raw[:128] + bytes(len(raw) - 128)),
        ("validation.npy", lambda raw: b""),
        ("validation.npy", None),
        (INDEX, lambda raw: b""),
        (INDEX, lambda raw: raw[:-1]),
        (INDEX, lambda raw: raw[65:]),
        (INDEX, None),
    ],
)
def test_a_damaged_cache_is_rebuilt(folder, place, name, damage):
    open_or_build(place, request(folder))
    path = made_by(place) / name
    if damage is None:
        path.unlink()
    else:
        raw = path.read_bytes()
        path.write_bytes(damage(raw))
        assert path.read_bytes() != raw
    assert find_cache(place, request(folder)) is None
    check(open_or_build(place, request(folder)), request(folder))
    assert len(list(place.iterdir())) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 10**6), cut=st.integers(0, 10**6))
def test_an_index_with_any_damage_is_not_trusted(folder, place, bit, cut):
    if not place.exists():
        open_or_build(place, request(folder))
    path = made_by(place) / INDEX
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[bit // 8 % len(whole)] ^= 1 << bit % 8
    try:
        for damaged in (bytes(flipped), whole[: cut % len(whole)]):
            path.write_bytes(damaged)
            assert find_cache(place, request(folder)) is None
    finally:
        path.write_bytes(whole)
    assert find_cache(place, request(folder)) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.sampled_from([*NAMES, "train", "../../etc/passwd"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["train", "validation", "a.png"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(["version", "size", "facts", "sources", "rows", "skipped", "sums"]), json_values
    )
)
def test_an_index_that_another_program_wrote_is_not_trusted(folder, place, changes):
    """With a right check sum, but other contents."""
    if not place.exists():
        open_or_build(place, request(folder))
    path = made_by(place) / INDEX
    whole = path.read_bytes()
    index = json.loads(whole.partition(b"\n")[2])
    text = json.dumps(index | changes).encode()
    path.write_bytes(cache_file._digest(text) + b"\n" + text)
    try:
        found = find_cache(place, request(folder))
        assert found is None or index | changes == index
        check(open_or_build(place, request(folder)), request(folder))
    finally:
        (made_by(place) / INDEX).write_bytes(whole)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_a_cache_of_another_version_is_rebuilt(folder, place, monkeypatch, decoded, version):
    with monkeypatch.context() as patch:
        patch.setattr(cache_file, "VERSION", version)
        open_or_build(place, request(folder))
    decoded.clear()
    check(open_or_build(place, request(folder)), request(folder))
    assert sorted(decoded) == NAMES  # its pixels are not used either
    assert len(list(place.iterdir())) == 1


def test_pixels_of_an_old_cache_that_are_not_there(folder, place, decoded):
    open_or_build(place, request(folder))
    path = made_by(place) / "validation.npy"
    path.write_bytes(path.read_bytes()[: 128 + 3 * SIZE**2 + 5])  # the first picture is whole
    _touch(folder)
    decoded.clear()
    check(open_or_build(place, request(folder)), request(folder))
    assert sorted(decoded) == ["a.png", "b.png", "d.png", "g.png"]  # b was touched, the others are the part


def test_the_rows_must_be_those_of_the_parts(folder, place):
    open_or_build(place, request(folder))
    asked = request(folder)
    other = Request(folder, SIZE, asked.sources, {}, lambda skipped: {"train": [0, 1, 2, 3], "validation": [4, 5, 6]})
    assert find_cache(place, other) is None


def test_memory_does_not_grow_with_the_set(folder, place, monkeypatch):
    """No more pictures are decoded ahead than a few a thread."""
    ahead, most, real = 0, 0, cache_build._decode
    lock = threading.Lock()

    def decode(path, size):
        nonlocal ahead, most
        with lock:
            ahead += 1
            most = max(most, ahead)
        return real(path, size)

    def result(i, pixels, real=cache_build._result):
        nonlocal ahead
        answer = real(i, pixels)
        with lock:
            ahead -= 1
        return answer

    for seed in range(40):
        paint(folder / f"more {seed}.png", seed)
    monkeypatch.setattr(cache_build, "_decode", decode)
    monkeypatch.setattr(cache_build, "_result", result)
    before = tinynet.get_num_threads()
    try:
        tinynet.set_num_threads(2)
        open_or_build(place, request(folder))
    finally:
        tinynet.set_num_threads(before)
    assert 1 < most <= 2 * cache_build.AHEAD + 1
