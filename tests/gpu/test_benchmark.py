"""benchmarks/gpu.py on a simulated GPU, so that it cannot fail for a trivial reason where a GPU is at hand."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tinynet import device

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def main(*options):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *options])
        return module.main()

    main.module = module
    return main


TINY = "--nets", "mini", "--batch-sizes", "2", "--check-batch", "3", "--repeat", "1", "--device", "1"


@pytest.mark.usefixtures("gpu")
def test_checks_and_times_every_layer(benchmark, tmp_path, capfd):
    assert benchmark(*TINY) == 0
    found = json.loads((tmp_path / "gpu-simulated-1.json").read_text("utf-8"))
    layers = [row["layer"] for row in found["checks"]]
    assert "conv1" in layers
    assert "lrn1" in layers
    assert {(row["layer"], row["direction"]) for row in found["times"]} == {
        *((layer, direction) for layer in layers for direction in ("forward", "backward")),
        ("step", "training"),
    }
    assert "0 wrong" in capfd.readouterr().out


@pytest.mark.usefixtures("gpu")
def test_a_wrong_kernel_makes_it_fail(benchmark, monkeypatch, capfd):
    monkeypatch.setattr(benchmark.module, "BOUND", 1e-12)
    monkeypatch.setattr(benchmark.module, "time_layers", lambda *args: [])
    monkeypatch.setattr(benchmark.module, "time_step", lambda *args: {})
    assert benchmark(*TINY) == 1
    assert "mini conv1: y, dx" in capfd.readouterr().out


def test_without_a_gpu_it_says_so(benchmark, monkeypatch, tmp_path, capfd):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device._try_out.cache_clear()
    assert benchmark() == 3
    assert "needs CuPy" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
