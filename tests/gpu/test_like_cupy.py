"""The tests of this folder with --on-gpu, as on a machine with one GPU: on a module that computes as the stand-in does,
but has CuPy 14.2's names alone, and its rules (tests/cuda_on_cpu/like_cupy.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def passed(kernels_folder, *chosen):
    """How many; all others were skipped."""
    path = [ROOT, ROOT / "tests", ROOT / "tests" / "cuda_on_cpu" / "as_cupy"]
    own = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    own |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "SIMULATED_KERNELS": str(kernels_folder)}
    options = ["-q", "-rf", "-p", "no:cacheprovider", "--on-gpu"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/gpu/{each}" for each in chosen)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=own)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    return int(re.search(r"(\d+) passed", output)[1])


@pytest.mark.elsewhere
def test_they_pass_there(kernels_folder):
    assert passed(kernels_folder, "") > 150
