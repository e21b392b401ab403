"""CIFAR-10's files: the real ones, hostile ones, damaged ones."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import load
from tinynet.data.cifar import BATCHES, CLASSES, MOST_BYTES, cifar10, read_binary_batch, read_python_batch

PICTURES = (np.arange(3 * 3072) * 7 % 256).astype(np.uint8).reshape(3, 3072)


def text(value):
    return b"U" + bytes([len(value)]) + value


def array(data, shape=None, dtype=b"u1"):
    """A NumPy array as Python 2 pickled it: _reconstruct(ndarray, (0,), "b"), then its state."""
    rows, columns = shape or data.shape
    raw = data.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        b"cnumpy\ndtype\n" + text(dtype) + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN"
        + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip


def python_batch(data=PICTURES, labels=(3, 0, 9), **options):
    entries = (
        text(b"data") + array(data, **options) + text(b"labels") + b"](" + b"".join(b"K" + bytes([n]) for n in labels)
    )
    return b"\x80\x02}(" + entries + b"eu."


def binary_batch(data=PICTURES, labels=(3, 0, 9)):
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, data, strict=True))


@pytest.mark.parametrize(("batch", "ending"), [(python_batch, ""), (binary_batch, ".bin")])
@pytest.mark.parametrize("inside", ["", "cifar-10-batches-{}", "cifar-10/cifar-10-batches-{}"])
def test_reads_both_versions_wherever_they_lie(tmp_path, batch, ending, inside):
    folder = tmp_path / "Bilder für alle" / inside.format("bin" if ending else "py")
    folder.mkdir(parents=True)
    for names in BATCHES.values():
        for name in names:
            (folder / (name + ending)).write_bytes(batch())
    for split, count in (("train", 5), ("validation", 1)):
        found = cifar10(split, tmp_path / "Bilder für alle")
        assert np.array_equal(found.images, np.tile(PICTURES.reshape(3, 3, 32, 32), (count, 1, 1, 1)))
        assert found.labels.tolist() == [3, 0, 9] * count
        assert found.classes == CLASSES


def test_the_real_files(shared_data):
    train, validation = load("cifar-10", shared_data)
    assert len(train) % 10_000 == 0
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # as published
    assert validation.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    path = next(shared_data.rglob("data_batch_2"))
    trusted = pickle.loads(path.read_bytes(), encoding="bytes")
    images, labels = read_python_batch(path)
    assert np.array_equal(images, trusted[b"data"].reshape(-1, 3, 32, 32))
    assert labels.tolist() == trusted[b"labels"]


class Hostile:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path, protocol):
    victim, path = tmp_path / "victim", tmp_path / "data_batch_1"
    for attack in (
        Hostile(open, str(victim), "w"),
        Hostile(eval, f"open({str(victim)!r}, 'w')"),
        Hostile(exec, "1 / 0"),
    ):
        path.write_bytes(pickle.dumps({b"data": attack, b"labels": [1]}, protocol=protocol))
        with pytest.raises(ValueError, match="has no place in such a file") as caught:
            read_python_batch(path)
        assert str(path) in str(caught.value)
        assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected a batch of CIFAR-10's python version"),
        (b"<html>Not found</html>", "expected a batch of CIFAR-10's python version"),
        (python_batch()[:-500], "expected a batch of CIFAR-10's python version"),
        (python_batch(shape=(2**31 - 1, 2**31 - 1)), "has not as many bytes"),
        (python_batch(dtype=b"f8"), "an array is not of uint8"),
        (python_batch(dtype=b"O8"), "an array is not of uint8"),
        (python_batch(PICTURES[:, :3071]), r"expected data of shape \(N, 3072\), got \(3, 3071\)"),
        (python_batch(labels=(1, 2)), "expected a list of 3 labels, one a picture, got 2"),
        (python_batch(labels=(1, 2, 10)), r"expected labels in \[0, 10\), got 10"),
        (pickle.dumps([1, 2, 3]), "expected a dict with an array 'data' and 'labels', got list"),
    ],
)
def test_a_damaged_python_batch_is_named(tmp_path, content, complaint):
    path = tmp_path / "data_batch_3"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_python_batch(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected rows of 3073 bytes, got 0 bytes"),
        (binary_batch()[:-1], "expected rows of 3073 bytes, got 9,218 bytes in all: cut short"),
        (binary_batch(labels=(1, 2, 77)), r"expected labels in \[0, 10\), got 77"),
    ],
)
def test_a_damaged_binary_batch_is_named(tmp_path, content, complaint):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        read_binary_batch(path)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4), st.binary(max_size=30))
def test_no_damage_gives_anything_but_pictures_or_a_value_error(tmp_path_factory, changes, junk):
    path = tmp_path_factory.mktemp("fuzz") / "batch"
    damaged = bytearray(python_batch(PICTURES[:1], (5,)))
    for at, value in changes:
        damaged[-at - 1 if at < 40 else at - 40] = value
    for content in (bytes(damaged), junk, b"\x80\x02" + junk):
        path.write_bytes(content)
        try:
            complaint, found = None, read_python_batch(path)
        except ValueError as error:
            complaint, found = str(error), None
        if found is None:
            assert str(path) in complaint
        else:
            assert found[0].shape == (len(found[1]), 3, 32, 32)


HUGE = struct.pack("<q", 2**40)
HOSTILE = {  # after b"\x80\x05": bytes, and what is said
    "memo index": (b"Nr\xff\xff\xff\x7f.", "expected a dict"),
    "BINBYTES8": (b"\x8e" + HUGE + b"abc", "EOFError"),
    "BINBYTES": (b"B\xff\xff\xff\xffabc.", "EOFError"),
    "BINSTRING": (b"T\xff\xff\xff\x7fabc.", "EOFError"),
    "BINUNICODE": (b"X\xff\xff\xff\xffabc.", "EOFError"),
    "BYTEARRAY8": (b"\x96" + HUGE + b"abc.", "the instruction 0x96, which has no place"),
    "FRAME": (b"\x95" + HUGE + b"N" * 9, "EOFError"),
    "frame in a frame": (b"\x95" + HUGE + b"\x95" + HUGE + b"N.", "beginning of a new frame"),
    "LONG4": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.", "the instruction 0x8b, which has no place"),
    "digits": (b"I" + b"9" * 5000 + b"\n.", "expected a batch"),
    "unknown": (b"\xff.", "the instruction 0xff, which has no place"),
    "persistent": (b"Pname\n.", "the instruction 0x50, which has no place"),
    "extension": (b"\x82\x01.", "the instruction 0x82, which has no place"),
    "instance": (b"(ios\nsystem\n.", "the instruction 0x69, which has no place"),
    "dicts": (b"}" * 5_000_000 + b".", "more than 100,000 instructions"),
    "memo": (b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(200_000)) + b".", "more than 100,000"),
    "deep lists": (b"]" * 40_000 + b"a" * 39_999 + b".", "expected a dict"),
    "deep key": (b"}N" + b"\x85" * 90_000 + b"Ns.", "a tuple as a key"),
    "deep keys": (b"}(N" + b"\x85" * 90_000 + b"Nu.", "a tuple as a key"),
    "deep keys, DICT": (b"(N" + b"\x85" * 90_000 + b"Nd.", "a tuple as a key"),
    "a state of the code": (b"cnumpy.core.multiarray\n_reconstruct\n}U\x01aNsb.", "a state for a function"),
    "a state of a class": (b"cnumpy\nndarray\n}b.", "a state for a type"),
    "nothing": (b".", "IndexError"),
    "text error": (b"X" + struct.pack("<I", 4_000_000) + b"\xff" * 4_000_000 + b".", "UnicodeDecodeError"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
def test_no_pickle_makes_us_take_more_than_its_size_allows(tmp_path, attack):
    content, complaint = HOSTILE[attack]
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x05" + content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=complaint) as caught:
        read_python_batch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 * len(content) + (50 << 20)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_a_number_in_the_file_never_becomes_an_allocation(tmp_path):
    """The attacks of a few bytes: everything they take fits into one megabyte."""
    path = tmp_path / "data_batch_1"
    for content in [content for content, _ in HOSTILE.values() if len(content) < 100]:
        path.write_bytes(b"\x80\x05" + content)
        tracemalloc.start()
        with pytest.raises(ValueError, match="expected"):
            read_python_batch(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_a_text_takes_at_most_what_the_docstring_says(tmp_path):
    text = "a" * 4_000_000 + "\N{GRINNING FACE}"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(text, protocol=4))
    tracemalloc.start()
    with pytest.raises(ValueError, match="got str"):
        read_python_batch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 * path.stat().st_size


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_1.bin"])
def test_a_file_above_the_limit_is_not_read(tmp_path, name):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: takes no room on the disk
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"at most 67,108,864 bytes, got 67,108,865") as caught:
        (read_binary_batch if name.endswith(".bin") else read_python_batch)(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert str(path) in str(caught.value)


DEEP = b"]" * 30_000 + b"a" * 29_999


@pytest.mark.parametrize(
    ("label", "got"),
    [
        (DEEP, "one of type list"),
        (b"\x8a\xff" + b"\x7f" * 255, "one of type int"),
        (b"\x88", "one of type bool"),
        (b"I-1\n", "-1"),
    ],
)
def test_a_label_of_any_kind_is_told_without_its_contents(tmp_path, label, got):
    path = tmp_path / "data_batch_1"
    path.write_bytes(python_batch(PICTURES[:1], ()).replace(b"](eu.", b"](" + label + b"eu."))
    with pytest.raises(ValueError, match=rf"expected labels in \[0, 10\), got {got}$") as caught:
        read_python_batch(path)
    assert str(path) in str(caught.value)


def test_an_array_without_a_state_is_refused(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02}" + text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\n)Rs.")
    with pytest.raises(ValueError, match=r"expected data of shape \(N, 3072\), got \(\)"):
        read_python_batch(path)


def test_sizes_of_many_digits_or_axes_are_not_multiplied(tmp_path):
    path = tmp_path / "data_batch_1"
    sizes = b"(" + b"\x8a\xff" + (b"\x7f" * 255) + b"K\x02" * 20_000 + b"t"
    damaged = python_batch().replace(b"J" + struct.pack("<i", 3) + b"J" + struct.pack("<i", 3072) + b"\x86", sizes)
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="an array has no proper shape") as caught:
        read_python_batch(path)
    assert len(str(caught.value)) < 500


def test_batches_written_by_todays_python_are_read_too(tmp_path):
    path = tmp_path / "data_batch_1"
    for protocol in (3, 4):
        path.write_bytes(pickle.dumps({b"data": PICTURES, b"labels": [1, 2, 3]}, protocol=protocol))
        images, labels = read_python_batch(path)
        assert np.array_equal(images, PICTURES.reshape(3, 3, 32, 32))
        assert labels.tolist() == [1, 2, 3]


def test_missing_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_batch_5.*cifar-10-batches-py") as caught:
        cifar10("train", tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ValueError, match="expected split to be one of train, validation; got 'test'"):
        cifar10("test", tmp_path)
