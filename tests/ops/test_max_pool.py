import numpy as np
import oracles
from hypothesis import example, given
from strategies import Filling, Window, fillings, numbers, poolings

from tinynet.ops.max_pool import max_pool_backward, max_pool_forward


@given(poolings(), fillings)
@example(Window(2, 3, 7, 8, (3, 2), (2, 1), (1, 1), ceil_mode=True), Filling(np.float32, "transposed"))
def test_place_is_where_the_maximum_was(window, filling):
    x = np.round(filling.x(window.shape))  # with ties: the first of equals
    expected = oracles.max_pool(x, window.kernel_size, window.stride, window.padding, window.ceil_mode)
    y, place = max_pool_forward(x, expected.shape[2:], window.kernel_size, window.stride, window.padding)
    assert np.array_equal(y, expected)
    KH, KW = window.kernel_size
    for n, c, i, j in np.ndindex(y.shape):
        top, left = i * window.stride[0] - window.padding[0], j * window.stride[1] - window.padding[1]
        kh, kw = divmod(int(place[c, i, j, n]), KW)
        assert x[n, c, top + kh, left + kw] == y[n, c, i, j]
        before = [(h, w) for h in range(KH) for w in range(KW) if (h, w) < (kh, kw)]
        inside = [(top + h, left + w) for h, w in before if 0 <= top + h < window.H and 0 <= left + w < window.W]
        assert all(x[n, c, h, w] < y[n, c, i, j] for h, w in inside)


def test_backward_reads_places_alone():
    place = np.array([3, 0], np.uint8).reshape(1, 1, 2, 1)
    dx = max_pool_backward(np.array([[[[5.0, 7.0]]]]), place, (2, 3), (2, 2), (1, 1), (0, 0))
    assert dx.tolist() == [[[[0, 7, 0], [0, 5, 0]]]]


def test_nan_is_passed_on_to_the_windows_that_hold_it():
    x = numbers((2, 1, 4, 6))
    x[1, 0, 2, 3] = np.nan
    expected = oracles.max_pool(np.nan_to_num(x), (2, 2), (2, 2), (0, 0), False)
    expected[1, 0, 1, 1] = np.nan
    y, place = max_pool_forward(x, (2, 3), (2, 2), (2, 2), (0, 0))
    assert np.array_equal(y, expected, equal_nan=True)
    assert place[0, 1, 1, 1] == 1  # row 0, column 1 of its window: backward sends dy where the NaN came from


def test_a_window_of_minus_infinity_keeps_its_gradient():
    """Its maximum is its first real pixel, and not a place in the padding, where dy would be lost."""
    x = np.full((2, 1, 3, 4), -np.inf)
    window = (3, 3), (2, 2), (1, 1)
    y, place = max_pool_forward(x, (2, 2), *window)
    assert place[0, :, :, 0].tolist() == [[4, 3], [1, 0]]
    dx = max_pool_backward(np.ones_like(y), place, (3, 4), *window)
    assert dx.sum() == dx[:, 0, [0, 0, 1, 1], [0, 1, 0, 1]].sum() == y.size
