import numpy as np
import pytest

from tinynet import data
from tinynet.data import NAMES, Dataset, known_name

IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 3, 2, 2)
LABELS = np.array([0, 1, 1, 0, 1])


def test_what_it_tells():
    pictures = Dataset(np.zeros((5, 3, 2, 7), np.uint8), LABELS, ("cat", "dog"))
    assert (len(pictures), pictures.channels, pictures.image_size) == (5, 3, (2, 7))


@pytest.mark.parametrize("indices", [slice(1, 4), [3, 0], np.array([True, False, True, False, False])])
def test_subset(indices):
    part = Dataset(IMAGES, LABELS, ("cat", "dog")).subset(indices)
    assert np.array_equal(part.images, IMAGES[indices])
    assert np.array_equal(part.labels, LABELS[indices])
    assert part.classes == ("cat", "dog")


def test_subset_outside_of_the_set():
    with pytest.raises(IndexError, match="5"):
        Dataset(IMAGES, LABELS, ("cat", "dog")).subset([5])


@pytest.mark.parametrize(
    ("images", "labels", "classes", "kind", "complaint"),
    [
        (IMAGES / 255, LABELS, ("a", "b"), TypeError, "expected images as a NumPy array of uint8, got float64"),
        (IMAGES.tolist(), LABELS, ("a", "b"), TypeError, "expected images as a NumPy array of uint8, got list"),
        (
            IMAGES,
            LABELS.astype(np.uint8),
            ("a", "b"),
            TypeError,
            "expected labels as a NumPy array of int64, got uint8",
        ),
        (IMAGES[:, 0], LABELS, ("a", "b"), ValueError, r"expected images of shape \(N, C, H, W\).*got \(5, 2, 2\)"),
        (IMAGES[:0], LABELS[:0], ("a", "b"), ValueError, "no size 0"),
        (IMAGES, LABELS[:4], ("a", "b"), ValueError, r"expected labels of shape \(5,\), one an image, got \(4,\)"),
        (IMAGES, LABELS, ("a",), ValueError, r"expected labels in \[0, 1\).*got 1 at index 1"),
        (IMAGES, LABELS - 1, ("a", "b"), ValueError, r"got -1 at index 0"),
        (IMAGES, LABELS, ["a", "b"], TypeError, "expected classes as a tuple of names"),
    ],
)
def test_what_does_not_fit_is_refused(images, labels, classes, kind, complaint):
    with pytest.raises(kind, match=complaint):
        Dataset(images, labels, classes)


def test_it_shows_its_size_and_not_its_pixels():
    assert repr(Dataset(IMAGES, LABELS, ("cat", "dog"))) == "Dataset(5 pictures of 3 x 2 x 2, 2 classes)"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *((name, name) for name in NAMES),
        ("MNIST", "mnist"),
        ("cifar10", "cifar-10"),
        ("CIFAR-10", "cifar-10"),
        ("CIFAR_10", "cifar-10"),
        ("FashionMNIST", "fashion-mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("Fashion MNIST", "fashion-mnist"),
        ("Shapes", "shapes"),
        ("imagenet", None),
        ("cifar-100", None),
        ("", None),
    ],
)
def test_names_of_sets_in_any_usual_spelling(said, meant):
    assert known_name(said) == meant


def test_a_set_is_loaded_by_any_spelling_of_its_name(tmp_path):
    usual, other = (data.load(name, train_size=3, validation_size=2)[0] for name in ("shapes", "SHAPES"))
    np.testing.assert_array_equal(usual.images, other.images)
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz"):
        data.load("MNIST", tmp_path)
    for wrong in ("imagenet", 3):
        with pytest.raises(ValueError, match="expected one of shapes, mnist, fashion-mnist, cifar-10; got"):
            data.load(wrong)
