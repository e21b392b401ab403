"""benchmarks/gpu.py on a simulated GPU and tiny sizes, so that it cannot fail for a trivial reason where a GPU is at
hand; PyTorch's side of it on PyTorch's CPU."""

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tinynet import device, models
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, ReLU, Sequential

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
H200 = {"bandwidth": 4.3e12, "fp32": 47e12, "tf32": 408e12, "bf16": 790e12}  # what such GPUs were measured to reach
TINY = "--nets", "tiny", "--batch-sizes", "3", "2", "--check-batch", "3", "--repeat", "1", "--one-process", "--no-suite"


def tiny():
    first = {"conv1": Conv2d(3, 4, 3, stride=2, groups=1), "relu1": ReLU(), "lrn1": LRN(3, 0.1, 0.75, 2.0, groups=2)}
    last = {"flatten": Flatten(), "fc6": Linear(4 * 2 * 2, 10), "drop6": Dropout(0.5), "fc7": Linear(10, 10)}
    return Sequential({**first, "pool1": MaxPool(3, 2), **last})


@pytest.fixture
def module(monkeypatch):
    """module(name): one of the benchmark's modules, its sizes made small."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    small = {
        "gpu_check": {"SPARE": 1 << 10, "STEP_CHECK": 2},
        "gpu_time": {"STEPS_S": 0.0, "OTHER_BYTES": 64, "OTHER_TIMES": 2},
        "gpu_nets": {"BLOCK": 1001},
        "gpu_peer": {"BACKEND": "eager"},
        "worker_gpu": {"COPIED": 1000, "PRODUCT": 8},
    }
    for name, sizes in small.items():
        for key, value in sizes.items():
            monkeypatch.setattr(importlib.import_module(name), key, value, raising=key != "STEP_CHECK")
    nets = importlib.import_module("nets")
    monkeypatch.setitem(nets.NETS, "tiny", nets.Net(tiny, 11, 2.0))
    return importlib.import_module


@pytest.fixture
def main(module, monkeypatch, tmp_path):
    """main(*options) of benchmarks/gpu.py; `gpu` is a package of tests, so it goes by another name here."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *options])
        return program.main()

    call.program = program
    return call


@pytest.fixture
def record(tmp_path):
    """What was written."""
    return lambda: json.loads((tmp_path / "results" / "gpu-simulated-1.json").read_text("utf-8"))


def test_checks_and_times_and_writes_tables(simulated_gpu, main, record, tmp_path, capfd):
    pytest.importorskip("torch")
    assert main(*TINY, "--device", "1", "--peer-device", "cpu") == 0
    found = record()
    layers = [layer.name for layer in tiny()]
    assert {row["layer"] for row in found["checks"]} == {*layers, "step"}
    assert all(row["errors"] and not row["wrong"] for row in found["checks"])
    conv = [row["precision"] for row in found["checks"] if row["layer"] == "conv1"]
    assert conv == ["fp32", "tf32x3", "tf32", "bf16"]

    times = {(row["layer"], row["batch_size"], row["precision"], row["who"]) for row in found["times"]}
    assert {(layer, N, "fp32", who) for layer in layers for N in (2, 3) for who in ("tinynet", "strict fp32")} <= times
    for precision, peer in (("fp32", "strict fp32"), ("tf32", "TF32"), ("bf16", "bf16 autocast")):
        for who in ("tinynet", peer, f"{peer}, compiled"):
            assert ("step", 3, precision, who) in times
    assert ("step", 3, "tf32", "default") in times
    assert set(found["ceilings"]) == {"bandwidth", "fp32", "tf32", "bf16"}
    assert all(row["s"] > 0 and row["floor_s"] is not None for row in found["times"])
    # nothing fails but what a CPU cannot do: graphs, and PyTorch's LRN in bf16
    graphs = ("PyTorch, strict fp32, graph", "PyTorch, TF32, graph", "PyTorch, bf16 autocast, graph")
    assert [t for t in found["failed"] if not t.startswith((*graphs, "PyTorch, bf16 weights", "recorded"))] == []

    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "## GPU: simulated 1" in text
    assert "tiny, batch 2, each layer alone" in text
    assert f"seed {found['seed']}: 0 wrong" in text
    assert "0 problems" in capfd.readouterr().out


