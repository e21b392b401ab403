"""benchmarks/gpu.py on a simulated GPU and tiny sizes, so that it cannot fail for a trivial reason where a GPU is at
hand; PyTorch's side of it on PyTorch's CPU."""

import importlib
import importlib.util
import json
import sys

import pytest

from gpu.tiny_benchmark import BENCHMARKS, tiny
from tinynet.backend import device

TINY = "--nets", "tiny", "--batch-sizes", "3", "2", "--check-batch", "3", "--repeat", "1", "--one-process", "--no-suite"


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


def test_a_gpu_without_tensor_cores_keeps_its_rows(simulated_gpu, main, record, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "75")
    monkeypatch.setattr(main.program, "plan", first_jobs(main.program.plan, 4))
    assert main(*TINY, "--device", "1") == 0
    found = record()
    assert {row["precision"] for row in (*found["checks"], *found["times"])} == {"fp32"}
    assert found["failed"] == []
    for precision in ("tf32x3", "tf32", "bf16"):
        assert f"{precision} (this GPU has no such tensor cores)" in found["left_out"]


def test_a_row_that_the_device_refuses_does_not_lose_the_others(simulated_gpu, main, record, monkeypatch):
    monkeypatch.setattr(main.program, "plan", first_jobs(main.program.plan, 1))
    monkeypatch.setattr(main.program, "leave_out", lambda args, about: [])
    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "75")
    assert main(*TINY, "--device", "1") == 1  # a check could not be made
    found = record()
    assert [row["layer"] for row in found["checks"]] == [layer.name for layer in tiny()]
    assert len(found["failed"]) == 3 * 3
    assert found["failed"][0].startswith('check conv1 of tiny in tf32x3: cuda:1: precision "tf32x3" needs tensor cores')


def test_a_sanitizer_that_did_not_run_is_not_wrong(main, monkeypatch):
    program = main.program
    monkeypatch.setattr(program.gpu_suite, "sanitizer", lambda: None)
    found = program._sanitizer("memcheck", "cuda:0")(9)
    assert found["left_out"] == ["compute-sanitizer memcheck (not run: no compute-sanitizer here)"]
    assert program.wrong({"checks": [], "failed": [], "tests": {}, **found}) == []


def test_the_tests_of_the_device_come_after_the_checks_and_have_time(main):
    args = main.program.parse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu.py"])
        args = main.program.parse()
    about = {"where": "cuda:0", "peer_where": "cuda:0", "no_peer": "none", "count": 1}
    jobs = list(main.program.plan(args, about, {}, None))
    titles = [job.title for job in jobs]
    place = titles.index("tests on the device")
    assert jobs[place].limit >= 200
    assert [title.startswith("check ") for title in titles] == [True] * place + [False] * (len(titles) - place)


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
    from tinynet.ops.gpu.conv import choose

    right = choose.bias_gradient
    monkeypatch.setattr(choose, "bias_gradient", lambda dy: right(dy) * 1.001)
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
