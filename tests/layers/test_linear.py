import numpy as np
import oracles
import pytest
from checks import assert_sums, error_text, forward_backward
from hypothesis import example, given
from hypothesis import strategies as st
from implementations import every_implementation, everywhere, gradchecked
from strategies import DTYPES, Filling, fillings, numbers

from tinynet.layers import Linear, passes

sizes = st.integers(1, 6)


def linear_of(in_features, out_features, bias=True, dtype=np.float64, seed=1):
    layer = Linear(in_features, out_features, bias).astype(dtype)
    for i, parameter in enumerate(layer.parameters()):
        parameter.data[...] = numbers(parameter.shape, seed=seed + i)
    return layer


def assert_agrees(layer, x, dy, got, dtype):
    """y, dx and gradients, as far as they are given, are those of naive loops but for rounding."""
    (y, dx, gradients), weight, bias = got, layer.weight.data, layer.bias.data if layer.bias else None
    xx, ww, dd = (np.square(array, dtype=np.float64) for array in (x, weight, dy))
    added = 0.0 if bias is None else np.square(bias, dtype=np.float64)
    (N, I), O = x.shape, len(weight)
    assert_sums(y, oracles.linear(x, weight, bias), I + 1, xx @ ww.T + added, dtype)
    dx_expected, dweight, dbias = oracles.linear_backward(x, weight, dy)
    assert_sums(dx, dx_expected, O, dd @ ww, dtype)
    assert_sums(gradients["weight"], dweight, N, dd.T @ xx, dtype)
    if bias is not None:
        assert_sums(gradients["bias"], dbias, N, dd.sum(axis=0), dtype)


@every_implementation(
    given(sizes, sizes, sizes, st.booleans(), fillings),
    example(1, 4, 3, True, Filling(np.float32, "negative strides", "Fortran order")),
    example(5, 2, 6, False, Filling(np.float64, "transposed", "sliced")),
)
def test_agrees_with_naive_loops(N, in_features, out_features, bias, filling):
    layer = linear_of(in_features, out_features, bias, filling.dtype, filling.seed)
    x = filling.x((N, in_features))
    y, dx, gradients = forward_backward(layer, x, filling.dy)
    assert set(gradients) == ({"weight", "bias"} if bias else {"weight"})
    assert_agrees(layer, x, filling.dy(y.shape), (y, dx, gradients), filling.dtype)


@every_implementation(
    given(sizes, sizes, sizes, st.booleans(), fillings),
    share=0.25,
)
def test_gradcheck(N, in_features, out_features, bias, filling):
    report = gradchecked(linear_of(in_features, out_features, bias), filling.x((N, in_features)))
    assert report.kinks == []
    assert report.checked["weight"] == in_features * out_features


@pytest.mark.parametrize("dtype", DTYPES)
@everywhere
def test_computes_in_the_dtype_of_x_whatever_the_parameters_are(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    layer = linear_of(4, 3, dtype=other)
    x = numbers((5, 4), dtype)
    y, dx, gradients = forward_backward(layer, x, lambda shape: numbers(shape, dtype, seed=3))
    assert y.dtype == dx.dtype == dtype
    assert gradients["weight"].dtype == gradients["bias"].dtype == other
    assert_agrees(layer, x, numbers(y.shape, dtype, seed=3), (y, dx, gradients), np.float32)


def test_a_first_layer_need_not_compute_dx():
    layer = linear_of(4, 3)
    layer.input_grad = False
    x, dy = numbers((5, 4)), numbers((5, 3), seed=1)
    y = layer(x)
    assert passes.backward(layer, dy) is None  # the twin's: the layer's own lines compute it always
    expected = oracles.linear_backward(x, layer.weight.data, dy)[0]
    gradients = {"weight": layer.weight.grad, "bias": layer.bias.grad}
    assert_agrees(layer, x, dy, (y, expected, gradients), np.float64)


def test_initial_values():
    layer = Linear(200, 300)
    assert layer.weight.shape == (300, 200)
    assert layer.weight.data.dtype == np.float32
    assert layer.weight.data.std() == pytest.approx((2 / 200) ** 0.5, rel=0.05)  # 60,000 draws: 0.003 as a rule
    assert not layer.bias.data.any()
    assert not np.array_equal(layer.weight.data, Linear(200, 300, seed=1).weight.data)


def test_macs_and_repr():
    assert Linear(4096, 1000).macs((2, 4096)) == 8_192_000
    assert repr(Linear(3, 4)) == "Linear(3, 4)"
    assert repr(Linear(3, 4, bias=False)) == "Linear(3, 4, bias=False)"


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 5, 1)])
def test_wrong_shape_of_x(shape):
    layer = Linear(5, 3)
    for use in (layer.forward, lambda x: layer.output_shape(x.shape)):
        text = error_text(lambda use=use: use(np.ones(shape, np.float32)), ValueError)
        assert text == f"Linear: expected x of shape (N, 5), got {shape}"


@pytest.mark.parametrize("shape", [(3, 2), (2,), (1, 3)])
def test_wrong_shape_of_dy(shape):
    layer = Linear(5, 3)
    layer(np.ones((2, 5), np.float32))
    text = error_text(lambda: layer.backward(np.ones(shape, np.float32)), ValueError)
    assert text == f"Linear: expected dy of shape (2, 3), got {shape}"


@pytest.mark.parametrize(
    ("features", "name", "got"),
    [
        ((0, 3), "in_features", 0),
        ((3, 0), "out_features", 0),
        ((-1, 2), "in_features", -1),
        ((3.0, 2), "in_features", 3.0),
    ],
)
def test_wrong_arguments(features, name, got):
    text = error_text(lambda: Linear(*features), ValueError)
    assert text == f"Linear: expected {name} to be a whole number of at least 1, got {got}"
