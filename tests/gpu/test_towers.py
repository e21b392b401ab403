"""A net split over simulated GPUs: two, one with both towers, one beside the CPU. The CPU's numbers, and no forgotten
copy or event: each device has its own memory, and streams that use one array in no order are found (fake_order.py)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from parallel.nets import LABELS, SHAPE, assert_alike, margin, one_step, relative, rounding, small, trained
from strategies import numbers

from gpu.runs import counted
from tinynet.backend import streams
from tinynet.backend.device import to_cpu, to_device
from tinynet.errors import DeviceMemoryError
from tinynet.inspect.features import features
from tinynet.models import alexnet_mini
from tinynet.training.evaluate import evaluate

PLACES = [("cuda:0", "cuda:1"), ("cuda:0", "cuda:0"), ("cuda:0", "cpu"), ("cpu", "cuda:1")]
FORWARD, STEP = rounding(small(), SHAPE, logits=2.0)  # of two small nets in float64: a forward pass, a step
SIZES = ["--train-size", "8", "--val-size", "4", "--batch-size", "4", "--image-size", "28", "--epochs", "1", "--quiet"]


@pytest.fixture(autouse=True)
def _fresh_peers():
    streams.reaches.cache_clear()
    yield
    streams.reaches.cache_clear()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("devices", PLACES)
@pytest.mark.usefixtures("gpu")
def test_one_step_is_the_whole_nets(devices, dtype):
    x = numbers(SHAPE, dtype)
    net = small(devices, dtype=dtype)
    expected, got = one_step(small(dtype=dtype), x, LABELS), one_step(net, x, LABELS)
    forward, step = rounding(small(), SHAPE, dtype, expected["logits"])
    assert margin(small(), x.astype(np.float64)) > forward  # so no choice of ReLU or pooling can differ
    assert_alike(got, expected, forward, step)
    on_cpu = small(("cpu", "cpu"), dtype=dtype)
    one_step(on_cpu, x, LABELS)
    assert net.crossed == on_cpu.crossed
    assert [part.device for part in dict(net.named_parameters())["conv2.weight"].parts] == list(devices)
    assert [part.device for part in dict(net.named_parameters())["fc8.weight"].parts] == [devices[0]]


@pytest.mark.parametrize("peers", ["yes", "no", "wrong"])
def test_how_copies_go(gpu, peers):
    """Straight, if a pattern comes through; else through the host's pinned memory."""
    gpu.peers = peers
    x = numbers(SHAPE)
    net, expected = small(("cuda:0", "cuda:1")), one_step(small(), x, LABELS)
    for _ in range(2):
        net.load_state_dict(small().state_dict())
        got = one_step(net, x, LABELS)
    assert_alike(got, expected, FORWARD, STEP)
    # a test each way; then in each of two steps two copies at three exchanges, there and back, and one at fc8's
    assert gpu.peer_copies == {"yes": 2 + 2 * 14, "no": 0, "wrong": 2}[peers]


def test_a_step_makes_the_host_wait_for_nothing_but_its_results(gpu):
    net, x = small(("cuda:0", "cuda:1")), numbers(SHAPE)
    net.input_grad = False
    net.at_step(0)(x)
    before = counted(gpu, "synchronisations")
    dy = to_device(numbers((5, 7)), "cuda:0")
    net(x)
    net.backward(dy)
    assert counted(gpu, "synchronisations") == before


@pytest.mark.parametrize("order", ["C order", "batch innermost"])
@pytest.mark.parametrize("peers", ["yes", "no"])
def test_x_on_one_gpu_goes_to_the_other_without_the_host(gpu, peers, order):
    """Through memory that is free again as soon as the pass is over."""
    gpu.peers = peers
    net, expected = small(("cuda:0", "cuda:1")).eval(), small().eval()
    net(to_device(numbers(SHAPE), "cuda:0"))
    waited, copied = gpu.synchronisations, gpu.peer_copies
    found = []
    for seed in range(3):
        found.append(net(to_device(numbers(SHAPE, seed=seed, layout=order), "cuda:0")))
    assert gpu.synchronisations == waited
    assert gpu.peer_copies - copied == (3 * (1 + 7) if peers == "yes" else 0)  # at four exchanges, there and back
    for seed, logits in enumerate(found):
        assert relative(to_cpu(logits), expected(numbers(SHAPE, seed=seed))) < FORWARD


