"""Layers that Sequential computes together give what they give one after another, bit for bit."""

import numpy as np
import pytest
from checks import error_text, same_bits, using
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import numbers

from tinynet.errors import NonFiniteError
from tinynet.fast import plan
from tinynet.layers import LRN, Conv2d, Flatten, Linear, MaxPool, ReLU, Sequential, passes

DTYPES = st.sampled_from([np.float32, np.float64])


def conv_of(*sizes, bias=True, **options):
    """A Conv2d with the same weights every time, whatever its name."""
    conv = Conv2d(*sizes, bias=bias, **options)
    for seed, parameter in enumerate(conv.parameters()):
        parameter.data = numbers(parameter.shape, np.float32, seed=seed)
    return conv


def one_by_one(layers, x, dy):
    """y, dx and gradients of parameters, every layer in a pass of its own."""
    for layer in layers:
        layer.zero_grad()
        x = layer(x)
    for layer in reversed(layers):
        dy = passes.backward(layer, dy)
    return [x, dy, *(parameter.grad.copy() for layer in layers for parameter in layer.parameters())]


def together(layers, x, dy):
    net = Sequential(*layers)
    net.zero_grad()
    return [net.forward(x), net.backward(dy), *(parameter.grad.copy() for parameter in net.parameters())]


def check_same(make, x):
    layers = make()
    shape = Sequential(*make()).output_shape(x.shape)
    dy = numbers(shape, x.dtype, seed=1)
    before = x.copy(), dy.copy()
    for expected, got in zip(one_by_one(layers, x, dy), together(make(), x, dy), strict=True):
        assert same_bits(np.ascontiguousarray(got), np.ascontiguousarray(expected))
    assert same_bits(x, before[0])
    assert same_bits(dy, before[1])


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans(), st.sampled_from([31, 32, 37]), DTYPES)
@example(kernel_size=3, stride=2, padding=0, ceil_mode=False, N=33, dtype=np.float32)
@example(kernel_size=3, stride=2, padding=1, ceil_mode=True, N=32, dtype=np.float64)
@example(kernel_size=1, stride=3, padding=0, ceil_mode=False, N=32, dtype=np.float32)  # lines that no window reads
def test_relu_lrn_pool(kernel_size, stride, padding, ceil_mode, N, dtype):
    def make():
        pool = MaxPool((kernel_size, 2), (stride, 2), (min(padding, kernel_size // 2), 1), ceil_mode)
        return [ReLU(), LRN(3, alpha=0.5, beta=0.6, k=1.5, groups=2), pool]

    check_same(make, numbers((N, 4, 7, 6), dtype))


@pytest.mark.parametrize("algorithm", ["auto", "im2col", "panels", "winograd"])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_relu(algorithm, bias):
    def make():
        return [using(conv_of(4, 6, 3, padding=1, groups=2, bias=bias), algorithm=algorithm), ReLU(), MaxPool(2)]

    check_same(make, numbers((5, 4, 7, 6), np.float32))


def test_the_block_of_the_papers_net():
    def make():
        lrn = LRN(5, 0.5, 0.75, 2.0, groups=2)
        return [conv_of(3, 8, 5, stride=2), ReLU(), lrn, MaxPool(3, 2), conv_of(8, 4, 3)]

    check_same(make, numbers((33, 3, 23, 21), np.float32))


def test_a_relu_before_each_layer_whose_dx_is_new():
    def make():
        linear = Linear(6 * 2 * 2, 5)
        linear.weight.data = numbers(linear.weight.shape, np.float32)
        rows = [Flatten(), ReLU(), linear]
        return [ReLU(), conv_of(4, 6, 3, stride=2), ReLU(), MaxPool(2, 1), *rows]

    check_same(make, numbers((5, 4, 7, 7), np.float32))


def kinds(steps):
    return [tuple(type(layer).__name__ for layer in layers) for layers, _ in steps]


def test_what_is_fused():
    class MyReLU(ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    layers = [Conv2d(2, 4, 3), ReLU(), LRN(), MaxPool(2), Conv2d(4, 4, 3), MyReLU(), ReLU(), LRN(), ReLU(), MaxPool(2)]
    ends = [("Conv2d",), ("MyReLU",), ("ReLU",), ("LRN",)]
    assert kinds(plan.forward_steps(layers)) == [
        ("Conv2d", "ReLU"),
        ("LRN", "MaxPool"),
        *ends,
        ("ReLU",),
        ("MaxPool",),
    ]
    assert kinds(plan.backward_steps(layers)) == [
        *[("ReLU", "MaxPool"), *ends[::-1]],
        *[("ReLU", "LRN", "MaxPool"), ("Conv2d",)],
    ]


def test_a_subclass_computes_its_own():
    class Shifted(ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    conv = Conv2d(2, 3, 3)
    x = numbers((2, 2, 5, 5), np.float32)
    assert np.array_equal(Sequential(conv, Shifted())(x), np.maximum(conv(x), 0) + 1)


def test_backward_after_layers_that_were_called_alone():
    """LRN's x is another array than the ReLU's y: each goes its own way back."""
    layers = [ReLU(), LRN(3, 0.5), MaxPool(2)]
    net = Sequential(*layers)
    x, other = numbers((32, 4, 6, 6), np.float32), np.abs(numbers((32, 4, 6, 6), np.float32, seed=3))
    dy = numbers((32, 4, 3, 3), np.float32, seed=4)
    net(x)
    layers[2](layers[1](other))
    expected = dy
    for layer in reversed(layers):
        expected = passes.backward(layer, expected)
    assert same_bits(net.backward(dy), expected)


def test_wrong_shapes_are_named_as_ever():
    net = Sequential({"relu": ReLU(), "lrn": LRN(3, groups=2), "pool": MaxPool(3, 2)})
    assert "LRN 'lrn': expected a number of channels divisible by groups=2" in error_text(
        lambda: net(numbers((32, 3, 6, 6))), ValueError
    )
    assert "MaxPool 'pool': expected a height of at least 3" in error_text(
        lambda: net(numbers((32, 4, 2, 6))), ValueError
    )
    net(numbers((32, 4, 6, 6)))
    text = error_text(lambda: net.backward(numbers((32, 4, 3, 2))), ValueError)
    assert text == "MaxPool 'pool': expected dy of shape (32, 4, 2, 2), got (32, 4, 3, 2)"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ["im2col", "panels", "winograd"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_conv_that_overflows_is_named(bad, algorithm):
    """The ReLU on the way must not turn -inf into an innocent 0."""
    net = Sequential({"conv": using(Conv2d(2, 2, 3), algorithm=algorithm), "relu": ReLU(), "pool": MaxPool(2)})
    net["conv"].bias.data[1] = bad
    with pytest.raises(NonFiniteError, match="Conv2d 'conv': gave NaN or infinity"):
        net(numbers((3, 2, 6, 6), np.float32))


def test_a_pool_that_saw_other_pictures_in_between():
    net = Sequential(ReLU(), LRN(3), MaxPool(2))
    net(np.ones((32, 3, 8, 8), np.float32))
    net[2](np.ones((32, 1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="expected dy of shape"):
        net.backward(np.ones((32, 1, 2, 2), np.float32))


def test_a_layer_with_its_own_forward_is_called():
    """Who wraps one layer's forward to look at what passes must see it."""
    seen = []
    net = Sequential({"conv": Conv2d(2, 3, 3), "relu": ReLU(), "lrn": LRN(3), "pool": MaxPool(2)})
    for layer in net:
        layer.forward = lambda x, own=layer.forward, name=layer.name: seen.append(name) or own(x)
    net(numbers((32, 2, 6, 6), np.float32))
    assert seen == ["conv", "relu", "lrn", "pool"]


@pytest.mark.parametrize("N", [31, 32])
def test_an_lrn_that_overflows_is_named(N):
    """k is tiny, so that x / scale**beta is infinite; with few pictures and with many."""
    net = Sequential({"relu": ReLU(), "lrn": LRN(1, alpha=0.0, beta=2.0, k=1e-30), "pool": MaxPool(2), "end": ReLU()})
    with pytest.raises(NonFiniteError, match="LRN 'lrn': gave NaN or infinity"):
        net(np.ones((N, 2, 4, 4), np.float32))
