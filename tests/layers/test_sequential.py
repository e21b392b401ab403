import copy
import itertools
import pickle

import numpy as np
import pytest
from checks import assert_close, error_text, forward_backward, same_bits, using
from strategies import distinct_numbers, numbers

from tinynet import gradcheck
from tinynet.errors import NonFiniteError
from tinynet.fast import relu
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential, passes


def small_net():
    return Sequential(
        {
            "features": Sequential(
                {
                    "conv1": Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(0, 1), groups=2),
                    "relu1": ReLU(),
                    "lrn1": LRN(3, 0.5, groups=2),
                    "pool1": MaxPool((2, 3), 2, ceil_mode=True),
                }
            ),
            "flatten": Flatten(),
            "fc": Linear(4 * 3 * 2, 3),
        }
    ).astype(np.float64)


X = (3, 2, 8, 7)


def test_is_its_layers_one_after_another():
    net = small_net()
    x = numbers(X)
    y, dx, gradients = forward_backward(net, x, numbers)

    net.zero_grad()
    value = x
    flat = [*net["features"], net["flatten"], net["fc"]]
    for layer in flat:
        value = layer(value)
    assert np.array_equal(y, value)
    dy = numbers(y.shape)
    for layer in reversed(flat):
        dy = passes.backward(layer, dy)
    assert np.array_equal(dx, dy)
    assert_close(gradients["features.conv1.weight"], net["features"]["conv1"].weight.grad)


def test_gradcheck():
    report = gradcheck(small_net(), distinct_numbers(X), max_checks=30)
    assert set(report.checked) == {"x", "features.conv1.weight", "features.conv1.bias", "fc.weight", "fc.bias"}
    assert report.checked["features.conv1.weight"] == 24


def test_positional_layers_are_numbered():
    net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1, bias=False))
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight"]
    assert [str(layer) for layer in net] == ["Linear '0'", "ReLU '1'", "Linear '2'"]


def test_names_are_dotted_when_nested():
    net = small_net()
    names = ["features", "features.conv1", "features.relu1", "features.lrn1", "features.pool1", "flatten", "fc"]
    assert [name for name, _ in net.named_layers()] == names
    assert [layer.name for _, layer in net.named_layers()] == names
    assert list(net.state_dict()) == ["features.conv1.weight", "features.conv1.bias", "fc.weight", "fc.bias"]
    assert [parameter.shape for parameter in net.parameters()] == [(4, 1, 3, 2), (4,), (3, 24), (3,)]


def test_indexing():
    net = small_net()
    assert net["flatten"] is net[1]
    assert net[-1] is net["fc"]
    assert net["features"]["relu1"] is net[0][1]
    assert len(net) == 3
    assert len(net["features"]) == 4
    assert list(net) == [net[0], net[1], net[2]]
    with pytest.raises(KeyError, match="conv9"):
        net["conv9"]
    with pytest.raises(IndexError):
        net[3]


def test_repr_shows_every_layer_in_its_place():
    assert repr(Sequential({"a": ReLU(), "b": Sequential(Flatten(), Linear(2, 3))})) == (
        "Sequential(\n  a: ReLU()\n  b: Sequential(\n    0: Flatten()\n    1: Linear(2, 3)\n  )\n)"
    )


def test_output_shape_and_macs():
    net = small_net()
    assert net.output_shape(X) == (3, 3)
    assert net.macs(X) == 3 * (4 * 6 * 4) * (3 * 2) + 3 * 24 * 3


def test_train_and_eval_reach_every_layer():
    net = small_net()
    assert net.eval() is net
    assert not any(layer.training for _, layer in net.named_layers())
    assert net.train() is net
    assert all(layer.training for _, layer in net.named_layers())


def test_a_net_need_not_compute_dx():
    net = small_net()
    _, _, gradients = forward_backward(net, numbers(X), numbers)
    net.zero_grad()
    net.input_grad = False
    assert not net.input_grad
    assert not net["features"]["conv1"].input_grad
    y = net(numbers(X))
    assert net.backward(numbers(y.shape)) is None
    assert_close(net["features"]["conv1"].weight.grad, gradients["features.conv1.weight"])


def test_nan_inside_names_the_layer_that_made_it():
    net = Sequential({"relu": ReLU(), "fc1": Linear(3, 2), "fc2": Linear(2, 2)})
    net["fc1"].weight.data[1, 2] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        net(np.ones((4, 3), np.float32))
    assert caught.value.layer == "Linear 'fc1'"
    assert str(caught.value).startswith("Linear 'fc1': gave NaN or infinity as its output (met by Linear 'fc2': ")
    assert "got nan at index (0, 1)" in str(caught.value)


