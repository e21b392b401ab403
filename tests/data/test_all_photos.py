"""Every picture of a folder in one set, beside the division that training made of the same folder."""

import os

import numpy as np
import pytest
from PIL import Image

from tinynet import data, random
from tinynet.data.photo import cache_build
from tinynet.data.photo.decode import read_square

SIZE = 12


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))


def paint(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.uniform((20, 16 + seed % 5, 3), seed, "test picture", high=256).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        paint(tmp_path / "album" / "cat" / f"{i}.png", i)
    for i in range(3):
        paint(tmp_path / "album" / "dog" / f"{i}.png", 10 + i)
    (tmp_path / "album" / "dog" / "broken.png").write_bytes(b"\x89PNG and no more")
    return tmp_path / "album"


def contents(place):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in place.rglob("*.npy")}


def test_all_are_there_in_the_order_of_classes_and_paths(folder):
    found = data.all_photos(folder, size=SIZE)
    assert found.dataset.classes == ("cat", "dog")
    assert found.dataset.labels.tolist() == [0] * 5 + [1] * 3
    files = [*(folder / "cat" / f"{i}.png" for i in range(5)), *(folder / "dog" / f"{i}.png" for i in range(3))]
    np.testing.assert_array_equal(found.dataset.images, [read_square(path, SIZE) for path in files])
    assert [entry.path for entry in found.skipped] == [folder / "dog" / "broken.png"]
    again = data.all_photos(folder, size=SIZE)
    assert again.digest == found.digest != data.photos(folder, size=SIZE).digest


def test_the_division_of_training_stays_and_what_it_decoded_is_taken(folder, tmp_path, monkeypatch):
    divided = data.photos(folder, size=SIZE)
    before = contents(tmp_path / "cache")
    assert before
    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "read_square", lambda *args: pytest.fail("decoded again"))
        found = data.all_photos(folder, size=SIZE)
        after = contents(tmp_path / "cache")
        assert before.items() < after.items()  # bytes and times
        again = data.photos(folder, size=SIZE)
    assert contents(tmp_path / "cache") == after
    assert again.digest == divided.digest
    both = np.concatenate([divided.train.images, divided.validation.images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in found.dataset.images)


def test_a_changed_file_is_read_anew(folder):
    data.photos(folder, size=SIZE)
    before = data.all_photos(folder, size=SIZE)
    paint(folder / "cat" / "2.png", 99)
    os.utime(folder / "cat" / "2.png", ns=(1, 1))
    after = data.all_photos(folder, size=SIZE)
    np.testing.assert_array_equal(after.dataset.images[2], read_square(folder / "cat" / "2.png", SIZE))
    assert before.digest != after.digest


def test_classes_with_one_picture_with_none_and_alone(tmp_path):
    paint(tmp_path / "one" / "cat" / "a.png", 1)
    found = data.all_photos(tmp_path / "one", size=SIZE)
    assert (found.dataset.classes, len(found.dataset)) == (("cat",), 1)
    (tmp_path / "one" / "bird").mkdir()
    found = data.all_photos(tmp_path / "one", size=SIZE)
    assert (found.dataset.classes, found.dataset.labels.tolist()) == (("bird", "cat"), [1])
    with pytest.raises(ValueError, match=r"expected pictures in .*bird"):
        data.photos(tmp_path / "one", size=SIZE)


def test_both_halves_of_a_folder_that_has_them(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for i in range(count):
            paint(tmp_path / "album" / part / "cat" / f"{i}.png", i)
            paint(tmp_path / "album" / part / "dog" / f"{i}.png", 20 + i)
    assert len(data.photos(tmp_path / "album", size=SIZE).validation) == 4
    assert len(data.all_photos(tmp_path / "album", size=SIZE).dataset) == 10
    assert len(data.all_photos(tmp_path / "album" / "test", size=SIZE).dataset) == 4


def test_what_it_cannot_use(tmp_path, folder):
    with pytest.raises(ValueError, match=r"all_photos: expected size to be a whole number in \[8, 1024\], got 7"):
        data.all_photos(folder, size=7)
    with pytest.raises(FileNotFoundError, match="got nothing there"):
        data.all_photos(tmp_path / "gone", size=SIZE)
    (tmp_path / "bad" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"expected pictures that can be read in .*bad, got 0$"):
        data.all_photos(tmp_path / "bad", size=SIZE)
    (tmp_path / "bad" / "cat" / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad, got 1 that cannot, such as 'cat/a.png': an empty file"):
        data.all_photos(tmp_path / "bad", size=SIZE)
    paint(tmp_path / "half" / "test" / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"got test alone; give .*test$"):
        data.all_photos(tmp_path / "half", size=SIZE)
    (tmp_path / "loose").mkdir()
    paint(tmp_path / "loose" / "a.png")
    with pytest.raises(ValueError, match="1 files without class folders"):
        data.all_photos(tmp_path / "loose", size=SIZE)


def test_labels_by_name():
    images = np.zeros((4, 1, 2, 2), np.uint8)
    pictures = data.Dataset(images, np.array([0, 1, 1, 0]), ("cat", "dog"))
    mapped = pictures.in_classes(["dog", "ant", "cat"])
    assert (mapped.classes, mapped.labels.tolist()) == (("dog", "ant", "cat"), [2, 0, 0, 2])
    assert mapped.images is images
    assert pictures.in_classes(("cat", "dog")) is pictures
    with pytest.raises(ValueError, match=r"expected pictures of the classes 'cat', 'ant', got some of 'dog'"):
        pictures.in_classes(["cat", "ant"])
    cats = data.Dataset(images, np.array([0] * 4), ("cat", "dog"))
    assert cats.in_classes(["cat"]).labels.tolist() == [0] * 4  # no picture is of a class that is not known
