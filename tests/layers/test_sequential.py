import numpy as np
import pytest
from checks import assert_close, error_text, forward_backward
from strategies import distinct_numbers, numbers

from tinynet import gradcheck
from tinynet.errors import NonFiniteError
from tinynet.layers import LRN, Conv2d, Flatten, Linear, MaxPool, ReLU, Sequential


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
        value = layer.forward(value)
    assert np.array_equal(y, value)
    dy = numbers(y.shape)
    for layer in reversed(flat):
        dy = layer.backward(dy)
    assert_close(dx, dy)
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
    assert error_text(lambda: Sequential(ReLU(), np.tanh), TypeError) == "Sequential: expected layers, got ufunc as '1'"
    assert error_text(lambda: Sequential(ReLU), TypeError) == "Sequential: expected layers, got type as '0'"


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
