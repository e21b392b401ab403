import errno
import json
import os
import sys

import pytest
from checks import disk_of

from tinynet.io import files
from tinynet.io.files import JsonLines, atomic_write

AWKWARD = "Grüße, 走る & so on"  # a name with spaces, commas, and letters outside of ASCII


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / AWKWARD
    path.mkdir()
    return path


# whole or not at all


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_is_no_file_stays_and_gets_the_bytes(folder):
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(folder / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert os.listdir(folder) == ["pipe"]
    assert not (folder / "pipe").is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_device_says_so_and_stays_a_device(tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")  # not the device itself: whoever is root would lose it
    with pytest.raises(OSError, match=r"cannot write .*link: No space left") as caught:
        atomic_write(tmp_path / "link", b"lost")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few people make links")
def test_a_link_stays_and_its_file_is_written(folder, tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (folder / "link").symlink_to(tmp_path / "target")
    atomic_write(folder / "link", b"new")
    assert (folder / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    assert os.listdir(folder) == ["link"]


def test_a_file_is_replaced(folder):
    for data in (b"long before", b"now"):
        atomic_write(folder / "f", data)
        assert (folder / "f").read_bytes() == data
    assert os.listdir(folder) == ["f"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_a_new_file_has_the_usual_permissions(folder):
    (folder / "usual").write_bytes(b"")
    atomic_write(folder / "f", b"")
    assert (folder / "f").stat().st_mode == (folder / "usual").stat().st_mode


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(folder, monkeypatch, failing, error):
    def fail(*args):
        raise error

    atomic_write(folder / "f", b"old")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(type(error)) as caught:
        atomic_write(folder / "f", b"new")
    assert os.listdir(folder) == ["f"]
    assert (folder / "f").read_bytes() == b"old"
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"cannot write {folder / 'f'}: No space left on device; free some space" in str(caught.value)


@pytest.mark.parametrize(("held", "written"), [(0, True), (2, True), (4, True), (5, False)])
def test_a_file_that_another_program_holds_is_waited_for(folder, monkeypatch, held, written):
    tries, pauses, replace = [], [], os.replace

    def held_open(aside, path):
        tries.append(path)
        if len(tries) <= held:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(aside, path)

    (folder / "f").write_bytes(b"old")
    monkeypatch.setattr(files, "PAUSES", (1, 2, 3, 4))
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    monkeypatch.setattr(os, "replace", held_open)
    if written:
        atomic_write(folder / "f", b"new")
    else:
        with pytest.raises(PermissionError, match=r"cannot write .*: Access is denied; .* no program holds the file"):
            atomic_write(folder / "f", b"new")
    assert (folder / "f").read_bytes() == (b"new" if written else b"old")
    assert pauses == [1, 2, 3, 4][:held]
    assert os.listdir(folder) == ["f"]


def test_only_windows_waits_and_for_that_error_alone(folder, monkeypatch):
    assert sum(files.PAUSES) == (pytest.approx(1.27) if sys.platform == "win32" else 0)

    def fail(aside, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "PAUSES", (1e9,))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write(folder / "f", b"new")


def test_a_folder_that_cannot_be_synced_is_no_failure(folder, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "folders cannot be opened here")  # as on Windows

    monkeypatch.setattr(os, "open", refuse)
    atomic_write(folder / "f", b"data")
    monkeypatch.undo()
    assert (folder / "f").read_bytes() == b"data"


@pytest.mark.parametrize("where", ["no such folder/f", "file/f"])
def test_a_path_that_cannot_be_written(folder, where):
    (folder / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*; check that its folder exists") as caught:
        atomic_write(folder / where, b"data")
    assert str(folder / where) in str(caught.value)
    assert os.listdir(folder) == ["file"]


# lines


def test_each_line_can_be_read_at_once(folder):
    with JsonLines(folder / "deep" / "er" / "log.jsonl") as log:
        for i in range(3):
            log.append({"i": i, "name": "Zoë"})
            lines = (folder / "deep" / "er" / "log.jsonl").read_text("utf-8").splitlines()
            assert [json.loads(line) for line in lines] == [{"i": n, "name": "Zoë"} for n in range(i + 1)]


def test_no_line_that_is_not_json(folder):
    with JsonLines(folder / "log") as log:
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="not JSON compliant"):
                log.append({"loss": value})
        log.append({"loss": 1.5})
    assert (folder / "log").read_bytes() == b'{"loss": 1.5}\n'


def test_lines_of_another_file_are_not_overwritten(folder):
    (folder / "log").write_text("precious")
    with pytest.raises(FileExistsError, match="log is there already and is not overwritten"):
        JsonLines(folder / "log")
    assert (folder / "log").read_text() == "precious"
    with pytest.raises(OSError, match=r"cannot write .*log2"):
        JsonLines(folder / "log" / "log2")


def test_a_new_file_that_cannot_be_locked_does_not_stay(folder, monkeypatch):
    """As in Windows, where the lock lies beside the file: an empty log would be taken for a run that ended early."""
    monkeypatch.setattr(files, "fcntl", None)
    with files.FileLock(folder / ".log.lock"), pytest.raises(BlockingIOError, match="another program is writing to it"):
        JsonLines(folder / "log")
    assert not (folder / "log").exists()
    with JsonLines(folder / "log") as log:
        log.append({"kept": 1})


def test_a_full_disk_leaves_whole_lines_only(folder):
    with JsonLines(folder / "log") as log:
        log.append({"kept": 1})
        with disk_of(20), pytest.raises(OSError, match=r"cannot write .*log: .*; free some space"):
            log.append({"lost": "x" * 50})
        assert (folder / "log").read_bytes() == b'{"kept": 1}\n'
        log.append({"kept": 2})
    assert (folder / "log").read_bytes() == b'{"kept": 1}\n{"kept": 2}\n'
