import dataclasses

import numpy as np
import oracles
import pytest
from checks import assert_sums, error_text, forward_backward
from fast_conv import Case, assert_near, random_bounds, reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from implementations import every_implementation, everywhere, forward, gradchecked
from strategies import DTYPES, Filling, Window, convolutions, dtypes, fillings, numbers, seeds

from tinynet.fast.conv2d import path
from tinynet.layers import Conv2d

LOPSIDED = Window(2, 4, 7, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, out_channels=6)
BATCH_OF_ONE = Window(1, 2, 5, 8, (2, 3), (1, 2), (0, 1), (2, 1), out_channels=3)
UNUSED_BORDER = Window(2, 2, 8, 7, (3, 2), (3, 4), out_channels=2, bias=False)  # leaves 2 rows and 1 column
ONE_WINDOW = Window(2, 3, 3, 4, (3, 4), out_channels=2)


def conv_of(window, dtype=np.float64, seed=1):
    layer = Conv2d(
        window.C,
        window.out_channels,
        window.kernel_size,
        window.stride,
        window.padding,
        window.dilation,
        window.groups,
        window.bias,
    ).astype(dtype)
    for i, parameter in enumerate(layer.parameters()):
        parameter.data[...] = numbers(parameter.shape, seed=seed + i)
    return layer


def expected(layer, window, x, dy=None):
    sizes = window.stride, window.padding, window.dilation, window.groups
    if dy is not None:
        return oracles.conv2d_backward(x, layer.weight.data, dy, *sizes)
    return oracles.conv2d(x, layer.weight.data, layer.bias.data if layer.bias else None, *sizes)


