"""From a picture to x: what a weights file tells of it, and that it is what the cache and the loader do."""

import numpy as np
import pytest
from PIL import Image

from tinynet import data
from tinynet.data.photo.decode import PictureError
from tinynet.training.preprocessing import Preprocessing, pack_mean, stored_size, unpack_mean
from training.album import scene, turned

ABOUT = {"image_size": 32, "in_channels": 3, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "classes": ["a", "b"]}


def preprocessing(**changes):
    return Preprocessing.of(ABOUT | {"stored_size": 37} | changes)


# what a weights file tells


def test_a_file_that_tells_all():
    made = preprocessing(stored_size=40)
    assert (made.image_size, made.stored_size, made.in_channels, made.classes) == (32, 40, 3, ("a", "b"))
    np.testing.assert_array_equal(made.mean, [0.5, 0.4, 0.3])
    np.testing.assert_array_equal(made.std, [0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("kind", "image_size", "stored"),
    [
        *[("photos", 227, 256), ("photos", 224, 256), ("photos", 64, 73), ("photos", 32, 37)],
        *[("shapes", 32, 32), ("shapes", 227, 227), ("cifar-10", 32, 32), ("cifar-10", 28, 32)],
        *[("mnist", 28, 28), ("fashion-mnist", 28, 28)],
    ],
)
def test_the_stored_size_of_an_older_file_follows_from_its_kind_of_data(kind, image_size, stored):
    grey = {"in_channels": 1, "mean": [0.1], "std": [0.3]} if "mnist" in kind else {}
    made = Preprocessing.of(ABOUT | grey | {"data_kind": kind, "image_size": image_size})
    assert made.stored_size == stored
    if kind == "photos":
        assert stored_size(image_size) == stored


def test_a_mean_picture_tells_the_stored_size_too():
    mean = np.random.default_rng(0).random((3, 50, 50)).astype(np.float32)
    made = Preprocessing.of(ABOUT | {"mean": pack_mean(mean)})
    assert made.stored_size == 50
    np.testing.assert_array_equal(made.mean, mean.astype(np.float64))


def test_packed_means_come_back():
    for mean in (np.array([0.25, 0.5]), np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 7):
        np.testing.assert_array_equal(unpack_mean(pack_mean(mean)), mean)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "got no image_size, in_channels, mean, std, classes in their metadata: were they written by another"),
        ({k: v for k, v in ABOUT.items() if k != "std"}, "got no std in their metadata"),
        (ABOUT, r"whose data_kind is one of shapes, mnist, .*photos, or that tell stored_size; got None"),
        (ABOUT | {"data_kind": "sounds"}, "got 'sounds'"),
        (ABOUT | {"stored_size": 31}, "expected stored_size of at least image_size, 32; got 31"),
        (ABOUT | {"stored_size": "37"}, "expected stored_size as a whole number of at least 1, got '37'"),
        (ABOUT | {"stored_size": 37, "in_channels": 2}, "expected in_channels as 1, grey, or 3, colour; got 2"),
        (ABOUT | {"stored_size": 37, "mean": [0.5]}, r"expected mean as 3 numbers, or a picture \(3, 37, 37\); got"),
        (ABOUT | {"stored_size": 37, "std": [0.2, 0.2, 0.0]}, "expected std as 3 numbers, above 0"),
        (ABOUT | {"stored_size": 37, "mean": {"float32": 3}}, "metadata of a run's weights, got some that are odd"),
        (ABOUT | {"stored_size": 37, "mean": {"shape": [3, 9, 9], "float32": ""}}, "cannot reshape"),
        (ABOUT | {"stored_size": 37, "classes": []}, r"expected classes as a tuple of names, each once, got \[\]"),
        (ABOUT | {"stored_size": 37, "classes": "cat"}, "expected classes as a tuple of names, each once, got 'cat'"),
        (ABOUT | {"stored_size": 37, "classes": ["cat", "cat"]}, "expected classes as a tuple of names, each once"),
        (ABOUT | {"stored_size": 37, "classes": 4}, "expected classes as a tuple of names, each once, got 4"),
        (ABOUT | {"stored_size": 37, "std": {}}, "got some that are odd"),
    ],
)
def test_metadata_that_do_not_serve(metadata, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.of(metadata)


# the pixels


@pytest.mark.parametrize("size", [37, 73, 256])
def test_pixels_are_those_of_the_cache(album, size):
    mine = Preprocessing.of(ABOUT | {"stored_size": size})
    cached = data.all_photos(album, size=size).dataset
    assert len(cached) == 14
    files = sorted(path for path in album.glob("*/*") if path.suffix != ".txt" and path.stem != "broken")
    for path, image in zip(files, cached.images, strict=True):
        np.testing.assert_array_equal(mine.read(path), image, err_msg=str(path))


def test_an_image_that_pillow_opened_or_made(album):
    mine = preprocessing()
    for path in sorted(album.glob("*/*")):
        if path.suffix != ".txt" and path.stem not in ("broken", "large and turned"):
            with Image.open(path) as image:
                np.testing.assert_array_equal(mine.picture(image), mine.read(path), err_msg=str(path))
                np.testing.assert_array_equal(mine.picture(image), mine.read(path), err_msg="a second time")
    with Image.open(album / "dogs" / "large and turned.jpg") as image:
        difference = mine.picture(image).astype(int) - mine.read(image.filename)
        assert 0 < np.abs(difference).mean() < 2  # decoded whole, and not at an eighth
    with Image.open(album / "cats" / "turned 6.jpg") as image:
        assert image.size == (140, 96)
        upright = Image.fromarray(np.asarray(image.transpose(Image.Transpose.ROTATE_270)))
    np.testing.assert_array_equal(mine.picture(upright), mine.read(album / "cats" / "turned 6.jpg"))


def test_arrays():
    mine, pixels = preprocessing(), scene(90, 60, 1)
    np.testing.assert_array_equal(mine.picture(pixels.transpose(2, 0, 1)), mine.picture(Image.fromarray(pixels)))
    grey = pixels[:, :, 0]
    np.testing.assert_array_equal(mine.picture(grey[None]), mine.picture(Image.fromarray(grey)))
    stored = mine.picture(Image.fromarray(pixels))
    assert mine.picture(stored) is stored
    with pytest.raises(ValueError, match=r"got \(90, 60, 3\); .transpose\(2, 0, 1\) puts the channels first"):
        mine.picture(pixels)
    with pytest.raises(ValueError, match=r"\(1, H, W\) or \(3, H, W\), got \(90, 60\)$"):
        mine.picture(grey)
    with pytest.raises(TypeError, match="expected a picture's pixels as uint8, got float64"):
        mine.picture(stored / 255)
    with pytest.raises(PictureError, match="the image: 3 x 7 pixels; each side must have 8"):
        mine.picture(pixels[:7, :3].transpose(2, 0, 1))


def test_grey_nets_get_grey_by_itu_r_601(tmp_path):
    mine = Preprocessing.of(
        ABOUT | {"in_channels": 1, "mean": [0.1], "std": [0.3], "data_kind": "mnist", "image_size": 28}
    )
    R, G, B = np.moveaxis(scene(28, 28, 5).astype(np.float64), 2, 0)
    Image.fromarray(scene(28, 28, 5)).save(tmp_path / "colour.png")
    grey = mine.read(tmp_path / "colour.png")
    assert grey.shape == (1, 28, 28)
    np.testing.assert_allclose(grey[0], 0.299 * R + 0.587 * G + 0.114 * B, rtol=0, atol=0.51)
    digit = np.arange(784, dtype=np.uint8).reshape(28, 28)  # every value
    Image.fromarray(digit).save(tmp_path / "digit.png")
    np.testing.assert_array_equal(mine.read(tmp_path / "digit.png")[0], digit)


def test_files_that_are_no_picture(album, tmp_path):
    mine = preprocessing()
    with pytest.raises(PictureError, match=r"broken\.jpg: "):
        mine.read(album / "cats" / "broken.jpg")
    with pytest.raises(PictureError, match=r"gone\.jpg: cannot be opened: No such file"):
        mine.read(tmp_path / "gone.jpg")
    Image.new("RGB", (7, 30)).save(tmp_path / "thin.png")
    with pytest.raises(PictureError, match=r"thin\.png: 7 x 30 pixels; each side must have 8"):
        mine.read(tmp_path / "thin.png")
    cut = tmp_path / "cut.jpg"
    turned(cut, scene(200, 200, 3), 1)
    cut.write_bytes(cut.read_bytes()[:2000])
    with Image.open(cut) as image, pytest.raises(PictureError, match=r"cut\.jpg: damaged or cut short"):
        mine.picture(image)


# the batches


def test_the_loader_is_the_one_that_training_validates_with(album):
    mine = preprocessing()
    dataset = data.all_photos(album, size=37).dataset
    scale = {"mean": ABOUT["mean"], "std": ABOUT["std"]}
    for ten_crop, view, size in ((False, data.CentreCrop(32), 6), (True, data.TenCrop(32), 2)):
        usual = data.Loader(dataset, size, shuffle=False, view=view, **scale)
        batches = list(mine.loader(dataset, 6 if size == 6 else 29, ten_crop=ten_crop).epoch(0))
        for (x, labels), (own, mine_labels) in zip(usual.epoch(0), batches, strict=True):
            np.testing.assert_array_equal(own, x)
            np.testing.assert_array_equal(mine_labels, labels)
    assert mine.loader(dataset, 3, ten_crop=True).batch_size == 1  # no batch without a picture


def test_sets_of_another_shape_are_prepared(album):
    mine = preprocessing()
    large = data.all_photos(album, size=64).dataset
    prepared = mine.prepared(large)
    assert prepared.images.shape == (14, 3, 37, 37)
    np.testing.assert_array_equal(prepared.labels, large.labels)
    np.testing.assert_array_equal(prepared.images[5], mine.picture(large.images[5]))
    assert mine.prepared(prepared) is prepared


def test_differences_are_named():
    one = preprocessing()
    assert one == preprocessing()
    assert one.differences(preprocessing(std=[0.2, 0.2, 0.3], stored_size=38)) == ["stored_size", "std"]
    assert one.differences(preprocessing(classes=["b", "a"])) == ["classes"]
    assert one != "another thing"
    assert repr(one) == (
        "Preprocessing(shorter side 37, crops 3 x 32 x 32, mean [0.5, 0.4, 0.3], std [0.2, 0.2, 0.2], 2 classes)"
    )
