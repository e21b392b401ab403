import numpy as np
import oracles
import pytest
from checks import assert_close, error_text, forward_backward
from hypothesis import example, given
from implementations import backward, every_implementation, everywhere, forward, gradchecked
from strategies import Filling, Window, fillings, numbers, poolings

from tinynet import gradcheck
from tinynet.errors import GradcheckError
from tinynet.layers import MaxPool
from tinynet.ops.max_pool import max_pool

OVERLAPPING = Window(2, 3, 7, 8, (3, 2), (2, 1))
PADDED = Window(1, 2, 5, 6, (3, 4), (2, 3), (1, 2))
UNUSED_BORDER = Window(2, 2, 8, 9, (2, 3), (3, 4))  # leaves 3 rows and 2 columns
HANGING = Window(2, 2, 7, 6, (2, 3), (2, 2), ceil_mode=True)


def pool_of(window):
    return MaxPool(window.kernel_size, window.stride, window.padding, window.ceil_mode)


def sizes(window):
    return window.kernel_size, window.stride, window.padding, window.ceil_mode


@every_implementation(
    given(poolings(), fillings),
    example(OVERLAPPING, Filling(np.float64, "negative strides", "transposed")),
    example(PADDED, Filling(np.float32, "sliced", "Fortran order")),
    example(UNUSED_BORDER, Filling(np.float64, "transposed", "batch innermost")),
    example(HANGING, Filling(np.float64, "batch innermost", "sliced")),
)
def test_agrees_with_naive_loops(window, filling):
    x = filling.distinct_x(window.shape)
    for training in (True, False):  # evaluation keeps no places, and finds them when it is asked
        y, dx, _ = forward_backward(pool_of(window).train(training), x, filling.dy)
        assert np.array_equal(y, oracles.max_pool(x, *sizes(window)))
        assert_close(dx, oracles.max_pool_backward(x, filling.dy(y.shape), *sizes(window)), filling.dtype)


@pytest.mark.parametrize("N", [1, 7, 8, 40])
@everywhere
def test_evaluation_gives_the_same_for_few_pictures_and_for_many(N):
    x = numbers((N, 2, 7, 6), np.float32)
    for window in (HANGING, PADDED, OVERLAPPING):
        assert np.array_equal(forward(pool_of(window).eval(), x), forward(pool_of(window), x))


def test_nan_wins_in_few_pictures():
    """No layer lets it come so far; the loop keeps it visible all the same."""
    x = numbers((2, 1, 6, 6))
    x[1, 0, 2, 3] = np.nan
    y = max_pool(x, (5, 5), (2, 2), (1, 1), (0, 0))
    assert np.argwhere(np.isnan(y)).tolist() == [[1, 0, 1, 2], [1, 0, 1, 3], [1, 0, 2, 2], [1, 0, 2, 3]]


@every_implementation(given(poolings(), fillings))
def test_ties_go_to_the_first(window, filling):
    x = np.round(filling.x(window.shape))  # few different values: most windows hold a tie
    y, dx, _ = forward_backward(pool_of(window), x, filling.dy)
    assert np.array_equal(y, oracles.max_pool(x, *sizes(window)))
    assert_close(dx, oracles.max_pool_backward(x, filling.dy(y.shape), *sizes(window)), filling.dtype)


@everywhere
def test_a_tie_by_hand():
    layer = MaxPool(2)
    forward(layer, np.array([[[[1.0, 5.0], [5.0, 5.0]]]]))
    assert np.array_equal(backward(layer, np.array([[[[3.0]]]])), [[[[0, 3], [0, 0]]]])


@every_implementation(
    given(poolings(most_pixels=6), fillings),
    example(OVERLAPPING, Filling()),
    example(HANGING, Filling()),
    share=0.25,
)
def test_gradcheck(window, filling):
    report = gradchecked(pool_of(window), filling.distinct_x(window.shape), max_checks=30)
    assert report.kinks == []


def test_gradcheck_reports_ties():
    report = gradcheck(MaxPool(2), np.array([[[[1.0, 2.0, 4.0, 3.0], [2.0, 0.0, 1.0, 0.0]]]]))
    assert sorted(report.kinks) == [("x", (0, 0, 0, 1)), ("x", (0, 0, 1, 0))]
    assert report.checked["x"] == 6
    assert "kink" in error_text(lambda: gradcheck(MaxPool(2), np.ones((1, 1, 2, 4))), GradcheckError)


@everywhere
def test_a_pixel_that_wins_two_windows_gets_both():
    layer = MaxPool((1, 3), 2)
    forward(layer, np.array([[[[1.0, 2.0, 9.0, 3.0, 4.0]]]]))
    assert np.array_equal(backward(layer, np.array([[[[10.0, 1.0]]]])), [[[[0, 0, 11, 0, 0]]]])


