import contextlib
import errno
import json
import os
import sys

import numpy as np
import pytest
import safetensors.numpy

from tinynet import checkpoint
from tinynet.checkpoint import JsonLines, atomic_write, load_metadata, load_weights, save_weights
from tinynet.layers import Linear, Parameter, ReLU, Sequential

AWKWARD = "Grüße, 走る & so on"  # a name with spaces, commas, and letters outside of ASCII


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / AWKWARD
    path.mkdir()
    return path


def net(seed=0):
    return Sequential({"fc1": Linear(5, 4, seed=seed), "relu1": ReLU(), "fc2": Linear(4, 3, seed=seed)})


@contextlib.contextmanager
def disk_of(size):
    """No file may grow past `size` bytes: the nearest thing to a full disk that a test can make."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# weights


def test_weights_come_back_bit_for_bit(folder):
    model = net()
    model.astype(np.float64)
    model["fc1"].weight = Parameter(np.asfortranarray(model["fc1"].weight.data.astype(np.float32)))
    save_weights(folder / "w.safetensors", model)
    state = load_weights(folder / "w.safetensors")
    assert sorted(state) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
    for name, parameter in model.named_parameters():
        assert state[name].dtype == parameter.data.dtype
        np.testing.assert_array_equal(state[name], parameter.data)
        state[name] += 1  # the caller's own, and writable

    other = net(seed=1)
    other.load_state_dict(load_weights(folder / "w.safetensors"))
    np.testing.assert_array_equal(other["fc2"].weight.data, model["fc2"].weight.data.astype(np.float32))
    assert os.listdir(folder) == ["w.safetensors"]


def test_equal_weights_and_metadata_give_equal_bytes(folder):
    metadata = {f"key {i}": i for i in range(20)}
    contents = set()
    for turn in range(10):
        save_weights(folder / "w", net(), dict(sorted(metadata.items(), reverse=turn % 2)))
        contents.add((folder / "w").read_bytes())
    assert len(contents) == 1


def test_metadata_comes_back(folder):
    metadata = {"epoch": 3, "name": "Zoë", "nested": {"lr": 0.01}}
    save_weights(folder / "w", net(), metadata)
    assert load_metadata(folder / "w") == metadata
    save_weights(folder / "w", net())
    assert load_metadata(folder / "w") == {}


def test_another_programs_file_is_read(folder):
    arrays = {"x": np.arange(6, dtype=np.int64).reshape(2, 3)}
    (folder / "w").write_bytes(safetensors.numpy.save(arrays, {"format": "pt"}))
    np.testing.assert_array_equal(load_weights(folder / "w")["x"], arrays["x"])
    assert load_metadata(folder / "w") == {}


@pytest.mark.parametrize("load", [load_weights, load_metadata])
class TestUnreadable:
    def test_missing(self, folder, load):
        with pytest.raises(FileNotFoundError, match=r"expected a safetensors file at .*gone, got nothing there"):
            load(folder / "gone")

    def test_folder(self, folder, load):
        with pytest.raises(OSError, match="cannot read"):
            load(folder)

    @pytest.mark.parametrize("content", [b"event: epoch, and so on", b"\x89PNG\r\n\x1a\n" + bytes(90)])
    def test_another_format(self, folder, load, content):
        (folder / "w").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"expected a safetensors file, got one that begins with b'.{16}"
        ) as caught:
            load(folder / "w")
        assert str(folder / "w") in str(caught.value)

    @pytest.mark.parametrize("keep", [0, 7, 8, 30])
    def test_truncated_in_the_header(self, folder, load, keep):
        save_weights(folder / "w", net())
        (folder / "w").write_bytes((folder / "w").read_bytes()[:keep])
        with pytest.raises(ValueError, match=f"expected a whole safetensors file, got {keep} bytes that are cut short"):
            load(folder / "w")


@pytest.mark.parametrize("cut", [1, 100])
def test_truncated_in_the_arrays(folder, cut):
    save_weights(folder / "w", net())
    whole = (folder / "w").read_bytes()
    (folder / "w").write_bytes(whole[:-cut])
    with pytest.raises(ValueError, match=f"got {len(whole) - cut} bytes that are cut short or damaged"):
        load_weights(folder / "w")


# whole or not at all


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
    monkeypatch.setattr(checkpoint, "PAUSES", (1, 2, 3, 4))
    monkeypatch.setattr(checkpoint.time, "sleep", pauses.append)
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
    assert sum(checkpoint.PAUSES) == (pytest.approx(1.27) if sys.platform == "win32" else 0)

    def fail(aside, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "PAUSES", (1e9,))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write(folder / "f", b"new")


def test_a_full_disk_leaves_the_old_weights(folder):
    save_weights(folder / "w", net())
    old = (folder / "w").read_bytes()
    with disk_of(100), pytest.raises(OSError, match=r"cannot write .*; free some space"):
        save_weights(folder / "w", net(seed=1))
    assert (folder / "w").read_bytes() == old
    assert os.listdir(folder) == ["w"]


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


def test_a_full_disk_leaves_whole_lines_only(folder):
    with JsonLines(folder / "log") as log:
        log.append({"kept": 1})
        with disk_of(20), pytest.raises(OSError, match=r"cannot write .*log: .*; free some space"):
            log.append({"lost": "x" * 50})
        assert (folder / "log").read_bytes() == b'{"kept": 1}\n'
        log.append({"kept": 2})
    assert (folder / "log").read_bytes() == b'{"kept": 1}\n{"kept": 2}\n'
