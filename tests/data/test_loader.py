import numpy as np
import pytest

from tinynet.data import Dataset, Loader, channel_statistics, load, shapes


def small(n=11, channels=2, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, channels, 3, 4), np.uint8)
    return Dataset(images, np.arange(n) % 3, ("a", "b", "c"))


def test_statistics_are_those_of_the_pixels():
    pictures = shapes(50, 17)
    mean, std = channel_statistics(pictures)
    unit = pictures.images / 255
    np.testing.assert_allclose(mean, unit.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, unit.std(axis=(0, 2, 3)), rtol=1e-9)


def test_a_channel_of_one_colour_can_be_divided_by():
    flat = Dataset(np.full((4, 1, 2, 2), 77, np.uint8), np.zeros(4, np.int64), ("only",))
    mean, std = channel_statistics(flat)
    assert std.tolist() == [1.0]
    x, _ = next(Loader(flat, 4, mean=mean, std=std).epoch(0))
    assert np.abs(x).max() < 1e-6


def test_the_input_scale_is_the_documented_one():
    pictures = small()
    mean, std = np.array([0.3, 0.5]), np.array([0.2, 0.4])
    x, labels = next(Loader(pictures, 11, shuffle=False, mean=mean, std=std).epoch(0))
    expected = (pictures.images / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(x, expected, atol=2e-6)
    assert x.dtype == np.float32
    assert labels.dtype == np.int64
    assert x.transpose(1, 2, 3, 0).flags.c_contiguous  # the layers' fast order
    x, _ = next(Loader(pictures, 11, shuffle=False).epoch(0))
    np.testing.assert_allclose(x, pictures.images / 255, atol=1e-6)


def test_every_picture_once_an_epoch_with_its_label():
    pictures = small(50)
    batches = list(Loader(pictures, 8, seed=4).epoch(2))
    assert [len(labels) for _, labels in batches] == [8] * 6 + [2]
    seen = np.concatenate([np.round(x * 255).astype(np.uint8) for x, _ in batches]).reshape(50, -1)
    labels = np.concatenate([labels for _, labels in batches])
    rows = {row.tobytes(): label for row, label in zip(pictures.images.reshape(50, -1), pictures.labels, strict=True)}
    assert {row.tobytes(): label for row, label in zip(seen, labels, strict=True)} == rows


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return [tuple(labels) for _, labels in Loader(shapes(60), 7, seed=seed).epoch(epoch)]

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(*at)) for at in ((1, 3), (1, 4), (2, 3))}) == 3
    still = Loader(small(), 4, shuffle=False)
    assert [labels.tolist() for _, labels in still.epoch(0)] == [labels.tolist() for _, labels in still.epoch(5)]


@pytest.mark.parametrize(("size", "drop_last", "batches"), [(4, False, 3), (4, True, 2), (11, True, 1), (12, True, 0)])
def test_the_number_of_batches(size, drop_last, batches):
    loader = Loader(small(), size, drop_last=drop_last)
    assert len(loader) == len(list(loader.epoch(0))) == batches


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"batch_size": 0}, "expected batch_size to be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "expected batch_size"),
        ({"batch_size": True}, "expected batch_size"),
        ({"batch_size": 2, "mean": [0.5]}, "expected mean to be 2 finite numbers"),
        ({"batch_size": 2, "mean": [0.5, np.nan]}, "expected mean to be 2 finite numbers"),
        ({"batch_size": 2, "std": [0.5, 0.0]}, "expected std above 0"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Loader(small(), **arguments)


def test_load_draws_the_sizes_asked_for():
    train, validation = load("shapes", train_size=30, validation_size=20, image_size=16, seed=2)
    assert (train.images.shape, validation.images.shape) == ((30, 3, 16, 16), (20, 3, 16, 16))
    assert np.array_equal(train.images, shapes(30, 16, 2).images)
    assert np.array_equal(validation.images, shapes(20, 16, 2, "validation").images)


def test_load_takes_the_first_pictures_of_a_set_of_files(shared_data):
    train, validation = load("mnist", shared_data, train_size=30, validation_size=20)
    assert (len(train), len(validation)) == (30, 20)
    with pytest.raises(ValueError, match=r"expected train_size to be a whole number in \[1, 60000\], got 60001"):
        load("mnist", shared_data, train_size=60_001)


def test_a_loader_is_read_by_epochs():
    with pytest.raises(TypeError, match=r"for x, labels in loader\.epoch\(0\)"):
        iter(Loader(small(), 4))
