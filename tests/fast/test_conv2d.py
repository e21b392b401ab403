"""The ways in which Conv2d's twin computes, each forced in turn."""

import copy

import numpy as np
import pytest
from checks import assert_close, error_text, forward_backward, using
from layers.test_conv2d import LOPSIDED, assert_agrees, conv_of
from strategies import Filling, Window, numbers

from tinynet import gradcheck
from tinynet.fast import conv2d as fast
from tinynet.fast.conv2d import path
from tinynet.layers import Conv2d, Sequential, passes
from tinynet.ops.conv import choose


def test_a_first_layer_need_not_compute_dx():
    layer = conv_of(LOPSIDED)
    _, _, gradients = forward_backward(layer, numbers(LOPSIDED.shape), numbers)
    layer.zero_grad()
    layer.input_grad = False
    y = layer(numbers(LOPSIDED.shape))
    assert passes.backward(layer, numbers(y.shape)) is None  # the twin's: the layer's own lines compute it always
    assert_close(layer.weight.grad, gradients["weight"])
    assert_close(layer.bias.grad, gradients["bias"])


SQUARE = Window(2, 4, 4, 3, (3, 3), (1, 1), (1, 1), groups=2, out_channels=6)  # winograd can do these two
PHASES = Window(3, 2, 7, 6, (5, 6), (2, 2), (2, 2), out_channels=3)


def conv_by(algorithm, window, dtype=np.float64):
    layer = conv_of(window, dtype)
    layer.algorithm = algorithm
    return layer


def test_evaluation_keeps_kernels_only_as_long_as_they_are_right():
    """In evaluation mode, forward and gradients are those of a fresh layer, after training and any change of weight."""
    window = Window(1, 16, 9, 8, (3, 3), padding=(1, 1), out_channels=24)
    layer, x = using(Conv2d(16, 24, 3, padding=1), algorithm="winograd"), numbers(window.shape, np.float32)
    dy = numbers((1, 24, 9, 8), np.float32, seed=2)

    def check():
        layer.zero_grad()
        got = layer(x), passes.backward(layer, dy), {"weight": layer.weight.grad, "bias": layer.bias.grad}
        assert_agrees(layer, window, x, dy, got, np.float32)

    for change in (layer.eval, lambda: layer.weight.data.__imul__(2), layer.train, layer.eval):
        change()
        check()
        check()
    assert vars(layer)["_kept"] is not None
    layer.train()(x)
    assert "_kept" not in vars(layer)  # memory for nothing while the weights change
    assert np.array_equal(copy.deepcopy(layer.eval())(x), layer(x))


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS)
@pytest.mark.parametrize("window", [SQUARE, PHASES])
@pytest.mark.parametrize("filling", [Filling(np.float64, "sliced", "transposed"), Filling()])
def test_every_algorithm_agrees_with_naive_loops(algorithm, window, filling, monkeypatch):
    used = []
    for name in ("forward", "weight_gradient", "input_gradient"):
        monkeypatch.setattr(choose, name, noted(used, name, getattr(choose, name)))
    layer = conv_by(algorithm, window, filling.dtype)
    x = filling.x(window.shape)
    y, dx, gradients = forward_backward(layer, x, filling.dy)
    assert_agrees(layer, window, x, filling.dy(y.shape), (y, dx, gradients), filling.dtype)
    taken = path(layer, window.shape)
    ways = {(name, taken) for name in ("forward", "weight_gradient", "input_gradient")}
    assert set(used) == (set() if taken == "im2col" else ways)


def noted(used, name, function):
    def call(algorithm, *args):
        used.append((name, algorithm))
        return function(algorithm, *args)

    return call


@pytest.mark.parametrize("algorithm", ["winograd", "panels", "im2col"])
@pytest.mark.parametrize("window", [SQUARE, PHASES])
def test_gradcheck_of_every_algorithm(algorithm, window):
    layer = conv_by(algorithm, window)
    assert path(layer, window.shape) == algorithm
    report = gradcheck(Sequential({"conv": layer}), numbers(window.shape), max_checks=40)  # the twin
    assert set(report.checked) == {"x", "conv.weight", "conv.bias"}
    assert report.kinks == []
    assert max(report.worst.values()) < 1e-6  # gradcheck's rtol


@pytest.mark.parametrize("algorithm", ["winograd", "panels", "im2col"])
def test_relu_along_the_way(algorithm):
    layer = conv_by(algorithm, SQUARE)
    x = numbers(SQUARE.shape)
    y = layer(x)
    assert (y < 0).any()
    assert np.array_equal(fast.forward(layer, x, relu=True), np.maximum(y, 0))


def test_path_takes_the_faster_way():
    layer = Conv2d(192, 384, 3, padding=1)
    assert layer.algorithm == "auto"
    assert path(layer, (128, 192, 13, 13)) == "winograd"
    assert path(Conv2d(2, 3, 3), (1, 2, 5, 5)) == "panels"  # too little work to be worth the transforms
    assert path(Conv2d(192, 384, 1), (128, 192, 13, 13)) == "panels"
    assert path(Conv2d(192, 384, 3, dilation=2), (128, 192, 13, 13)) == "panels"
    for algorithm in ("winograd", "panels", "im2col"):
        layer.algorithm = algorithm
        assert path(layer, (128, 192, 13, 13)) == path(layer, (1, 192, 3, 3)) == algorithm
        assert repr(layer).endswith(f", algorithm={algorithm!r})")
    layer.algorithm = "auto"
    assert "algorithm" not in repr(layer)


@pytest.mark.parametrize("algorithm", ["Winograd", "", None, 3])
def test_an_unknown_algorithm(algorithm):
    layer = using(Conv2d(3, 8, 3), algorithm=algorithm)
    layer.name = "conv1"
    text = error_text(lambda: layer(np.ones((1, 3, 4, 4), np.float32)), ValueError)
    expected = "expected an algorithm out of ('auto', 'winograd', 'panels', 'im2col')"
    assert text == f"Conv2d 'conv1': {expected}, got {algorithm!r}"


@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel_size": 1},
        {"kernel_size": 8},
        {"kernel_size": (3, 4)},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "stride": 3},
        {"kernel_size": 4, "stride": (1, 2)},
        {"kernel_size": (15, 3), "stride": 2},
    ],
)
def test_a_kernel_that_winograds_algorithm_cannot_do(sizes):
    layer = using(Conv2d(4, 6, **sizes), algorithm="winograd")
    text = error_text(lambda: layer(np.ones((1, 4, 20, 20), np.float32)), ValueError)
    assert text.startswith("Conv2d: expected for algorithm='winograd' a kernel of 2 to 7 rows and as many columns, ")
    assert text.endswith(f"got {Conv2d(4, 6, **sizes).options()}")
    assert path(Conv2d(4, 6, **sizes), (2, 4, 20, 20)) == "panels"


@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel_size": 2},
        {"kernel_size": 7},
        {"kernel_size": 14, "stride": 2},
        {"kernel_size": (3, 5), "stride": (1, 2)},
    ],
)
def test_a_kernel_that_winograds_algorithm_can_do(sizes):
    assert path(using(Conv2d(4, 6, **sizes), algorithm="winograd"), (2, 4, 20, 20)) == "winograd"
