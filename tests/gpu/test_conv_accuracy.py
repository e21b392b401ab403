"""benchmarks/conv_accuracy.py runs: on a batch that is small, a block of each launch."""

import sys

import pytest


@pytest.mark.parametrize(("bound", "code"), [(1e-3, 0), (1e-6, 1)])
def test_errors_are_measured_and_judged(simulated_gpu, module, monkeypatch, capsys, bound, code):
    program = module("conv_accuracy")
    monkeypatch.setitem(sys.modules, "cupy", simulated_gpu)  # the program puts its own there, and changes its devices
    monkeypatch.setattr(program.Device, "attributes", program.Device.attributes)
    monkeypatch.setattr(program, "BATCH", 2)
    monkeypatch.setitem(program.BOUNDS, "tf32", (bound, bound))
    monkeypatch.setattr(sys, "argv", ["conv_accuracy.py", "--layers", "conv5", "--precisions", "tf32", "--blocks", "1"])
    assert program.main() == code
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("conv5")]
    assert [row[2] for row in rows] == ["y", "dweight", "dx"]
    assert all(1e-5 < float(row[3]) < 1e-3 for row in rows)  # TF32 rounds to 10 bits
