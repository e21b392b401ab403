"""--on-gpu: what runs on a real GPU, for which here a module stands that has nothing of the stand-in's own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CUPY = """
import types
class runtime:
    getDeviceCount = staticmethod(lambda: 1)
cuda = types.SimpleNamespace(runtime=runtime)
"""
TESTS = """
import pytest
from tinynet.errors import DeviceError

def test_without():
    assert False, "left out"

def test_simulated(simulated_gpu):
    assert False, "left out"

def test_module(gpu, other_gpu):
    assert gpu.cuda.runtime.getDeviceCount() == 1
    assert other_gpu == "cuda:0"

def test_counts(gpu):
    assert gpu.launches == 0

def test_changes(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "cuda", None)

@pytest.mark.usefixtures("gpu")
def test_two_gpus():
    raise DeviceError("cuda:1: no such GPU; this machine has cuda:0")

@pytest.mark.usefixtures("gpu")
def test_fails():
    raise DeviceError("cuda:0: a first kernel gave wrong numbers")
"""


def test_chooses_and_skips(tmp_path):
    (tmp_path / "cupy.py").write_text(CUPY)
    tests = tmp_path / "gpu"
    tests.mkdir()
    (tests / "conftest.py").write_text((ROOT / "tests" / "gpu" / "conftest.py").read_text())
    (tests / "test_some.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    path = [str(tmp_path), str(ROOT), str(ROOT / "tests")]
    command = [sys.executable, "-m", "pytest", "-rs", "--rootdir", str(tmp_path), "--on-gpu", "-p", "no:cacheprovider"]
    code = f"import sys; sys.path[:0] = {path}; import pytest; sys.exit(pytest.main({command[3:]} + ['gpu']))"
    own = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}  # which .ci/run sets
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", env=own)
    output = done.stdout + done.stderr
    assert "1 failed, 1 passed, 3 skipped, 2 deselected" in output, output
    for text in ("no `launches`", "replaces `cuda`", "needs more GPUs"):
        assert text in output
