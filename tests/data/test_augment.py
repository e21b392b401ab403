import numpy as np
import pytest
from checks import assert_close
from hypothesis import given
from hypothesis import strategies as st

from tinynet import random
from tinynet.data import Dataset, Loader, shapes
from tinynet.data.augment import Augment, CentreCrop, TenCrop, colour_components

PIXELS = {"dtype": np.float32, "terms": 6}  # gain, shift and mean are rounded, and so are a product and two sums

SHAPE = (4000, 3, 9, 12)


def pictures(n=20, channels=3, size=(9, 12)):
    images = random.bits((n, channels, *size), 1, "test pictures").astype(np.uint8)
    return Dataset(images, np.arange(n) % 4, ("a", "b", "c", "d"))


def colour(channels=3):
    std = np.arange(channels, 0, -1) / 8
    return std, np.linalg.qr(random.normal((channels, channels), 3, "directions"))[0]


def test_every_place_is_equally_likely_and_no_other_is_drawn():
    crops = Augment(8, padding=2).draw(SHAPE, 5, 0)
    # padded picture 13 x 16: tops -2 ... 3 and lefts -2 ... 6
    for drawn, places in ((crops.top[0], range(-2, 4)), (crops.left[0], range(-2, 7))):
        counts = [int((drawn == place).sum()) for place in places]
        assert sum(counts) == 4000
        share = 4000 / len(places)
        assert all(abs(count - share) < 5 * share**0.5 for count in counts)
    assert abs(int(crops.flip.sum()) - 2000) < 5 * 1000**0.5
    pairs = crops.top[0] * 2 + crops.flip[0]
    assert len(np.unique(pairs)) == 12  # place and mirror are drawn apart
    assert abs(np.corrcoef(crops.top[0], crops.left[0])[0, 1]) < 5 / 4000**0.5


def test_the_streams_are_the_documented_ones():
    crops = Augment(8, padding=2).draw(SHAPE, 5, 7)
    places = random.bits((4000, 2), 5, "crop", 7) / 2**32 * [13 - 8 + 1, 16 - 8 + 1]
    assert np.array_equal(np.floor(places).T - 2, [crops.top[0], crops.left[0]])
    assert np.array_equal(crops.flip[0], random.bits(4000, 5, "mirror", 7) >= 2**31)


def test_a_single_place_and_no_mirror():
    crops = Augment(9, mirror=False).draw((50, 3, 9, 9), 0, 0)
    assert not crops.top.any()
    assert not crops.left.any()
    assert not crops.flip.any()
    assert not crops.shift.any()


@given(st.integers(1, 60), st.integers(0, 2**64 - 1), st.integers(0, 100))
def test_a_pictures_view_depends_on_seed_epoch_and_its_number_alone(count, seed, epoch):
    view = Augment(5, padding=3, colour_noise=0.3, colour=colour())
    few, many = (view.draw((n, 3, 9, 12), seed, epoch) for n in (count, 61))
    for one, other in zip(few, many, strict=True):
        assert np.array_equal(one, other[:, :count])


def test_every_seed_and_epoch_draws_its_own():
    view = Augment(5, padding=3, colour_noise=0.3, colour=colour())
    for part in range(4):
        draws = [view.draw((500, 3, 9, 12), *at)[part].tobytes() for at in ((0, 0), (0, 1), (1, 0))]
        assert len(set(draws)) == 3


def test_colour_noise_has_the_covariance_of_its_components():
    std, directions = colour()
    shift = Augment(5, colour_noise=0.4, colour=(std, directions)).draw((100_000, 3, 9, 12), 1, 2).shift[0]
    expected = directions @ np.diag((0.4 * std) ** 2) @ directions.T
    np.testing.assert_allclose(np.cov(shift.T), expected, atol=0.02 * expected.max())  # 100,000 draws: 0.0045 as a rule
    assert np.abs(shift.mean(axis=0)).max() < 5 * 0.4 * std[0] / 100_000**0.5


def test_components_are_those_of_the_pixels(monkeypatch):
    train = pictures(31)
    train.images[:, 1] //= 3
    pixels = train.images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    expected = np.cov(pixels, bias=True)
    for chunk in (1 << 17, 250):  # all at once; two pictures at a time
        monkeypatch.setattr("tinynet.data.augment.CHUNK", chunk)
        std, directions = colour_components(train)
        assert_close(directions @ np.diag(std**2) @ directions.T, expected, terms=pixels.shape[1])  # of each sum
        assert_close(directions.T @ directions, np.eye(3))
        assert std[0] > std[1] > std[2] > 0


