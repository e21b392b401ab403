"""A split net computes what the whole one does: beside the whole net, and beside an independent one in PyTorch."""

import copy
import pickle
import types

import numpy as np
import pytest
from checks import error_text
from safetensors.numpy import load_file
from strategies import numbers

import tinynet
from parallel.nets import (
    CROSSING,
    LABELS,
    SHAPE,
    assert_alike,
    choices_that_differ,
    margin,
    off_by,
    one_step,
    relative,
    rounding,
    small,
    trained,
)
from tinynet import data, summary
from tinynet.fast.conv2d import path
from tinynet.inspect.features import activations, features
from tinynet.losses import SoftmaxCE
from tinynet.models import alexnet, alexnet_mini
from tinynet.optim import SGD
from tinynet.training.evaluate import evaluate, evaluation_mode

TWO, FOUR = ("cpu", "cpu"), ("cpu",) * 4
# of two small nets in float64: of one forward pass, and of a whole step of training
FORWARD, STEP = rounding(small(), SHAPE, logits=2.0)


@pytest.mark.parametrize(("towers", "devices"), [(2, TWO), (4, FOUR)])
def test_one_step_is_the_whole_nets(towers, devices):
    x = numbers(SHAPE)
    expected = one_step(small(towers=towers), x, LABELS)
    assert_alike(one_step(small(devices, towers), x, LABELS), expected, FORWARD, STEP)
    other = one_step(small(towers=towers), x, LABELS, step=4)  # could the masks be any?
    assert relative(other["logits"], expected["logits"]) > 0.01


def test_in_float32():
    """No two numbers between which ReLU or pooling choose are so near to each other that rounding could decide."""
    x = numbers(SHAPE, np.float32)
    expected, got = (one_step(small(devices, dtype=np.float32), x, LABELS) for devices in (None, TWO))
    assert got["logits"].dtype == np.float32
    forward, step = rounding(small(), SHAPE, np.float32, expected["logits"])
    assert margin(small(), x.astype(np.float64)) > forward
    assert_alike(got, expected, forward, step)


