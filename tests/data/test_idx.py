"""IDX files: the real ones, and every way in which one can be broken."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinynet.data import fashion_mnist, load, mnist, read_idx
from tinynet.data.idx import CLASSES, FILES


def idx(array, type_code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, type_code, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, count=5, labels=None, pack=gzip.compress, ending=".gz", size=28):
    folder.mkdir(parents=True, exist_ok=True)
    pictures = (np.arange(count * size * size) % 251).astype(np.uint8).reshape(count, size, size)
    labels = np.arange(count, dtype=np.uint8) % 10 if labels is None else np.array(labels, np.uint8)
    for images_name, labels_name in FILES.values():
        (folder / (images_name + ending)).write_bytes(pack(idx(pictures)))
        (folder / (labels_name + ending)).write_bytes(pack(idx(labels)))
    return pictures, labels


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, ".gz"), (bytes, "")])
@pytest.mark.parametrize("inside", ["", "mnist"])
def test_reads_the_folder_or_its_parent_packed_or_not(tmp_path, pack, ending, inside):
    folder = tmp_path / "Daten für Zeichen"
    pictures, labels = write_set(folder / inside, pack=pack, ending=ending)
    found = mnist("validation", folder)
    assert np.array_equal(found.images[:, 0], pictures)
    assert found.labels.tolist() == labels.tolist()
    assert found.classes == tuple("0123456789")


def test_the_real_files(shared_data):
    for name, read in (("mnist", mnist), ("fashion-mnist", fashion_mnist)):
        train, validation = load(name, shared_data)
        assert train.images.shape == (60_000, 1, 28, 28)
        assert validation.images.shape == (10_000, 1, 28, 28)
        assert train.classes == CLASSES[name]
        assert len(train.classes) == 10
        assert np.array_equal(read("validation", shared_data / name).images, validation.images)
    assert np.bincount(train.labels).tolist() == [6000] * 10  # of Fashion-MNIST
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as its authors publish


def test_a_missing_file_names_it_and_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist("train", tmp_path)
    assert all(word in str(caught.value) for word in ("train-images-idx3-ubyte.gz", str(tmp_path), "fashion-mnist"))
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz"):
        fashion_mnist("validation", tmp_path)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
PACKED = gzip.compress(GOOD, mtime=0)  # the same bytes at every time, for names of tests


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"expected an IDX file of uint8 values.*got b''"),
        (b"<!DOCTYPE html><html>Not found</html>", "or a web page"),
        (GOOD[:-1], r"expected 24 values for shape \(2, 3, 4\), got 23: cut short"),
        (GOOD + b"x", r"expected 24 values for shape \(2, 3, 4\), got more"),
        (GOOD[:9], "expected the lengths of 3 axes, got only 5 bytes"),
        (idx(np.zeros((2, 2), np.float32), 13), "expected an IDX file of uint8"),
        (
            struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            "expected at most 268,435,456 values, got a header that promises 79,228,162,458,924,105,385,300,197,375",
        ),
        (struct.pack(">BBBB4I", 0, 0, 8, 4, 2**31, 2**31, 2**31, 0), r"of at least one value, .*2147483648, 0\)"),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 2**32 - 1, 0), r"at least one value, got .* shape \(4294967295, 0\)"),
        (b"\0\0\x08\x09" + bytes(36), "expected an IDX file"),
        (PACKED[:-9], "expected a whole gzip file, got a damaged one"),
        (PACKED[:12] + b"\xff\xff" + PACKED[14:], "expected a whole gzip file"),
        (gzip.compress(b"<html>", mtime=0), "or a web page"),
        (PACKED + b"rubbish", "expected a whole gzip file"),
    ],
)
def test_a_broken_file_is_named_with_what_was_expected(tmp_path, content, complaint):
    path = tmp_path / "a file.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_packed_file_takes_no_more_memory_than_its_header_says_and_the_limit_allows(tmp_path):
    path = tmp_path / "bomb.gz"
    bomb = gzip.compress(bytes(40 << 20), mtime=0)  # 40 MB of zeros in 40 kB
    for header, complaint in (
        (
            struct.pack(">BBBB2I", 0, 0, 8, 2, 2**31, 2),
            r"a header that promises 4,294,967,296, shape \(2147483648, 2\)",
        ),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 3, 5), r"expected 15 values for shape \(3, 5\), got more"),
    ):
        path.write_bytes(gzip.compress(header, mtime=0) + bomb)
        tracemalloc.start()
        with pytest.raises(ValueError, match=complaint):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


def test_the_limit_on_values_is_the_callers_to_raise(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    assert read_idx(path, most=24).shape == (2, 3, 4)
    with pytest.raises(
        ValueError, match=r"at most 23 values.*promises 24, .*read_idx\(path, most=24\) reads it"
    ) as caught:
        read_idx(path, most=23)
    assert str(path) in str(caught.value)


@given(st.binary(max_size=80), st.booleans(), st.integers(0, 40), st.integers(0, 255))
@example(b"", False, 3, 4)
def test_no_bytes_give_anything_but_an_array_or_a_value_error(tmp_path_factory, junk, packed, at, value):
    damaged = bytearray(GOOD + junk)
    damaged[at % len(GOOD)] = value
    path = tmp_path_factory.mktemp("fuzz") / "file"
    for content in (junk, bytes(damaged)):
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
        try:
            complaint, array = None, read_idx(path)
        except ValueError as error:
            complaint, array = str(error), None
        assert idx(array) == content if complaint is None else str(path) in complaint


def test_labels_that_do_not_belong_to_the_pictures(tmp_path):
    write_set(tmp_path / "a", 5, labels=[1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"t10k-labels.*expected 5 labels, one a picture, got shape \(4,\)"):
        mnist("validation", tmp_path / "a")
    write_set(tmp_path / "b", 5, labels=[1, 2, 3, 4, 10])
    with pytest.raises(ValueError, match=r"t10k-labels.*expected labels in \[0, 10\).*got 10 at index 4"):
        mnist("validation", tmp_path / "b")
    write_set(tmp_path / "c", 5, size=27)
    with pytest.raises(ValueError, match=r"expected pictures of shape \(N, 28, 28\), got \(5, 27, 27\)"):
        mnist("validation", tmp_path / "c")


def test_unknown_names():
    with pytest.raises(ValueError, match="expected split to be one of train, validation; got 'test'"):
        mnist("test", ".")
    with pytest.raises(ValueError, match="expected one of shapes, mnist, fashion-mnist, cifar-10; got 'imagenet'"):
        load("imagenet")
