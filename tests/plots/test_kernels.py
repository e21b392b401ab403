import numpy as np
import pytest
from checks import assert_close

from plots.layout import assert_nothing_is_clipped
from tinynet.plots import first_layer_kernels
from tinynet.plots.kernels import GAP, SHEET


def sheets(figure):
    return [axes.images[0].get_array() for axes in figure.axes]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_kernel_fills_the_range_and_stands_in_its_tower(channels):
    weight = np.random.default_rng(0).normal(5, 2, (20, channels, 3, 4)).astype(np.float32)  # H ≠ W
    figure = first_layer_kernels(weight)
    assert [axes.get_title() for axes in figure.axes] == ["tower 1: kernels 1 to 10", "tower 2: kernels 11 to 20"]
    for tower, sheet in enumerate(sheets(figure)):
        assert sheet.shape == (2 * (3 + GAP) + GAP, 8 * (4 + GAP) + GAP, 3)
        for i in range(10):
            kernel = weight[10 * tower + i]
            scaled = (kernel - kernel.min()) / (kernel.max() - kernel.min())
            top, left = GAP + i // 8 * (3 + GAP), GAP + i % 8 * (4 + GAP)
            drawn = sheet[top : top + 3, left : left + 4]
            assert_close(drawn, np.broadcast_to(scaled.transpose(1, 2, 0), (3, 4, 3)), np.float32, terms=2 * 3)
        np.testing.assert_array_equal(sheet[0], np.tile(SHEET, (len(sheet[0]), 1)))  # the gaps
        np.testing.assert_array_equal(sheet[-3, -2], SHEET)  # the places left over
    assert_nothing_is_clipped(figure)


def test_a_constant_kernel_is_grey_and_the_weight_unchanged():
    weight = np.zeros((2, 3, 5, 5), np.float32)
    weight[1, :, 2, 2] = -1e-30
    before = weight.copy()
    first, second = sheets(first_layer_kernels(weight))
    assert (first[GAP:-GAP, GAP:-GAP] == 0.5).all()
    assert (second[GAP:-GAP, GAP:-GAP].min(), second[GAP:-GAP, GAP:-GAP].max()) == (0, 1)
    np.testing.assert_array_equal(weight, before)


def test_the_papers_96_kernels_are_two_blocks_of_three_rows():
    figure = first_layer_kernels(np.random.default_rng(0).normal(size=(96, 3, 11, 11)))
    assert [sheet.shape for sheet in sheets(figure)] == [(3 * 12 + 1, 16 * 12 + 1, 3)] * 2
    assert_nothing_is_clipped(figure)


def test_a_single_tower():
    figure = first_layer_kernels(np.random.default_rng(0).normal(size=(5, 1, 3, 3)), towers=1)
    assert [axes.get_title() for axes in figure.axes] == ["kernels 1 to 5"]


@pytest.mark.parametrize(
    ("shape", "towers", "message"),
    [
        ((8, 2, 3, 3), 2, r"C = 1 \(grey\) or 3 \(RGB\), got \(8, 2, 3, 3\)"),
        ((8, 3, 3), 2, r"expected weight of shape \(O, C, KH, KW\).*, got \(8, 3, 3\)"),
        ((0, 3, 3, 3), 2, r"got \(0, 3, 3, 3\)"),
        ((7, 3, 3, 3), 2, "expected towers to divide 7 kernels, got towers=2"),
        ((8, 3, 3, 3), 0, "got towers=0"),
    ],
)
def test_what_cannot_be_drawn(shape, towers, message):
    with pytest.raises(ValueError, match=message):
        first_layer_kernels(np.ones(shape), towers)


def test_weights_that_are_not_finite_cannot_be_drawn():
    with pytest.raises(ValueError, match="expected finite weights"):
        first_layer_kernels(np.full((2, 1, 3, 3), np.nan))
