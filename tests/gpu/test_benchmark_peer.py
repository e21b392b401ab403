"""PyTorch's side of the GPU's benchmark, on PyTorch's CPU; and what is counted and compared."""

import numpy as np
import pytest
from bounds import FACTOR, roundings
from checks import assert_close

from gpu.tiny_benchmark import tiny
from tinynet import models
from tinynet.layers import Conv2d, Dropout, Linear, MaxPool, ReLU, Sequential

H200 = {"bandwidth": 4.3e12, "fp32": 47e12, "tf32": 408e12, "bf16": 790e12}  # what such GPUs were measured to reach


@pytest.mark.parametrize(
    ("precision", "floors"),
    [("fp32", (11.8, 23, 92)), ("tf32", (1.8, 3.2, 12.1)), ("bf16", (1.1, 1.9, 6.6))],
)
def test_the_floors_of_the_papers_net(module, precision, floors):
    """Counted apart from this, in ms, for batches of 128, 256 and 1024. They have two figures: 5 % is the rounding of
    the smallest, 1.1."""
    net = models.alexnet("paper")
    net.input_grad = False
    for N, expected in zip((128, 256, 1024), floors, strict=True):
        floor = module("gpu_roofline").step_floor(net, (N, 3, 227, 227), H200, precision)
        assert 1e3 * floor == pytest.approx(expected, rel=0.05)


def test_the_work_of_single_layers(module):
    roofline = module("gpu_roofline")
    conv, linear = Conv2d(4, 6, 3, padding=1, groups=2), Linear(10, 7)
    forward, backward = roofline.layer_work(conv, (5, 4, 8, 9))
    x, y, weight, bias = 5 * 4 * 72, 5 * 6 * 72, 6 * 2 * 9, 6
    assert forward[2:] == (2 * y * 2 * 9, 4 * (x + y + weight + bias))
    assert backward.flops == 2 * forward.flops
    assert backward.bytes == 4 * (2 * x + y + 2 * (weight + bias))
    conv.input_grad = False
    assert roofline.layer_work(conv, (5, 4, 8, 9))[1].flops == forward.flops
    assert roofline.layer_work(linear, (3, 10), "bf16")[0][2:] == (2 * 3 * 70, 2 * (30 + 21 + 77))
    assert roofline.layer_work(ReLU(), (3, 10))[1][2:] == (0, 4 * 90)
    assert roofline.layer_work(MaxPool(2), (1, 1, 4, 4))[1][2:] == (0, 4 * (16 + 4))


def test_a_floor_is_the_longer_of_two_times(module):
    roofline = module("gpu_roofline")
    ceilings = {"bandwidth": 10.0, "tf32": 100.0}
    assert roofline.floor(roofline.Work("a", "forward", 1000, 20), ceilings, "tf32") == 10
    assert roofline.floor(roofline.Work("a", "forward", 1000, 20), ceilings, "tf32x3") == 30
    assert roofline.floor(roofline.Work("a", "forward", 0, 20), ceilings, "bf16") == 2
    assert roofline.floor(roofline.Work("a", "forward", 1, 20), ceilings, "bf16") is None


# --- PyTorch's side --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["strict fp32", "TF32", "bf16 autocast", "bf16 weights", "TF32, compiled"])
def test_pytorch_computes_the_same_step(module, name):
    """The same loss as tinynet's, so that the same is timed; and again after another step, by both."""
    torch = pytest.importorskip("torch")
    peer, gpu_nets = module("gpu_peer"), module("gpu_nets")
    layers = {layer.name: layer for layer in tiny() if name != "bf16 weights" or layer.name != "lrn1"}  # not on a CPU
    for layer in layers.values():
        if isinstance(layer, Dropout):
            layer.p = 0.0  # its masks are others
    model, setting = Sequential(layers).eval(), peer.SETTINGS[name]
    x, labels = gpu_nets.batch("tiny", 4)
    seen = []
    original = torch.nn.CrossEntropyLoss.forward

    def forward(self, *args):
        seen.append(original(self, *args).detach().float())
        return torch.nn.functional.cross_entropy(*args)

    with peer.as_before(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.CrossEntropyLoss, "forward", forward)
        peer.apply(setting)
        step = peer.step(model, setting, x, labels, "cpu")
        step()
        step()
    loss, optimizer = gpu_nets.loss_and_optimizer(model)
    # three layers behind each other, of which bf16 rounds both factors and the result
    rel = 3 * 2 * FACTOR["bf16"] if "bf16" in name else roundings(2 * (27 + 16 + 10), np.float32)
    for got in seen:
        assert float(got) == pytest.approx(loss.forward(model.forward(x), labels), rel=rel)
        optimizer.zero_grad()
        model.backward(loss.backward())
        optimizer.step()


def test_pytorchs_layers_compute_the_same(module):
    pytest.importorskip("torch")
    peer, random = module("gpu_peer"), np.random.default_rng(0)
    for layer, shape in module("gpu_nets").layers(tiny().eval(), "tiny", 3):
        if isinstance(layer, Dropout):
            continue
        x = random.standard_normal(shape).astype(np.float32)
        dy = random.standard_normal(layer.output_shape(shape)).astype(np.float32)
        with peer.as_before():
            forward, backward = peer.layer_calls(layer, peer.SETTINGS["strict fp32"], x, dy, "cpu")
            y, (dx, *gradients) = forward(), backward()
        few = {
            "dtype": np.float32,
            "terms": 2 * 75,
        }  # twice the longest sum, of conv1's gradient
        assert_close(y.detach().numpy(), layer.forward(x), **few)
        assert_close(dx.numpy(), layer.backward(dy), **few)
        for got, parameter in zip(gradients, layer.parameters(), strict=True):
            assert_close(got.numpy(), parameter.grad, **few)