@everywhere
def test_padding_never_wins():
    layer = MaxPool((3, 2), 1, 1)
    x = -1 - np.abs(numbers((2, 2, 3, 4), np.float32))
    assert forward(layer, x).max() <= -1
    least = np.finfo(np.float32).min
    assert (forward(layer, np.full((1, 1, 3, 4), least)) == np.full((1, 1, 3, 5), least)).all()


@everywhere
def test_a_border_that_no_window_reaches_gets_no_gradient():
    x = numbers(UNUSED_BORDER.shape)
    y, dx, _ = forward_backward(pool_of(UNUSED_BORDER), x, numbers)
    assert y.shape == (2, 2, 3, 2)
    assert np.count_nonzero(dx) == y.size
    assert not dx[:, :, 2::3].any()
    assert not dx[:, :, :, 3::4].any()
    assert not dx[:, :, :, 7:].any()


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding", "floor", "ceil"),
    [
        (55, 3, 2, 0, 27, 27),  # the paper's pool1 fits exactly
        (32, 3, 2, 0, 15, 16),
        (7, 2, 2, 0, 3, 4),
        (5, 1, 3, 0, 2, 2),
        (4, 2, 3, 1, 2, 2),  # a third window would start in the right padding
        (6, 2, 4, 0, 2, 2),
    ],
)
def test_ceil_mode_by_hand(size, kernel_size, stride, padding, floor, ceil):
    for ceil_mode, expected in ((False, floor), (True, ceil)):
        layer = MaxPool(kernel_size, stride, padding, ceil_mode)
        assert layer.output_shape((1, 1, size, size)) == (1, 1, expected, expected)


@pytest.mark.parametrize("kernel_size", [(16, 16), (16, 17)])
@everywhere
def test_windows_with_more_places_than_a_byte_counts(kernel_size):
    x = np.zeros((1, 1, 16, 20))
    x[0, 0, 15, kernel_size[1] - 1] = 1.0  # the last pixel of the first window
    layer = MaxPool(kernel_size, (1, 2))
    y = forward(layer, x)
    assert y[0, 0, 0, 0] == 1.0
    dy = np.zeros_like(y)
    dy[0, 0, 0, 0] = 2.0
    expected = np.zeros_like(x)
    expected[0, 0, 15, kernel_size[1] - 1] = 2.0
    assert np.array_equal(backward(layer, dy), expected)


def test_stride_is_the_kernel_size_unless_given():
    assert repr(MaxPool((3, 2))) == repr(MaxPool((3, 2), (3, 2)))
    assert repr(MaxPool(3, 2, 1, True)) == "MaxPool((3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True)"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"kernel_size": 0}, ["kernel_size", "at least 1", "got 0"]),
        ({"kernel_size": 3, "stride": 0}, ["stride", "at least 1", "got 0"]),
        ({"kernel_size": 3, "stride": 1.5}, ["stride", "got 1.5"]),
        ({"kernel_size": 3, "padding": -1}, ["padding", "at least 0", "got -1"]),
        ({"kernel_size": 3, "padding": 2}, ["half of kernel_size (3, 3)", "got (2, 2)"]),
        ({"kernel_size": (4, 2), "padding": (1, 2)}, ["half of kernel_size (4, 2)", "got (1, 2)"]),
    ],
)
def test_wrong_arguments(arguments, parts):
    text = error_text(lambda: MaxPool(**arguments), ValueError)
    assert text.startswith("MaxPool: expected ")
    for part in parts:
        assert part in text


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (2, 3, 8, 8, 1)])
def test_wrong_shape_of_x(shape):
    text = error_text(lambda: MaxPool(2)(np.ones(shape, np.float32)), ValueError)
    assert text == f"MaxPool: expected x of shape (N, C, H, W), got {shape}"


def test_a_window_larger_than_the_picture():
    text = error_text(lambda: MaxPool((2, 3))(np.ones((1, 1, 5, 2), np.float32)), ValueError)
    assert text.startswith("MaxPool: expected a width of at least 3 for kernel_size (2, 3)")
    assert text.endswith("got height, width = (5, 2)")


def test_wrong_shape_of_dy():
    layer = MaxPool(2)
    layer(np.ones((1, 2, 4, 6), np.float32))
    text = error_text(lambda: layer.backward(np.ones((1, 2, 3, 2), np.float32)), ValueError)
    assert text == "MaxPool: expected dy of shape (1, 2, 2, 3), got (1, 2, 3, 2)"