@pytest.mark.parametrize("where", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("devices", [("cuda:0", "cuda:0"), ("cuda:0", "cpu")])
@pytest.mark.usefixtures("gpu")
def test_x_on_any_gpu(devices, where):
    net, expected = small(devices).eval(), small().eval()
    for seed in range(3):
        got = net(to_device(numbers(SHAPE, seed=seed), where))
        assert relative(to_cpu(got), expected(numbers(SHAPE, seed=seed))) < FORWARD


def test_a_forgotten_event_is_found(simulated_gpu, monkeypatch):
    """The check of the check: without waiting, the copies come too early."""
    net, x = small(("cuda:0", "cuda:1")), numbers(SHAPE)
    monkeypatch.setattr(streams, "wait_for", lambda *args: None)
    with pytest.raises(AssertionError, match="in no order: an event is missing"):
        net(x)


@pytest.mark.usefixtures("gpu")
def test_four_towers_on_two_gpus():
    x = numbers(SHAPE)
    expected = one_step(small(towers=4), x, LABELS)
    got = one_step(small(("cuda:0", "cuda:1", "cuda:0", "cpu"), 4), x, LABELS)
    assert_alike(got, expected, FORWARD, STEP)


@pytest.mark.usefixtures("gpu")
def test_the_rest_of_a_layers_face():
    whole, net, x = small(), small(("cuda:1", "cuda:0")), numbers(SHAPE)
    assert net.device == "cuda:1"
    assert all(np.array_equal(net.state_dict()[name], value) for name, value in whole.state_dict().items())
    net.load_state_dict(small(seed=3).state_dict())
    whole.load_state_dict(net.state_dict())
    batches = [(x, LABELS)]
    assert evaluate(net, batches).loss == pytest.approx(evaluate(whole, batches).loss, rel=FORWARD)
    assert relative(features(net, batches, "fc7"), features(whole, batches, "fc7")) < FORWARD
    assert relative(to_cpu(net.eval()(to_device(x, "cuda:0"))), whole.eval()(x)) < FORWARD


@pytest.mark.parametrize("devices", PLACES[:3])
def test_no_memory_in_the_middle_of_a_step(gpu, devices):
    net, x = small(devices), numbers(SHAPE)
    expected = one_step(small(devices), x, LABELS)
    layer = net.towers[0].layers["conv4"]
    backward = layer.backward

    def full(dy):
        del layer.backward
        gpu.memory = 100
        return backward(dy)

    layer.backward = full
    with pytest.raises(DeviceMemoryError, match=r"cuda:0 is out of memory for .*\(in tower 1 of 2, on cuda:0\)"):
        one_step(net, x, LABELS)
    gpu.memory = 1 << 40
    again = one_step(net, x, LABELS)
    assert all(np.array_equal(again[what], array) for what, array in expected.items())
    assert gpu.cuda.Device().id == 0


@pytest.mark.usefixtures("gpu")
def test_a_run_goes_on_on_any_devices(tmp_path):
    """Weights, velocity and masks, from checkpoint to checkpoint: as if the run had never moved."""
    choices = [("cpu",), ("cuda:0", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu"), ("cuda:0",), ("cuda:0", "cpu")]
    for epochs, devices in enumerate([*choices, ("cuda:1", "cuda:0"), ("cpu",)], 1):
        moved = trained(devices, epochs, tmp_path / "moved", resume=epochs > 1)
    stayed = trained(("cpu",), epochs, tmp_path / "stayed")
    steps = 8 * 2  # each begins with the errors of all before
    for name, value in stayed.items():
        assert relative(moved[name], value) < steps * STEP, name


def test_the_program_on_two_gpus(two_gpus, quick, tmp_path, capfd):
    assert quick(*SIZES, "--out", "run", "--devices", "0,cpu") == 0
    assert "warning: one tower on the CPU: the numbers are the same" in capfd.readouterr().err
    assert quick("--resume", "run", "--epochs", "2", "--devices", "0,1", "--quiet") == 0
    copies = counted(two_gpus, "peer_copies")
    assert copies is None or copies > 2 * 14
    assert quick("--evaluate", "run", "--devices", "1,0", "--batch-size", "4", "--quiet") == 0
    assert "one tower on the CPU" not in capfd.readouterr().err


def test_a_second_gpu_that_is_not_there(simulated_gpu, program, capfd):
    assert program(*SIZES, "--devices", "0,7") == 2
    text = capfd.readouterr().err
    assert "--devices: cuda:7: no such GPU; this machine has cuda:0, cuda:1" in text
    assert "--devices cpu,cpu" in text
    with pytest.raises(ValueError, match="expected one device, or 2, one for each tower, got 3"):
        alexnet_mini(devices=("cuda:0",) * 3)


@pytest.mark.usefixtures("_threads_as_before")
def test_the_benchmark_sends_the_pictures_once(gpu, monkeypatch, capsys):
    """Before the clock starts, for the whole net and the split one."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import towers

    sent, asarray = [], gpu.asarray
    monkeypatch.setattr(gpu, "asarray", lambda values: sent.append(values.size) or asarray(values))
    options = ["--devices", "0,1", "--batch-size", "2", "--repeat", "1", "--pause", "0", "--json"]
    monkeypatch.setattr(sys, "argv", ["towers.py", *options])
    assert towers.main() == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["ratio"] > 0
    assert sent.count(2 * 3 * 32 * 32) == 1