def test_without_pytorch(simulated_gpu, main, record, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(*TINY, "--device", "1", "--precisions", "fp32") == 0
    found = record()
    assert {row["who"].partition(",")[0] for row in found["times"]} == {"tinynet"}
    assert set(found["ceilings"]) == {"bandwidth", "fp32"}
    assert any("PyTorch cannot be imported" in text for text in found["left_out"])


def test_a_wrong_number_is_found(simulated_gpu, main, module, monkeypatch, capfd):
    """dbias of a kernel that is off by a thousandth."""
    monkeypatch.setattr(main.program, "plan", first_jobs(main.program.plan, 2))
    from tinynet.ops.gpu import conv_paths

    right = conv_paths.bias_gradient
    monkeypatch.setattr(conv_paths, "bias_gradient", lambda dy: 1.001 * right(dy))
    assert main(*TINY, "--device", "1") == 1
    assert "conv1    y" in (text := capfd.readouterr().out)
    assert "WRONG: dbias" in text


def first_jobs(plan, count):
    return lambda *args: list(plan(*args))[:count]


def test_an_element_that_no_kernel_writes_is_found(simulated_gpu, module, monkeypatch):
    from tinynet.ops.gpu import elementwise

    right = elementwise.relu

    def lazy(x):
        y, kept = right(x)
        y[:1] = float("nan")
        return y, kept

    monkeypatch.setattr(elementwise, "relu", lazy)
    rows = module("gpu_check").check_layers("tiny", 2, ["fp32"], 0, "cuda:0")
    assert [row["layer"] for row in rows if "y" in row["wrong"]] == ["relu1"]


def test_what_fails_does_not_lose_the_rest(simulated_gpu, main, module, record, monkeypatch):
    def full(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(module("gpu_check"), "check_step", full)
    assert main(*TINY, "--device", "1", "--peer-device", "cpu", "--precisions", "fp32", "--batch-sizes", "2") == 1
    found = record()
    assert "check a step of tiny: MemoryError: no room" in found["failed"]
    assert {row["layer"] for row in found["times"]} >= {"step", "conv1"}


def test_a_budget_that_is_over_says_what_was_left_out(simulated_gpu, main, record):
    assert main(*TINY, "--device", "1", "--budget", "1") == 1  # nothing was checked
    found = record()
    assert "check layers of tiny (no time left)" in found["left_out"]
    assert "steps, tiny at 3 in bf16 (no time left)" in found["left_out"]
    assert found["times"] == []


def test_without_a_gpu_it_says_so(main, monkeypatch, tmp_path, capfd):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device._try_out.cache_clear()
    assert main("--one-process") == 3
    assert "needs CuPy" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- counting --------------------------------------------------------------------------------------------------------


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
    model, setting = Sequential(layers).eval(), peer.SETTINGS[name]
    x, labels = gpu_nets.batch("tiny", 4)
    seen = []
    original = torch.nn.CrossEntropyLoss.forward

    def forward(self, *args):
        seen.append(original(self, *args).detach().float())
        return torch.nn.functional.cross_entropy(*args)

    with peer.as_before(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.CrossEntropyLoss, "forward", forward)
        patch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
        peer.apply(setting)
        step = peer.step(model, setting, x, labels, "cpu")
        step()
        step()
    loss, optimizer = gpu_nets.loss_and_optimizer(model)
    for got in seen:
        assert float(got) == pytest.approx(loss.forward(model.forward(x), labels), rel=2e-2 if "bf16" in name else 1e-5)
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
        np.testing.assert_allclose(y.detach().numpy(), layer.forward(x), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dx.numpy(), layer.backward(dy), rtol=1e-4, atol=1e-5)
        for got, parameter in zip(gradients, layer.parameters(), strict=True):
            np.testing.assert_allclose(got.numpy(), parameter.grad, rtol=1e-4, atol=1e-5)


# --- the parts around ------------------------------------------------------------------------------------------------


def test_medians_by_turns(module):
    time, calls = module("gpu_time"), []
    made = {name: time.Call(lambda name=name: calls.append(name), lambda: None) for name in "ab"}
    times = iter([9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 8.0, 6.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "seconds", lambda call, count: call() or next(times))
        assert time.alternate(made, 3, lambda: calls.append(".")) == {"a": 3.0, "b": 4.0}
    assert "".join(calls) == ".a.b" * 5


def test_towers_where_they_can_be_made(simulated_gpu, module, main, monkeypatch):
    """On this tinynet or one that is to come: a model which takes `devices` is timed, the split beside the whole."""
    devices = module("gpu_devices")
    monkeypatch.setattr(simulated_gpu.cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    monkeypatch.setattr(devices.gpu_nets, "batch", None)
    made = []

    def alexnet(preset="paper", num_classes=10, devices=None):
        made.append(devices)
        return tiny().to(devices[0]) if devices else tiny()

    monkeypatch.setattr(devices.models, "alexnet", alexnet)
    assert devices.can_split()
    rows = devices.compare(2, [["cuda:0"], ["cuda:0", "cuda:0"], ["cuda:0", "cuda:1"]], size=11, classes=10)
    assert made == [None, ("cuda:0", "cuda:0"), ("cuda:0", "cuda:1")]
    assert [row["devices"] for row in rows] == ["cuda:0", "cuda:0,cuda:0", "cuda:0,cuda:1"]
    assert rows[0]["speed_up"] == 1
    assert all(math.isclose(row["speed_up"], rows[0]["s"] / row["s"]) for row in rows)
    monkeypatch.setattr(devices.models, "alexnet", lambda preset: tiny())
    assert not devices.can_split()


def test_a_worker_process_that_hangs_or_dies_is_replaced(module, monkeypatch, tmp_path):
    runner, peers = module("gpu_runner"), module("peers")
    script = tmp_path / "worker_gpu.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    verb = json.loads(line)['verb']\n"
        "    {'hang': lambda: time.sleep(600), 'die': lambda: os._exit(3)}.get(verb, lambda: None)()\n"
        "    print(json.dumps({'result': verb} if verb == 'fine' else {'error': 'bad'}), flush=True)\n"
    )
    monkeypatch.setattr(peers, "__file__", str(tmp_path / "peers.py"))
    worker = runner.Process()
    try:
        for verb, limit, text in (("hang", 1, "no end within 1 s"), ("die", 60, "exit code 3"), ("odd", 60, "bad")):
            with pytest.raises(peers.BenchmarkError, match=text):
                worker.ask(verb, limit)
            assert worker.ask("fine", 60) == "fine"
    finally:
        worker.close()


def test_the_tests_of_the_device_are_run_in_a_process(module):
    suite = module("gpu_suite")
    chosen = ("-k", "test_an_unknown_device and gpu", "--collect-only")
    found = suite.device_tests(300, chosen)
    assert not found["passed"]  # all of those are left out with --on-gpu
    assert "deselected" in found["summary"]
    assert suite.device_tests(0.01)["summary"] == "no end within 0 s"


def test_compute_sanitizer_is_asked_and_believed(module, monkeypatch, tmp_path):
    suite = module("gpu_suite")
    assert suite.sanitized("memcheck", "cuda:0", 60)["summary"] == "not run: no compute-sanitizer here"
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "$@" >&2\necho "========= ERROR SUMMARY: 2 errors"\nexit 86\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = suite.sanitized("memcheck", "cuda:0", 60)
    assert (found["passed"], found["summary"]) == (False, "ERROR SUMMARY: 2 errors")
    assert "--tool memcheck --error-exitcode 86" in found["output"]
    assert "every_kernel.py cuda:0" in found["output"]


def test_every_kernel_runs(simulated_gpu, monkeypatch, capfd):
    from gpu import cases, every_kernel

    monkeypatch.setattr(simulated_gpu.cuda, "set_allocator", lambda allocator: None, raising=False)
    monkeypatch.setattr(simulated_gpu.cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    monkeypatch.setattr(every_kernel, "LAYERS", {name: cases.LAYERS[name] for name in ("relu", "pool")})
    every_kernel.main("cuda:0")
    assert capfd.readouterr().out.split() == ["relu", "pool"]
    assert simulated_gpu.launches > 8


def test_the_tables_of_a_made_up_gpu(module, tmp_path):
    report = module("gpu_report")
    about = {"net": "paper", "batch_size": 128, "precision": "tf32", "layer": "step", "direction": "step"}
    rows = [
        {**about, "who": "tinynet", "s": 0.002, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 2.5e9},
        {**about, "who": "TF32", "s": 0.004, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 3.5e9},
        {**about, "who": "default", "s": 0.005, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 3.5e9},
        {**about, "layer": "relu1", "direction": "forward", "who": "tinynet", "s": 1e-5, "flops": 0, "floor_s": None},
    ]
    checks = [{**about, "layer": "conv1", "errors": {"y": 3e-4, "dbias": 2.0}, "wrong": ["dbias"]}]
    record = {"gpu": "Some GPU (TM) 1", "versions": {"cupy": "14.2"}, "seed": 7, "repeat": 3, "times": rows}
    record |= {"checks": checks, "tests": {"summary": "9 passed"}, "sanitizer": {"memcheck": {"summary": "0 errors"}}}
    record |= {"devices": [{"devices": "cuda:0,cuda:1", "batch_size": 128, "s": 0.001, "speed_up": 1.75}]}
    record |= {"ceilings": {"bandwidth": 4.3e12, "tf32": 4e14}, "left_out": ["two things"], "failed": []}
    assert report.write(tmp_path, record).name == "gpu-Some-GPU-TM-1.json"
    (tmp_path / "RESULTS.md").write_text("# Results\n\nkept\n")
    report.write_tables(tmp_path)
    report.write_tables(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert text.startswith("# Results\n\nkept\n")
    assert text.count("## GPU: Some GPU (TM) 1") == 1
    best = "| paper | 128 | tf32 | tinynet | 2.000 | 4.000 | TF32 | 0.50 | 200.0 | 90% | 2.50 | 3.50 |"
    lines = best, "| relu1 | forward | tf32 | 0.010 |  |  |  |  |  |", "| cuda:0,cuda:1 | 128 | 1.000 | 1.75 |"
    for line in (*lines, "| tf32 | default | 5.000 |"):
        assert line in text
    for part in ("1 wrong: paper conv1 in tf32: dbias", "9 passed", "memcheck: 0 errors", "tf32 400.00 TFLOP/s"):
        assert part in text
    assert "Not measured: two things." in text


def test_results_md_says_what_the_files_say(module):
    """No GPU number stands there that no file has; without a file it says that there is none yet."""
    report = module("gpu_report")
    text = (BENCHMARKS / "RESULTS.md").read_text("utf-8")
    assert report.part(BENCHMARKS) in text
    assert ("No GPU has been measured yet" in text) == (not list((BENCHMARKS / "results").glob("gpu-*.json")))


@pytest.fixture(autouse=True)
def _with_precisions(monkeypatch):
    if not hasattr(Layer, "set_precision"):
        monkeypatch.setattr(Layer, "set_precision", lambda self, precision: self, raising=False)