def test_nan_in_a_nested_net_names_the_layer_that_made_it():
    net = Sequential({"a": Sequential({"fc1": Linear(3, 2), "relu": ReLU()}), "b": Sequential({"fc2": Linear(2, 2)})})
    net["a"]["fc1"].bias.data[0] = np.inf
    with pytest.raises(NonFiniteError) as caught:
        net(np.ones((4, 3), np.float32))
    assert caught.value.layer == "Linear 'a.fc1'"


def test_nan_in_the_input_is_nobodys_output():
    with pytest.raises(NonFiniteError) as caught:
        small_net()(np.full(X, np.nan))
    assert caught.value.layer == "Conv2d 'features.conv1'"
    assert "expected finite numbers in x, got nan at index (0, 0, 0, 0)" in str(caught.value)


def test_an_error_names_the_layer_inside():
    text = error_text(lambda: small_net()(np.ones((3, 5, 8, 7))), ValueError)
    assert text == "Conv2d 'features.conv1': expected x of shape (N, 2, H, W), got (3, 5, 8, 7)"
    net = Sequential({"conv": Conv2d(2, 4, 3), "fc": Linear(9, 2)})
    text = error_text(lambda: net(np.ones((3, 2, 5, 5), np.float32)), ValueError)
    assert text == "Linear 'fc': expected x of shape (N, 9), got (3, 4, 3, 3)"


def test_what_is_no_layer():
    remedy = "write Sequential(first, second, ...)"
    for layers, complaint in (
        ((ReLU(), np.tanh), "got ufunc as '1'"),
        ((ReLU,), "got type as '0'"),
        (([ReLU()],), "got list as '0'"),
    ):
        text = error_text(lambda layers=layers: Sequential(*layers), TypeError)
        assert text == f"Sequential: expected layers, {complaint}; {remedy}"


def test_an_unknown_name_lists_the_known_ones():
    text = error_text(lambda: Sequential({"conv1": ReLU(), "fc2": ReLU()})["fc3"], KeyError)
    assert "expected a layer out of conv1, fc2; got 'fc3'" in text


def test_nan_from_outside_a_nested_net_names_the_layer_that_made_it():
    class Bad(ReLU):
        def forward(self, x):
            return x * np.nan

    x = np.ones((1, 2))
    for net, culprit in (
        (Sequential({"bad": Bad(), "block": Sequential({"relu": ReLU()})}), "Bad 'bad'"),
        (Sequential({"block": Sequential({"bad": Bad()}), "relu": ReLU()}), "Bad 'block.bad'"),
    ):
        assert error_text(lambda net=net: net(x), NonFiniteError).startswith(f"{culprit}: gave NaN")


def test_equal_layers_of_a_net_start_with_different_weights():
    net = Sequential(Linear(4, 4), Linear(4, 4), Sequential(Linear(4, 4)))
    weights = [parameter.data for name, parameter in net.named_parameters() if name.endswith("weight")]
    assert not any(np.isclose(a, b).all() for a, b in itertools.combinations(weights, 2))
    again = Sequential(Linear(4, 4), Linear(4, 4), Sequential(Linear(4, 4)))
    assert all(np.array_equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


def test_a_net_that_is_copied_or_pickled_before_its_first_step_starts_alike():
    net = Sequential({"a": Linear(4, 4), "b": Linear(4, 4)})
    copies = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for other in copies:
        assert all(np.array_equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
        other["a"].weight.data += 1
    assert not np.array_equal(net["a"].weight.data, copies[0]["a"].weight.data)


def test_weights_that_a_layer_has_already_are_kept():
    layer = Linear(4, 4)
    before = layer.weight.data.copy()
    assert np.array_equal(Sequential({"fc": layer})["fc"].weight.data, before)


def test_a_layers_own_layers_are_named_by_their_attributes():
    class Block(ReLU):
        def __init__(self):
            self.drop1, self.drop2 = Dropout(0.5), Dropout(0.5)

        def forward(self, x):
            return self.drop2(self.drop1(x))

    kept = (Block()(np.ones((100, 100))) > 0).mean()
    assert abs(kept - 0.25) < 0.03  # 0.5 if both drew the same mask
    assert [name for name, _ in Sequential({"block": Block()}).named_layers()] == [
        "block",
        "block.drop1",
        "block.drop2",
    ]


ALGORITHMS = ("winograd", "panels", "im2col")


def conv_relu(algorithm, behind=()):
    """3 -> 4 channels; `behind` the ReLU come further layers."""
    conv = using(Conv2d(3, 4, 3, padding=1), algorithm=algorithm)
    conv.bias.data[...] = [0.3, -0.2, 0.1, -0.4]
    return Sequential({"conv": conv, "relu": ReLU(), **dict(behind)})


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, (9, 10)), (np.float64, (4, 3))])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_conv_and_relu_in_one_give_the_same_bits(algorithm, dtype, size, monkeypatch):
    net, apart = conv_relu(algorithm).astype(dtype), conv_relu(algorithm).astype(dtype)
    x, dy = numbers((2, 3, *size), dtype), numbers((2, 4, *size), dtype, seed=1)
    expected = apart["conv"](x)
    assert (expected < 0).any()
    expected = apart["relu"](expected)
    dx = passes.backward(apart["conv"], passes.backward(apart["relu"], dy))

    monkeypatch.setattr(relu, "forward", None)  # nobody calls it, nor the layer's own
    assert same_bits(net(x), expected)
    assert same_bits(net.backward(dy), dx)
    for (name, got), (_, wanted) in zip(net.named_parameters(), apart.named_parameters(), strict=True):
        assert same_bits(got.grad, wanted.grad), name
    monkeypatch.undo()
    assert gradcheck(net, numbers((2, 3, 4, 3)), max_checks=20).checked["x"] == 20