def assert_agrees(layer, window, x, dy, got, dtype):
    """y, dx and gradients are those of naive loops but for rounding; entry by entry, or in the L2 norm where Winograd's
    algorithm makes a tile's numbers together."""
    (y, dx, gradients), weight, bias = got, layer.weight.data, layer.bias.data if layer.bias else np.zeros(1)
    winograd, channels = path(layer, window.shape) == "winograd", (window.C, window.out_channels)
    case = Case(window.N, *(n // window.groups for n in channels), window.H, window.W, *layer.window, window.groups)
    y_square, *squares = reference(case, *(np.square(array, dtype=np.float64) for array in (x, weight, dy)))
    squares = y_square + np.square(bias, dtype=np.float64)[:, None, None], *squares
    dx_expected, dweight, dbias = expected(layer, window, x, dy)
    pairs = (y, expected(layer, window, x)), (dx, dx_expected), (gradients["weight"], dweight)
    for i, (pair, square) in enumerate(zip(pairs, squares, strict=True)):
        if winograd:
            assert_near(*pair, square, random_bounds(case, winograd)[i], dtype)
        else:
            assert_sums(*pair, case.terms[i], square, dtype)
    if layer.bias:
        square = np.square(dy, dtype=np.float64).sum(axis=(0, 2, 3))
        assert_sums(gradients["bias"], dbias, case.terms[2], square, dtype)


@every_implementation(
    given(convolutions(), fillings),
    example(LOPSIDED, Filling(np.float64, "negative strides", "sliced")),
    example(LOPSIDED, Filling(np.float32, "transposed", "Fortran order")),
    example(BATCH_OF_ONE, Filling(np.float64, "batch innermost", "transposed")),
    example(UNUSED_BORDER, Filling(np.float64, "Fortran order", "batch innermost")),
    example(ONE_WINDOW, Filling(np.float64, "read-only", "read-only")),
)
def test_agrees_with_naive_loops(window, filling):
    layer = conv_of(window, filling.dtype, filling.seed)
    x = filling.x(window.shape)

    y, dx, gradients = forward_backward(layer, x, filling.dy)

    assert set(gradients) == ({"weight", "bias"} if window.bias else {"weight"})
    assert_agrees(layer, window, x, filling.dy(y.shape), (y, dx, gradients), filling.dtype)


@every_implementation(
    given(convolutions(most_pixels=6), fillings),
    example(LOPSIDED, Filling()),
    example(UNUSED_BORDER, Filling()),
    share=0.25,
)
def test_gradcheck(window, filling):
    report = gradchecked(conv_of(window), filling.x(window.shape), max_checks=20)
    assert report.kinks == []


@everywhere
def test_a_border_that_no_window_reaches_gets_no_gradient():
    layer = conv_of(UNUSED_BORDER)
    _, dx, _ = forward_backward(layer, numbers(UNUSED_BORDER.shape), numbers)
    assert np.abs(dx[:, :, :6, :6]).sum() > 0
    assert not dx[:, :, 6:].any()
    assert not dx[:, :, :, 6:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@everywhere
def test_computes_in_the_dtype_of_x_whatever_the_parameters_are(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    layer = conv_of(LOPSIDED, other)
    x = numbers(LOPSIDED.shape, dtype)
    y, dx, gradients = forward_backward(layer, x, lambda shape: numbers(shape, dtype, seed=3))
    assert y.dtype == dx.dtype == dtype
    assert gradients["weight"].dtype == gradients["bias"].dtype == other
    assert_agrees(layer, LOPSIDED, x, numbers(y.shape, dtype, seed=3), (y, dx, gradients), np.float32)


@every_implementation(
    given(seeds, dtypes),
    share=0.25,
)
def test_groups_are_towers_that_do_not_see_each_other(seed, dtype):
    window = dataclasses.replace(LOPSIDED, N=1)
    layer = conv_of(window, dtype, seed)
    x = numbers(window.shape, dtype, seed=seed)
    y = forward(layer, x)
    x[:, 2:] += 1  # the second tower
    changed = forward(layer, x)
    assert np.array_equal(changed[:, :3], y[:, :3])
    assert np.abs(changed[:, 3:] - y[:, 3:]).min() > 0


@settings(max_examples=10)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2))
def test_a_number_stands_for_a_pair(kernel_size, stride, padding, dilation):
    x = numbers((2, 2, 9, 7))
    one = Conv2d(2, 3, kernel_size, stride, padding, dilation)
    two = Conv2d(2, 3, (kernel_size,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    assert np.array_equal(one(x), two(x))
    assert repr(one) == repr(two)


def test_initial_values():
    layer = Conv2d(16, 32, 5, groups=2)
    assert layer.weight.data.dtype == np.float32
    assert layer.weight.shape == (32, 8, 5, 5)
    assert layer.weight.data.std() == pytest.approx((2 / 200) ** 0.5, rel=0.05)  # 6,400 draws: 0.009 as a rule
    assert not layer.bias.data.any()
    assert not np.array_equal(layer.weight.data, Conv2d(16, 32, 5, groups=2, seed=1).weight.data)
    assert np.array_equal(layer.weight.data, Conv2d(16, 32, 5, groups=2).weight.data)


def test_macs():
    assert Conv2d(3, 96, 11, stride=4).macs((1, 3, 227, 227)) == 105_415_200  # conv1 of the paper's net
    assert Conv2d(4, 6, (3, 2), groups=2).macs((5, 4, 4, 3)) == 5 * 2 * 2 * 6 * 2 * 3 * 2


def test_repr_gives_the_arguments():
    assert repr(Conv2d(3, 8, 5)) == "Conv2d(3, 8, (5, 5), stride=(1, 1), padding=(0, 0))"
    text = repr(Conv2d(4, 8, (5, 3), 2, (2, 1), 3, groups=2, bias=False))
    for part in ("(5, 3)", "stride=(2, 2)", "padding=(2, 1)", "dilation=(3, 3)", "groups=2", "bias=False"):
        assert part in text


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 8, 8), (2, 8, 8, 3), (2, 3, 8, 8, 1)])
def test_wrong_shape_of_x(shape):
    text = error_text(lambda: Conv2d(3, 8, 3)(np.zeros(shape, np.float32)), ValueError)
    assert text == f"Conv2d: expected x of shape (N, 3, H, W), got {shape}"


@pytest.mark.parametrize(
    ("size", "options", "needed"),
    [
        ((4, 9), {}, "a height of at least 5"),
        ((9, 4), {}, "a width of at least 5"),
        ((8, 9), {"dilation": 2}, "a height of at least 9"),
        ((9, 2), {"padding": 1}, "a width of at least 3"),
    ],
)
def test_a_kernel_larger_than_the_picture(size, options, needed):
    layer = Conv2d(3, 8, 5, **options)
    for use in (layer.forward, lambda x: layer.output_shape(x.shape)):
        text = error_text(lambda use=use: use(np.zeros((2, 3, *size), np.float32)), ValueError)
        assert text.startswith(f"Conv2d: expected {needed} for kernel_size (5, 5)")
        assert f"got height, width = {size}" in text


@pytest.mark.parametrize("shape", [(2, 8, 6, 5), (2, 8, 6), (1, 8, 6, 6), (2, 6, 6, 8)])
def test_wrong_shape_of_dy(shape):
    layer = Conv2d(3, 8, 3)
    layer(np.zeros((2, 3, 8, 8), np.float32))
    text = error_text(lambda: layer.backward(np.zeros(shape, np.float32)), ValueError)
    assert text == f"Conv2d: expected dy of shape (2, 8, 6, 6), got {shape}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"kernel_size": 0}, ["kernel_size", "at least 1", "got 0"]),
        ({"kernel_size": 2.0}, ["kernel_size", "whole number", "got 2.0"]),
        ({"kernel_size": (3, 3, 3)}, ["kernel_size", "(h, w)", "got (3, 3, 3)"]),
        ({"kernel_size": "3"}, ["kernel_size", "got '3'"]),
        ({"stride": 0}, ["stride", "at least 1", "got 0"]),
        ({"stride": (1, True)}, ["stride", "got (1, True)"]),
        ({"padding": -1}, ["padding", "at least 0", "got -1"]),
        ({"padding": "same"}, ["padding", "got 'same'"]),
        ({"dilation": (1, 0)}, ["dilation", "at least 1", "got (1, 0)"]),
        ({"groups": 3}, ["groups=3", "in_channels=4"]),
        ({"groups": 4}, ["groups=4", "out_channels=6"]),
        ({"groups": 0}, ["groups", "at least 1", "got 0"]),
        ({"out_channels": 0}, ["out_channels", "got 0"]),
        ({"in_channels": 3.0}, ["in_channels", "whole number", "got 3.0"]),
        ({"out_channels": "4"}, ["out_channels", "got '4'"]),
    ],
)
def test_wrong_arguments(arguments, parts):
    text = error_text(
        lambda: Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments}), ValueError
    )
    assert text.startswith("Conv2d: expected ")
    for part in parts:
        assert part in text
