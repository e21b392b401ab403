import numpy as np
import pytest
from checks import assert_close

from plots.layout import assert_all_in_place, images, words
from plots.pictures import as_drawn, some_pictures
from tinynet.plots import augmentation_sheet

ORIGINALS = some_pictures(2, 3, 6, 9)
MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.1, 0.3])


def versions(mean, pictures=ORIGINALS):
    """Three epochs: crops of 4 x 5 at (0, 0), (1, 2) and (2, 4), as a Loader gives them."""
    cut = [pictures[:, :, top : top + 4, 2 * top : 2 * top + 5] for top in range(3)]
    return (np.array(cut) / 255 - mean) / STD[:, None, None], np.array(cut)


def test_mean_and_std_are_undone():
    x, cut = versions(MEAN[:, None, None])
    figure = augmentation_sheet(ORIGINALS, x.astype(np.float32), MEAN, STD)
    drawn = images(figure)
    for p in range(2):
        np.testing.assert_array_equal(drawn[4 * p], as_drawn(ORIGINALS[p]))
        for e in range(3):
            assert_close(
                drawn[4 * p + 1 + e], as_drawn(cut[e, p]) / 255, np.float32, terms=5
            )  # x, mean, std, two results
    assert words(figure) == [
        *("in the data set", "6 × 9", "as the net sees it", "4 × 5", "epoch 1", "epoch 2", "epoch 3")
    ]
    assert_all_in_place(figure)


def test_of_a_mean_picture_the_middle_is_added():
    mean = np.arange(3 * 6 * 9).reshape(3, 6, 9) / 200
    x, cut = versions(mean[:, 1:5, 2:7])
    assert_close(images(augmentation_sheet(ORIGINALS, x, mean, STD))[2], as_drawn(cut[1, 0]) / 255, terms=5)


def test_what_leaves_the_range_is_cut_off_and_numbers_may_be_single():
    x = np.linspace(-2, 2, 12).reshape(1, 2, 1, 2, 3)
    figure = augmentation_sheet(some_pictures(2, 1), x, 0.5, 0.25)
    drawn = np.array([images(figure)[i][..., 0] for i in (1, 3)])
    np.testing.assert_allclose(drawn, np.clip(x[0, :, 0] / 4 + 0.5, 0, 1))
    assert [image.get_clim() for image in figure.axes[0].images] == [(0, 255), (0, 1)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"originals": ORIGINALS / 2}, "expected originals as uint8"),
        (
            {"versions": np.zeros((3, 1, 3, 4, 5))},
            r"expected versions of shape \(E, 2, 3, h, w\).*got \(3, 1, 3, 4, 5\)",
        ),
        ({"versions": np.zeros((2, 3, 4, 5))}, r"got \(2, 3, 4, 5\)"),
        ({"versions": np.full((3, 2, 3, 4, 5), np.nan)}, "expected finite numbers"),
        ({"mean": [0.5, 0.5]}, r"expected mean as a number or of shape \(3,\) or \(3, 6, 9\), got shape \(2,\)"),
        ({"std": np.ones((3, 6, 9))}, r"expected std as a number or of shape \(3,\), got shape \(3, 6, 9\)"),
        ({"std": [1, 0, 1]}, r"expected std above 0, got \[1, 0, 1\]"),
        (
            {"versions": np.zeros((1, 2, 3, 8, 9)), "mean": np.zeros((3, 6, 9))},
            "expected versions within the mean picture, 6 x 9; got 8 x 9",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fitting = {"originals": ORIGINALS, "versions": np.zeros((3, 2, 3, 4, 5)), "mean": MEAN, "std": STD}
    with pytest.raises(ValueError, match=f"augmentation_sheet: .*{message}"):
        augmentation_sheet(**(fitting | change))