def test_components_of_a_large_set_come_from_pictures_all_over_it(monkeypatch):
    train = pictures(30)
    monkeypatch.setattr("tinynet.data.augment.MAX_PICTURES", 7)
    monkeypatch.setattr("tinynet.data.augment.CHUNK", 3 * 9 * 12)
    chosen = [0, 4, 8, 12, 17, 21, 25]
    for found, expected in zip(colour_components(train), colour_components(train.subset(chosen)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_signs_are_fixed_and_a_tie_goes_to_the_first_channel():
    _, directions = colour_components(shapes(40, 16))
    for column in directions.T:
        assert column[np.argmax(np.abs(column) >= 0.9 * np.abs(column).max())] > 0
    near = np.array([[[0, 190]], [[200, 0]]], np.uint8)[None]  # (190, -200): the first is near enough to the largest
    _, directions = colour_components(Dataset(near, np.zeros(1, np.int64), ("x",)))
    assert_close(directions[:, 0], np.array([190, -200]) / np.hypot(190, 200))
    two = np.zeros((2, 2, 1, 2), np.uint8)
    two[0, 0, 0, 0] = two[0, 1, 0, 1] = 200  # the channels are each other's opposite: the directions are (1, ±1)
    std, directions = colour_components(Dataset(two, np.zeros(2, np.int64), ("x",)))
    assert_close(directions * 2**0.5, np.array([[1, 1], [-1, 1]]))
    assert std[0] > std[1] > 0


def test_grey_pictures_have_one_direction_whatever_their_channels():
    grey = pictures(6, channels=1)
    std, directions = colour_components(grey)
    assert directions.tolist() == [[1.0]]
    assert_close(std[0] ** 2, (grey.images / 255).var(), terms=grey.images.size)
    std, directions = colour_components(Dataset(grey.images.repeat(3, axis=1), grey.labels, grey.classes))
    assert std[1:].tolist() == [0, 0]
    assert_close(directions[:, 0], np.full(3, 3**-0.5))


def test_centre_crop_is_the_middle():
    train = pictures(3)
    x, _ = next(Loader(train, 3, shuffle=False, view=CentreCrop(6)).epoch(0))
    assert_close(x, train.images[:, :, 1:7, 3:9] / 255, **PIXELS)


def test_ten_crops_in_their_order():
    train = pictures(3)
    x, labels = next(Loader(train, 3, shuffle=False, view=TenCrop(6)).epoch(0))
    assert x.shape == (30, 3, 6, 6)
    assert labels.tolist() == [0, 1, 2]
    unit = train.images / 255
    five = [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]
    for v, (top, left) in enumerate(five):
        expected = unit[:, :, top : top + 6, left : left + 6]
        assert_close(x[3 * v : 3 * v + 3], expected, **PIXELS)
        assert_close(x[3 * v + 15 : 3 * v + 18], expected[..., ::-1], **PIXELS)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Augment(0), "Augment: expected size as a whole number of at least 1, got 0"),
        (lambda: Augment(2.0), "expected size"),
        (lambda: CentreCrop(True), "CentreCrop: expected size"),
        (lambda: TenCrop(-1), "TenCrop: expected size"),
        (lambda: Augment(4, padding=-1), "expected padding as a whole number of at least 0, got -1"),
        (lambda: Augment(4, colour_noise=-0.1), "expected colour_noise as a finite number"),
        (lambda: Augment(4, colour_noise=float("nan")), "expected colour_noise as a finite number"),
        (lambda: Augment(4, colour_noise=0.1), r"use colour=colour_components\(train_set\)"),
        (lambda: Augment(4, colour=colour()[::-1]), r"expected colour as \(std \(C,\), directions \(C, C\)\)"),
        (lambda: Augment(4, colour=(np.ones(2), np.full((2, 2), np.nan))), "all finite"),
        (lambda: Loader(pictures(), 4, view=Augment(4, colour_noise=0.1, colour=colour(2))), "pictures of 2 channels"),
        (lambda: Loader(pictures(), 4, view=Augment(14, padding=2)), "a size of at most 13 for pictures of 9 x 12"),
        (lambda: Loader(pictures(), 4, view=CentreCrop(10)), "CentreCrop: expected a size of at most 9"),
        (lambda: Loader(pictures(), 4, view=TenCrop(10)), "take a smaller size or larger pictures"),
    ],
)
def test_wrong_arguments_say_what_was_expected(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_the_largest_size_that_fits_is_taken():
    assert Loader(pictures(), 4, view=Augment(13, padding=2)).size == (13, 13)
    assert Loader(pictures(), 4, view=TenCrop(9)).size == (9, 9)
