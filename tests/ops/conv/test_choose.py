import itertools

import numpy as np
import oracles
import pytest
from checks import assert_sums, same_bits
from fast_conv import Case, Expected, reference
from hypothesis import given
from strategies import LAYOUTS, convolutions

from tinynet.ops.conv import choose, panels, winograd
from tinynet.ops.conv.cook_toom import POINTS


@given(convolutions())
def test_the_reference_of_these_tests_agrees_with_naive_loops(window):
    G, sizes = window.groups, (window.stride, window.padding, window.dilation)
    case = Case(window.N, window.C // G, window.out_channels // G, window.H, window.W, window.kernel_size, *sizes, G)
    x, weight, _, dy = case.arrays()
    naive = oracles.conv2d(x, weight, None, *sizes, G), *oracles.conv2d_backward(x, weight, dy, *sizes, G)[:2]
    squares = reference(case, *(array.astype(np.float64) ** 2 for array in (x, weight, dy)))
    for got, expected, terms, square in zip(reference(case, x, weight, dy), naive, case.terms, squares, strict=True):
        assert_sums(got, expected, terms, square)


CASES = [
    ("winograd", Case(17, 3, 4, 9, 8, (3, 3), (1, 1), (1, 2), groups=2)),
    ("winograd", Case(16, 1, 6, 19, 10, (6, 5), (2, 2), (1, 2))),
    ("panels", Case(17, 3, 4, 9, 8, (3, 3), (1, 1), (1, 2), groups=2)),
    ("panels", Case(15, 2, 3, 9, 8, (3, 2), (2, 3), (0, 4), (1, 2))),
]


@pytest.mark.parametrize("layout", ["C order", "batch innermost", "sliced", "read-only"])
@pytest.mark.parametrize(("algorithm", "case"), CASES)
def test_forward_and_gradients_of_arrays_in_any_layout(algorithm, case, layout):
    x, weight, bias, dy = (LAYOUTS[layout](array) for array in case.arrays())
    before = [array.copy() for array in (x, weight, bias, dy)]
    expected = Expected(case, x, weight, bias, dy, algorithm == "winograd")
    for own, relu in itertools.product((None, bias), (False, True)):
        y = choose.forward(algorithm, x, weight, own, case.output, case.window, case.groups, relu)
        expected.assert_near("y", y, own is not None, relu)
        assert np.moveaxis(y, 0, -1).flags.c_contiguous
    dx = choose.input_gradient(algorithm, dy, weight, x.shape, case.window, case.groups)
    expected.assert_near("dx", dx)
    assert np.moveaxis(dx, 0, -1).flags.c_contiguous
    dweight = choose.weight_gradient(algorithm, x, dy, weight.shape, case.window, case.groups)
    expected.assert_near("dweight", dweight)
    assert all(np.array_equal(array, old) for array, old in zip((x, weight, bias, dy), before, strict=True))


@pytest.mark.parametrize(("algorithm", "other"), [("winograd", panels), ("panels", winograd)])
def test_the_wanted_algorithm_runs(algorithm, other, monkeypatch):
    case = Case(17, 3, 4, 9, 8, (3, 3), (1, 1), (1, 2))
    x, weight, bias, dy = case.arrays()
    for name in ("forward", "input_gradient", "weight_gradient"):
        monkeypatch.setattr(other, name, None)
    y = choose.forward(algorithm, x, weight, bias, case.output, case.window, 1, False)
    assert same_bits(y, choose.forward(algorithm, x, weight, bias, case.output, case.window, 1, False))
    choose.input_gradient(algorithm, dy, weight, x.shape, case.window, 1)
    choose.weight_gradient(algorithm, x, dy, weight.shape, case.window, 1)


def window_of(kernel_size, stride=(1, 1), dilation=(1, 1)):
    return kernel_size, stride, (0, 0), dilation


@pytest.mark.parametrize(
    ("window", "taps"),
    [
        (window_of((3, 3)), 3),
        (window_of((1, 1)), 1),
        (window_of((3, 2)), 0),
        (window_of((11, 11), (4, 4)), 3),
        (window_of((12, 9), (4, 4)), 3),
        (window_of((13, 9), (4, 4)), 0),
        (window_of((3, 6), (1, 2)), 3),
        (window_of((6, 3), (1, 2)), 0),
        (window_of((3, 3), (1, 1), (2, 2)), 0),
        (window_of((3, 3), (1, 1), (1, 2)), 0),
        (window_of((2, 3), (5, 5)), 1),
    ],
)
def test_taps_a_phase(window, taps):
    assert choose.taps_a_phase(window) == taps


@pytest.mark.parametrize("r", range(1, 10))
def test_the_tile_has_points(r):
    for OH, OW, N in ((1, 1, 1), (2, 3, 1), (13, 13, 128), (4, 100, 7)):
        m = choose.tile((N, 8, OH, OW), (8, 4, r, r), window_of((r, r)))
        if 2 <= r <= 7:
            assert m >= 2
            assert m + r - 1 in POINTS
        else:
            assert m == 0


def test_tiles_fit_the_picture():
    """13 = 2 * 5 + 3: tiles of 5 waste less than tiles of 6 would; 2 x 2 outputs want no larger tile."""
    weight, window = (384, 256, 3, 3), window_of((3, 3))
    assert choose.tile((128, 384, 13, 13), weight, window) == 5
    assert choose.tile((128, 384, 2, 2), weight, window) == 2
    assert choose.tile((128, 384, 24, 24), weight, window) == 6


def test_kernels_that_are_kept_make_winograd_pay_for_one_picture():
    one = (1, 192, 13, 13), (1, 384, 13, 13), (384, 192, 3, 3), ((3, 3), (1, 1), (1, 1), (1, 1))
    assert choose.choose(*one) == "panels"
    assert choose.choose(*one, kept=True) == "winograd"
    assert choose.tile(*one[1:], kept=True) == 3  # 25 tiles are two units: one a thread


def test_the_choice():
    """Many channels and pictures pay for the transforms, few do not; what winograd cannot do goes to panels."""
    wide = (128, 192, 13, 13), (128, 384, 13, 13), (384, 192, 3, 3)
    assert choose.choose(*wide, ((3, 3), (1, 1), (1, 1), (1, 1))) == "winograd"
    assert choose.choose(*wide, ((3, 3), (1, 1), (2, 2), (2, 2))) == "panels"
    assert choose.choose((1, 2, 5, 5), (1, 3, 3, 3), (3, 2, 3, 3), window_of((3, 3))) == "panels"
    assert choose.choose((128, 192, 13, 13), (128, 384, 13, 13), (384, 192, 1, 1), window_of((1, 1))) == "panels"