def test_layers_with_a_forward_of_their_own_are_not_fused():
    class Doubled(Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Leaky(ReLU):
        def forward(self, x):
            return np.where(x > 0, x, 0.5 * x)

    conv, x = Conv2d(2, 3, 3), numbers((2, 2, 5, 6), np.float32)
    y = conv.forward(x)
    doubled = Doubled(2, 3, 3)
    doubled.weight.data[...] = conv.weight.data
    assert_close(Sequential(doubled, ReLU())(x), 2 * np.maximum(y, 0), np.float32)
    assert_close(Sequential(conv, Leaky())(x), np.where(y > 0, y, 0.5 * y), np.float32)
    assert_close(Sequential(conv, Sequential(ReLU()))(x), np.maximum(y, 0), np.float32)


def test_every_conv_and_relu_of_a_row_is_fused_once():
    pair = lambda: (Conv2d(2, 2, 3, padding=1), ReLU())  # noqa: E731
    layers = [ReLU(), *pair(), *pair(), ReLU(), Conv2d(2, 2, 3)]
    net, x = Sequential(*layers).astype(np.float64), numbers((2, 2, 5, 6))
    value, dy = x, numbers((2, 2, 3, 4))
    for layer in layers:
        value = layer(value)
    dx = dy
    for layer in reversed(layers):
        dx = passes.backward(layer, dx)
    assert same_bits(net(x), value)
    assert same_bits(net.backward(dy), dx)


BEHIND = {
    "nothing": {},
    "pool": {"pool": MaxPool(2)},
    "flatten": {"flatten": Flatten()},
    "conv": {"conv2": Conv2d(4, 2, 3), "relu2": ReLU()},
    "a net": {"block": Sequential({"drop": Dropout(0.5)})},
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_conv_in_one_with_its_relu_is_named_for_its_nan(algorithm, behind, bad):
    net = conv_relu(algorithm, BEHIND[behind])
    net["conv"].bias.data[2] = bad
    with pytest.raises(NonFiniteError) as caught:
        net(numbers((2, 3, 4, 3)))
    assert caught.value.layer == "Conv2d 'conv'"
    assert str(caught.value).startswith("Conv2d 'conv': gave NaN or infinity as its output")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_conv_at_the_end_of_a_nested_net_is_named_for_its_nan(algorithm, bad):
    net = Sequential({"block": conv_relu(algorithm), "flatten": Flatten()})
    net["block"]["conv"].bias.data[2] = bad
    with pytest.raises(NonFiniteError) as caught:
        net(numbers((2, 3, 4, 3)))
    assert caught.value.layer == "Conv2d 'block.conv'"


@pytest.mark.parametrize("name", ["a.b", "", 3])
def test_wrong_names(name):
    assert error_text(lambda: Sequential({name: ReLU()}), ValueError) == (
        f"Sequential: expected a name without a dot, got {name!r}"
    )


def test_no_layer_and_one_layer_twice():
    for layers in ((), ({},)):
        text = error_text(lambda layers=layers: Sequential(*layers), ValueError)
        assert text == "Sequential: expected at least one layer, and each layer once only"
    relu = ReLU()
    text = error_text(lambda: Sequential(relu, Flatten(), relu), ValueError)
    assert text == "Sequential: expected at least one layer, and each layer once only"
    text = error_text(lambda: Sequential(relu, Sequential(relu)), ValueError)
    assert text == "Sequential: expected at least one layer, and each layer once only"
