import numpy as np
import pytest
from checks import error_text
from strategies import numbers

from tinynet import gradcheck
from tinynet.errors import BackwardBeforeForwardError, NonFiniteError
from tinynet.layers import Dropout, Layer, Linear, Parameter, Sequential


class Scale(Layer):
    """A layer as a student writes it: no __init__ of the base class, one parameter, forward and backward."""

    def __init__(self):
        self.factor = Parameter(np.array([1.5, -2.0, 0.5]))

    def forward(self, x):
        self.check_input(x, ("N", 3))
        self.saved = (x,)
        return x * self.factor.data

    def backward(self, dy):
        (x,) = self.saved
        self.factor.grad += (dy * x).sum(axis=0)
        return dy * self.factor.data


class Twice(Layer):
    """A layer made of layers, kept as plain attributes."""

    def __init__(self):
        self.inner = Scale()
        self.drop = Dropout(0.5)
        self.gain = Parameter(np.ones(3))

    def forward(self, x):
        self.saved = (self.inner(x),)
        return self.drop(self.saved[0] * self.gain.data)

    def backward(self, dy):
        dy = self.drop.backward(dy)
        self.gain.grad += (dy * self.saved[0]).sum(axis=0)
        return self.inner.backward(dy * self.gain.data)


def test_a_layer_of_ones_own_needs_two_methods():
    layer = Scale()
    x = numbers((4, 3))
    assert np.array_equal(layer(x), x * [1.5, -2.0, 0.5])
    assert layer.output_shape((4, 3)) == (4, 3)
    assert layer.macs((4, 3)) == 0
    assert repr(layer) == "Scale()"
    assert gradcheck(layer, x).checked == {"x": 12, "factor": 3}
    assert gradcheck(Twice(), x).checked == {"x": 12, "gain": 3, "inner.factor": 3}


def test_what_a_layer_keeps_is_found():
    layer = Twice()
    assert [name for name, _ in layer.named_layers()] == ["inner", "drop"]
    assert [name for name, _ in layer.named_parameters()] == ["gain", "inner.factor"]
    assert not layer.eval().drop.training
    assert layer.train().drop.training
    assert layer.at_step(9).drop.step == 9
    for parameter in layer.astype(np.float32).parameters():
        assert parameter.data.dtype == parameter.grad.dtype == np.float32
    for parameter in layer.parameters():
        parameter.grad += 1
    layer.zero_grad()
    assert not any(parameter.grad.any() for parameter in layer.parameters())


def test_output_shape_leaves_the_layer_as_it_was():
    layer = Twice()
    assert layer.output_shape((5, 3)) == (5, 3)
    assert layer.drop.step == 0
    assert layer.drop.training
    with pytest.raises(BackwardBeforeForwardError):
        layer.backward(np.ones((5, 3)))


def test_a_layer_without_forward_or_backward_says_what_to_write():
    class Mute(Layer):
        pass

    text = error_text(lambda: Mute()(np.ones(3)), NotImplementedError)
    assert text.startswith("Mute has no forward: write forward(self, x)")
    text = error_text(lambda: Mute().backward(np.ones(3)), NotImplementedError)
    assert text.startswith("Mute has no backward: write backward(self, dy)")
    for part in ("returns dx = dL/dx", "adds each parameter's gradient into its .grad"):
        assert part in text


def test_parameter():
    parameter = Parameter(np.ones((2, 3), np.float32), lr_mult=2.0, weight_decay_mult=0.0)
    assert parameter.shape == (2, 3)
    assert parameter.size == 6
    assert parameter.grad.dtype == np.float32
    assert not parameter.grad.any()
    assert (parameter.lr_mult, parameter.weight_decay_mult) == (2.0, 0.0)
    assert repr(parameter) == "Parameter(shape=(2, 3), dtype=float32)"


def net_with_state():
    net = Sequential({"fc1": Linear(3, 4), "fc2": Linear(4, 2, bias=False)})
    for i, parameter in enumerate(net.parameters()):
        parameter.data[...] = numbers(parameter.shape, np.float32, seed=i)
    return net


def test_state_dict_is_a_copy():
    net = net_with_state()
    state = net.state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        "fc1.weight": (4, 3),
        "fc1.bias": (4,),
        "fc2.weight": (2, 4),
    }
    before = state["fc1.bias"].copy()
    net["fc1"].bias.data += 1
    assert np.array_equal(state["fc1.bias"], before)