@pytest.mark.parametrize(("towers", "devices"), [(2, TWO), (4, FOUR)])
def test_beside_an_independent_net(towers, devices):
    torch = pytest.importorskip("torch", reason="PyTorch, the independent model, is not installed")
    F = torch.nn.functional
    net, loss = small(devices, towers), SoftmaxCE()
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in net.state_dict().items()}

    def conv(name, x, **options):
        return torch.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options))

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def lrn(x):  # PyTorch divides alpha by size
        return torch.cat([F.local_response_norm(part, 3, 3 * 0.5, 0.75, 1.0) for part in x.chunk(towers, 1)], 1)

    def drop(name, x):
        kept = tinynet.random.bits(tuple(x.shape), 0, name, 3) >= round(0.4 * 2**32)
        return x * torch.tensor(kept) / 0.6

    x = numbers(SHAPE)
    net.at_step(3)
    net.zero_grad()
    logits = net(x)
    loss(logits, LABELS)
    net.backward(loss.backward())
    z = F.max_pool2d(lrn(conv("conv1", torch.tensor(x), stride=2)), 3, 2, 1)
    z = F.max_pool2d(lrn(conv("conv2", z, padding=1, groups=towers)), 3, 2, 1)
    z = conv("conv4", conv("conv3", z, padding=1), padding=1, groups=towers)
    z = F.max_pool2d(conv("conv5", z, padding=1, groups=towers), 3, 2).flatten(1)
    z = drop("drop6", torch.relu(linear("fc6", z)))
    z = linear("fc8", drop("drop7", torch.relu(linear("fc7", z))))
    assert relative(logits, z.detach().numpy()) < FORWARD
    gradients = torch.autograd.grad(F.cross_entropy(z, torch.tensor(LABELS)), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        assert relative(dict(net.named_parameters())[name].grad, gradient.numpy()) < STEP, name


def test_the_papers_own_net_and_what_crosses_in_it():
    """468,992 bytes a picture: half of conv2's maps, of conv5's, of the neurons, there and back."""
    x, labels = 30 * numbers((2, 3, 227, 227), np.float32), np.array([3, 7])
    whole, net = (alexnet(num_classes=10, devices=devices) for devices in (None, TWO))
    for _, parameter in whole.named_parameters():  # larger than the paper's 0.01, so that every layer moves the result
        if len(parameter.shape) > 1:
            parameter.data *= np.float32(np.sqrt(2 / np.prod(parameter.shape[1:])) / 0.01)
    whole["fc8"].weight.data /= np.float32(100)  # logits of about 1: softmax makes their absolute error a relative one
    net.load_state_dict(whole.state_dict())
    whole.input_grad = net.input_grad = False
    expected, got = one_step(whole, x, labels, lr=1e-4), one_step(net, x, labels, lr=1e-4)
    assert {name: nbytes / 2 for name, nbytes in net.crossed.items()} == {
        "conv3": 346_112,
        "fc6": 73_728,
        "fc7": 32_768,
        "fc8": 16_384,
    }
    assert sum(net.crossed.values()) == 2 * 468_992
    assert 0.1 < np.abs(expected["logits"]).max() < 3
    forward, step = rounding(whole, x.shape, np.float32, expected["logits"])
    # a choice that rounding decided otherwise moves a few of the terms that a convolution's gradient adds up: of 338,
    # the pixels of two pictures, at least. Of two million choices, one in 10**7 may lie so near.
    moved = 4 * choices_that_differ(whole, net, x) / np.sqrt(2 * 13 * 13)
    assert_alike(got, expected, forward, step, moved)
    for what in ("logits", "conv1.weight.grad", "conv5.bias.grad", "fc6.bias.grad", "velocity 0"):
        with pytest.raises(AssertionError, match=what):
            assert_alike(got | {what: off_by(10 * step, expected[what])}, expected, forward, step)


def test_settings_changed_after_the_cut_are_the_parts_too():
    def changed(net):
        net["lrn1"].alpha, net["lrn2"].k = 0.9, 3.0
        net["drop6"].p, net["drop7"].seed = 0.2, 5
        net["conv2"].algorithm, net["conv1"].input_grad = "im2col", False
        return net

    x, whole, net = numbers(SHAPE), changed(small()), small(TWO)
    before = one_step(net, x, LABELS)["logits"]
    net.load_state_dict(small().state_dict())
    expected, got = one_step(whole, x, LABELS), one_step(changed(net), x, LABELS)
    assert relative(before, expected["logits"]) > 1e-3
    assert "dx" not in expected
    assert_alike(got, expected, FORWARD, STEP)
    for tower in net.towers:
        assert path(tower.layers["conv2"], SHAPE) == "im2col"
        assert (tower.layers["conv2"].groups, tower.layers["lrn1"].groups) == (1, 1)


PATCHED = [(name, method) for name in ("relu1", "pool1", "drop6") for method in ("forward", "backward")]


def noted(seen, method, function):
    def call(self, array):
        seen.append((self.name, method, self.part))
        return function(self, array)

    return call


@pytest.mark.filterwarnings("ignore::tinynet.errors.RunsPlainWarning")
def test_a_method_put_in_a_whole_layers_place_is_one_of_its_parts():
    """Bound to the whole layer it would compute with that, for all towers."""
    expected, net, seen = one_step(small(TWO), numbers(SHAPE), LABELS), small(TWO), []
    for name, method in PATCHED:
        setattr(net[name], method, types.MethodType(noted(seen, method, getattr(type(net[name]), method)), net[name]))
    got = one_step(net, numbers(SHAPE), LABELS)
    assert sorted(seen) == sorted((*patched, (t, 2)) for patched in PATCHED for t in range(2))
    assert_alike(got, expected, FORWARD, STEP)


@pytest.mark.filterwarnings("ignore::tinynet.errors.RunsPlainWarning")
@pytest.mark.parametrize(("name", "method"), PATCHED)
def test_a_closure_over_a_whole_layer_is_refused(name, method):
    net = small(TWO)
    own = getattr(net[name], method)
    setattr(net[name], method, lambda array: own(array))
    text = error_text(lambda: one_step(net, numbers(SHAPE), LABELS), ValueError)
    assert text.startswith(f"{net[name]}: expected a part of this layer, which computes in its tower")
    assert "types.MethodType(function, layer)" in text


@pytest.mark.parametrize(("towers", "devices"), [(2, TWO), (4, FOUR)])
def test_bytes_that_cross(towers, devices):
    """Forward every tower gets what the T - 1 others have; backward the same numbers go back."""
    net = small(devices, towers, np.float32)
    one_step(net, numbers(SHAPE, np.float32), LABELS)
    others = dict.fromkeys(CROSSING, towers - 1) | {"fc8": (towers - 1) / towers}  # the first tower alone reads there
    assert net.crossed == {name: 4 * SHAPE[0] * count * others[name] for name, count in CROSSING.items()}
    with evaluation_mode(net):
        net(numbers(SHAPE, np.float32))
    assert sum(net.crossed.values()) == sum(4 * SHAPE[0] * count * others[name] for name, count in CROSSING.items()) / 2


def test_losses_over_a_hundred_steps(shared_data):
    train, _ = data.load("fashion-mnist", shared_data, train_size=800, validation_size=1)
    losses = []
    for devices in (None, TWO):
        net = alexnet_mini(10, 1, 28, devices=devices).astype(np.float64)
        net.input_grad = False
        optimizer, loss = SGD(net.parameters(), 0.01), SoftmaxCE()
        loader = data.Loader(train, 8, mean=np.array([0.29]), std=np.array([0.35]))
        found = []
        for step, (x, labels) in enumerate(loader.epoch(0)):
            net.at_step(step)
            optimizer.zero_grad()
            found.append(loss(net(x.astype(np.float64)), labels))
            net.backward(loss.backward())
            optimizer.step()
        losses.append(found)
    whole, split = np.array(losses)
    assert len(whole) == 100
    assert whole[-10:].mean() < whole[:10].mean() - 0.3  # it learns
    # each step begins with the errors of all before
    step = rounding(alexnet_mini(10, 1, 28), (8, 1, 28, 28), logits=4.0)[1]
    assert np.abs(split - whole).max() < 100 * step * whole.max()


def test_a_run_goes_on_as_if_it_had_never_moved(tmp_path):
    """Weights, velocity and masks, from checkpoint to checkpoint, one device and two in turn."""
    for epochs, devices in enumerate([("cpu",), TWO, ("cpu",), TWO], 1):
        moved = trained(devices, epochs, tmp_path / "moved", resume=epochs > 1)
    stayed = trained(("cpu",), epochs, tmp_path / "stayed")
    steps = 4 * 2  # each begins with the errors of all before
    assert all(relative(moved[name], value) < steps * STEP for name, value in stayed.items())
    other = load_file(tmp_path / "stayed" / "checkpoints" / "step-000000008.safetensors")
    assert {name: array.shape for name, array in other.items()} == {
        name: array.shape
        for name, array in load_file(tmp_path / "moved" / "checkpoints" / "step-000000008.safetensors").items()
    }


def test_it_has_the_whole_nets_face():
    whole, net = small(), small(TWO)
    assert list(net.state_dict()) == list(whole.state_dict())
    assert all(np.array_equal(net.state_dict()[name], value) for name, value in whole.state_dict().items())
    assert [(name, p.shape, p.dtype) for name, p in net.named_parameters()] == [
        (name, p.shape, p.dtype) for name, p in whole.named_parameters()
    ]
    assert [name for name, _ in net.named_layers()] == [name for name, _ in whole.named_layers()]
    assert str(summary(net, SHAPE)) == str(summary(whole, SHAPE))
    assert net.output_shape(SHAPE) == (5, 7)
    assert net.macs(SHAPE) == whole.macs(SHAPE)
    assert net.device == "cpu"
    assert repr(net).startswith("Split(cpu, cpu; Sequential(")
    assert net["conv3"].out_channels == 24


def test_values_in_and_out():
    net, other = small(TWO), small(seed=5)
    net.load_state_dict(other.state_dict())
    assert all(np.array_equal(net.state_dict()[name], value) for name, value in other.state_dict().items())
    parameter = dict(net.named_parameters())["conv2.weight"]
    with pytest.raises(ValueError, match="read-only"):
        parameter.data[0] = 1.0  # would change a copy
    parameter.data = 2 * parameter.data
    assert np.array_equal(net.state_dict()["conv2.weight"], 2 * other.state_dict()["conv2.weight"])
    parameter.grad = np.ones(parameter.shape)
    assert parameter.grad.sum() == parameter.size
    net.zero_grad()
    assert not parameter.grad.any()
    with pytest.raises(ValueError, match="state does not fit"):
        net.load_state_dict(small(towers=4).state_dict() | {"fc8.bias": np.zeros(8)})
    assert net.astype(np.float32).state_dict()["fc6.weight"].dtype == np.float32


def test_evaluation_and_what_is_inside():
    whole, net, x = small(), small(TWO), numbers(SHAPE)
    batches = [(x, LABELS), (2 * x, LABELS)]
    assert evaluate(net, batches)[:2] == evaluate(whole, batches)[:2]
    assert evaluate(net, batches).loss == pytest.approx(evaluate(whole, batches).loss, rel=FORWARD)
    assert net.training
    ours, theirs = (activations(model, x, ["lrn2", "fc7"]) for model in (net, whole))
    assert relative(ours["lrn2"], theirs["lrn2"]) < FORWARD
    assert relative(features(net, batches, "relu7"), features(whole, batches, "relu7")) < FORWARD
    assert relative(net.whole().eval()(x), whole.eval()(x)) < FORWARD
    net.whole()["conv1"].weight.data[...] = 0  # a copy
    assert net.state_dict()["conv1.weight"].any()


def test_masks_go_on_by_themselves():
    """Without at_step each forward draws the next step's masks, as in the whole net."""
    whole, net, x = small(), small(TWO), numbers(SHAPE)
    for _ in range(3):
        assert relative(net(x), whole(x)) < FORWARD
    net.at_step(1)
    assert relative(net(x), whole.at_step(1)(x)) < FORWARD


def test_copies_are_nets_of_their_own():
    net, x = small(TWO), numbers(SHAPE)
    y = net.at_step(0)(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.at_step(0)(x), y)
        dict(other.named_parameters())["conv1.bias"].data = np.ones(8)
        assert not np.array_equal(other.at_step(0)(x), y)
    assert np.array_equal(net.at_step(0)(x), y)


def test_the_recorder_sees_every_layer_and_every_copy():
    net, x = small(TWO), numbers(SHAPE)
    seen = []

    class Span:
        @staticmethod
        def forward_begins():
            assert not seen

        def __init__(self, tower, kind, name, nbytes):
            self.entry = tower.number, tower.device, kind, name, nbytes

        def __enter__(self):
            seen.append(self.entry)

        def __exit__(self, *failure):
            seen.append("end")

    net.recorder = Span
    net.backward(net(x))
    spans = [entry for entry in seen if entry != "end"]
    assert len(seen) == 2 * len(spans)
    assert sum(entry[4] for entry in spans) == sum(net.crossed.values())
    assert (1, "cpu", "forward", "conv3 relu3", 0) in spans
    assert (0, "cpu", "forward", "fc8", 0) in spans
    assert (1, "cpu", "forward", "fc8", 0) not in spans
    assert (0, "cpu", "copy", "conv3: tower 2 to 1", 8 * 5 * 8 * 9) in spans
    names = [name for tower, _, kind, name, _ in spans if tower == 1 and kind == "backward"]
    assert names[-1] == "conv1"
    assert names.count("conv3") == 2  # dx, then the weights


@pytest.mark.parametrize("devices", [(None, TWO), (TWO, None)])
def test_what_an_optimiser_keeps_goes_on_in_the_other_net(devices):
    """One step there, then weights and velocity are loaded here, and the next step is the same in both."""
    nets = [small(each) for each in devices]
    optimizers = [SGD(net.parameters(), 0.05, weight_decay=0.01) for net in nets]
    x, loss = numbers(SHAPE), SoftmaxCE()

    def step(net, optimizer, number):
        net.at_step(number)
        optimizer.zero_grad()
        loss(net(x), LABELS)
        net.backward(loss.backward())
        optimizer.step()

    step(nets[0], optimizers[0], 0)
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for net, optimizer in zip(nets, optimizers, strict=True):
        step(net, optimizer, 1)
    first, second = (net.state_dict() for net in nets)
    for name in first:
        assert relative(second[name], first[name]) < STEP, name
