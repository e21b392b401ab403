"""What every layer must do, whatever it computes: each that has a row in `tinynet.inspect.examples`."""

import numpy as np
import pytest
from checks import error_text, run_python
from implementations import FAST, PLAIN, backward, everywhere, forward
from strategies import DTYPES, distinct_numbers

from tinynet import layers, losses
from tinynet.errors import BackwardBeforeForwardError, NonFiniteError
from tinynet.inspect.examples import EXAMPLES
from tinynet.layers import Conv2d, Layer, Linear, Sequential
from tinynet.losses import SoftmaxCE

METHODS = {
    "forward": "y = forward(x)",
    "backward": "dx = backward(dy)",
    "output_shape": "y.shape = output_shape(x.shape)",
}

exported = [getattr(package, name) for package in (layers, losses) for name in package.__all__]
CLASSES = [one for one in exported if isinstance(one, type) and issubclass(one, Layer) and one is not Layer]
on_the_cpu = pytest.mark.parametrize("implementation", [PLAIN, FAST], indirect=True)
every_layer = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def example(kind):
    """(a layer, the shape of an x that fits, further arguments, its name in errors)."""
    make, shape, args, name = EXAMPLES[kind]
    return make(), shape, args, name


def what_is_missing(kind):
    """A sentence for each method that the class does not define itself."""
    return [
        f"{kind.__name__} has no {method}: expected a method `{use}` in class {kind.__name__} of {kind.__module__}"
        for method, use in METHODS.items()
        if method not in vars(kind)
    ]


@every_layer
def test_is_complete(kind):
    """A layer's own file holds its forward, its backward and its output_shape."""
    missing = what_is_missing(kind)
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_deleted_is_named(method, monkeypatch):
    monkeypatch.delattr(Conv2d, method)
    (sentence,) = what_is_missing(Conv2d)
    assert sentence.startswith(f"Conv2d has no {method}: expected a method ")
    assert sentence.endswith("in class Conv2d of tinynet.layers.conv2d")


def test_a_deleted_backward_says_what_to_write(monkeypatch):
    monkeypatch.delattr(Conv2d, "backward")
    layer, shape, _, _ = example(Conv2d)
    y = layer(np.ones(shape, np.float32))
    text = error_text(lambda: layer.backward(y), NotImplementedError)
    assert text.startswith("Conv2d has no backward: write backward(self, dy)")


def test_every_layer_has_an_example():
    assert set(EXAMPLES) == set(CLASSES)


@everywhere
@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_output_shape_agrees_with_forward(kind, dtype):
    layer, shape, args, _ = example(kind)
    for N in (1, 2):
        batch = (N, *shape[1:])
        y = forward(layer, distinct_numbers(batch, dtype), *(labels[:N] for labels in args))
        assert layer.output_shape(batch) == np.shape(y)


@everywhere
@every_layer
def test_forward_twice_gives_the_same(kind):
    layer, shape, args, _ = example(kind)
    x = distinct_numbers(shape, np.float32)
    first = forward(layer.at_step(0), x, *args)
    assert np.array_equal(forward(layer.at_step(0), x, *args), first)


@on_the_cpu
@every_layer
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", "complex64", "bool", ">f4"])
def test_wrong_dtype(implementation, kind, dtype):
    layer, shape, args, name = example(kind)
    text = error_text(lambda: forward(layer, np.ones(shape, dtype), *args), TypeError)
    assert text.startswith(f"{name}: expected x of dtype float32 or float64, got {np.dtype(dtype)}")


@on_the_cpu
@every_layer
@pytest.mark.parametrize("make", [np.ndarray.tolist, memoryview, lambda x: None], ids=["list", "memoryview", "None"])
def test_what_is_no_array(implementation, kind, make):
    layer, shape, args, name = example(kind)
    value = make(np.ones(shape, np.float32))
    text = error_text(lambda: forward(layer, value, *args), TypeError)
    assert text == f"{name}: x: expected a NumPy array, got {type(value).__name__}"


@on_the_cpu
@every_layer
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(implementation, kind, value, dtype):
    layer, shape, args, name = example(kind)
    x = np.ones(shape, dtype)
    index = tuple(size - 1 for size in shape)
    x[index] = value
    with pytest.raises(NonFiniteError) as caught:
        forward(layer, x, *args)
    assert str(caught.value) == f"{name}: expected finite numbers in x, got {value} at index {index}"
    assert caught.value.layer == name


@everywhere
@every_layer
def test_an_empty_batch(implementation, kind):
    layer, shape, args, name = example(kind)
    empty = (0, *shape[1:])
    text = error_text(lambda: forward(layer, np.ones(empty, np.float32), *(labels[:0] for labels in args)), ValueError)
    assert text == f"{name}: expected x with at least one element, got shape {empty}"


@everywhere
@every_layer
def test_no_axes(kind):
    layer, _, args, name = example(kind)
    text = error_text(lambda: forward(layer, np.array(1.0), *args), ValueError)
    assert text.startswith(f"{name}: expected x of ")
    assert text.endswith("got ()")


@everywhere
@every_layer
def test_backward_before_forward(kind):
    layer, shape, args, name = example(kind)
    dy = () if args else (np.ones(layer.output_shape(shape), np.float32),)
    last = "ReLU 'relu'" if kind is Sequential else name  # backward starts at the end
    text = error_text(lambda: backward(layer, *dy), BackwardBeforeForwardError)
    assert text == f"{last}: backward came before forward; call forward(x) first"


@everywhere
@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not SoftmaxCE], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", ["int64", "float16"])
def test_wrong_dtype_of_dy(kind, dtype):
    """Not SoftmaxCE: backprop starts there, and its dy is a number."""
    layer, shape, _, name = example(kind)
    y = forward(layer, distinct_numbers(shape, np.float32))
    last = "ReLU 'relu'" if kind is Sequential else name
    text = error_text(lambda: backward(layer, np.ones(y.shape, dtype)), TypeError)
    assert text.startswith(f"{last}: expected dy of dtype float32 or float64, got {dtype}")


@every_layer
def test_unknown_arguments(kind):
    text = error_text(lambda: kind(dilatation=2), TypeError)
    assert kind.__name__ in text
    assert "dilatation" in text or "takes no arguments" in text


class Elsewhere:
    """An array as CuPy's: the module of its class begins with cupy."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.float32), len(shape)
        self.device = type("Device", (), {"id": 1})()


Elsewhere.__module__ = "cupy._core.core"


@pytest.mark.parametrize("kind", [Conv2d, Linear])
def test_an_array_must_be_where_the_parameters_are(kind):
    layer, shape, args, name = example(kind)
    text = error_text(lambda: layer(Elsewhere(shape), *args), ValueError)
    assert text.startswith(f"{name}: expected x on cpu, where the layer's parameters are, got one on cuda:1")
    assert "model.to(device)" in text


def test_importing_tinynet_imports_no_gpu_and_no_other_framework():
    script = (
        "import sys, tinynet, tinynet.layers\n"
        "print(sorted({'cupy', 'torch', 'matplotlib', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    assert run_python(script).strip() == "[]"