def test_state_round_trip():
    net, other = net_with_state(), Sequential({"fc1": Linear(3, 4, seed=5), "fc2": Linear(4, 2, bias=False, seed=5)})
    kept = other["fc1"].weight.data
    other.load_state_dict(net.state_dict())
    x = numbers((5, 3), np.float32)
    assert np.array_equal(other(x), net(x))
    assert other["fc1"].weight.data is kept, "the arrays that an optimiser holds must stay"
    other.astype(np.float64).load_state_dict(net.state_dict())
    assert other["fc1"].weight.data.dtype == np.float64


def changed_state(net, **changes):
    """The net's state with other values everywhere and `changes` made; None removes a name."""
    state = {key: value + 1 for key, value in net.state_dict().items()}
    for key, value in changes.items():
        state[key.replace("__", ".")] = value
    return {key: value for key, value in state.items() if value is not None}


def test_missing_and_unexpected_names_load_nothing():
    net = net_with_state()
    before = net.state_dict()
    state = changed_state(net, fc1__bias=None, fc9__weight=np.ones(3))
    text = error_text(lambda: net.load_state_dict(state), KeyError)
    assert text == "Sequential: state does not fit: missing ['fc1.bias'], unexpected ['fc9.weight']"
    assert all(np.array_equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("strict", [True, False])
def test_a_wrong_shape_loads_nothing(strict):
    net = net_with_state()
    before = net.state_dict()
    state = changed_state(net, fc2__weight=np.ones((4, 2)))
    text = error_text(lambda: net.load_state_dict(state, strict=strict), ValueError)
    assert text == "Sequential: state does not fit: fc2.weight: expected (2, 4), got (4, 2)"
    assert all(np.array_equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("value", ["x", 1j, None])
@pytest.mark.parametrize("strict", [True, False])
def test_values_that_are_no_real_numbers_load_nothing(strict, value):
    net = net_with_state()
    before = net.state_dict()
    strange = np.full((2, 4), value)
    state = changed_state(net, fc2__weight=strange)
    text = error_text(lambda: net.load_state_dict(state, strict=strict), ValueError)
    assert text == f"Sequential: state does not fit: fc2.weight: expected real numbers, got {strange.dtype}"
    assert all(np.array_equal(before[key], value) for key, value in net.state_dict().items())


def test_not_strict_passes_over_names():
    net = net_with_state()
    before = net.state_dict()
    net.load_state_dict(changed_state(net, fc1__bias=None, fc9__weight=np.ones(3)), strict=False)
    assert np.array_equal(net["fc1"].bias.data, before["fc1.bias"])
    assert np.array_equal(net["fc1"].weight.data, before["fc1.weight"] + 1)
    assert np.array_equal(net["fc2"].weight.data, before["fc2.weight"] + 1)


def test_the_error_of_nan_carries_the_layer():
    layer = Scale()
    layer.name = "scale"
    with pytest.raises(NonFiniteError) as caught:
        layer(np.array([[0, 1, -np.inf]]))
    assert caught.value.layer == "Scale 'scale'"
    assert str(caught.value) == "Scale 'scale': expected finite numbers in x, got -inf at index (0, 2)"


def test_layers_and_parameters_in_lists_are_found_and_named():
    class Stack(Layer):
        def __init__(self):
            self.scales = [Parameter(np.ones(3)), Parameter(np.ones(3))]
            self.blocks = [Linear(3, 3), Linear(3, 3)]

    stack = Stack()
    names = [name for name, _ in stack.named_parameters()]
    assert names == ["scales.0", "scales.1", *(f"blocks.{i}.{part}" for i in (0, 1) for part in ("weight", "bias"))]
    assert not np.array_equal(stack.blocks[0].weight.data, stack.blocks[1].weight.data)
    assert set(stack.state_dict()) == set(names)


@pytest.mark.parametrize("data", [[1.0, 2.0], np.arange(3), np.ones(2, np.float16)])
def test_a_parameter_is_an_array_of_floats(data):
    text = error_text(lambda: Parameter(data), TypeError)
    assert text.startswith("Parameter: expected a NumPy array of float32 or float64, got ")
