"""Every kernel that the library launches, under AddressSanitizer with UBSan, and under ThreadSanitizer."""

import sys
import tempfile
from pathlib import Path

import pytest
from cuda_on_cpu import why_not
from cuda_on_cpu.fake_cupy import FakeCupy
from cuda_on_cpu.sanitize import run_sanitized, why_not_sanitized
from strategies import numbers

from gpu.cases import COARSE, LAYERS, cropped, one_update, results

LAUNCHES_NOTHING_NEW = {"flatten", "net with large windows"}
NETS = {name: case for name, case in (LAYERS | COARSE).items() if name not in LAUNCHES_NOTHING_NEW}
OTHERS = {"update": one_update, "crops": cropped}
CASES = [*NETS, *OTHERS]


def run(load, case):
    """One case on a simulated GPU, whose kernels `load` compiles with the sanitizer. In the sanitizer's process."""
    if not isinstance(sys.modules.get("cupy"), FakeCupy):  # one for all cases: the library keeps compiled kernels
        sys.modules["cupy"] = FakeCupy(Path(tempfile.mkdtemp()), load=load)
    if case in OTHERS:
        OTHERS[case]("cuda:0")
        return
    make, shape = NETS[case]
    layer = make()
    results(layer, numbers(shape, "float32"), numbers(layer.output_shape(shape), "float32"), "cuda:0")


@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_no_kernel_is_reported(sanitize, tmp_path):
    for reason in (why_not(), why_not_sanitized(sanitize)):
        if reason:
            pytest.skip(reason)
    reports = run_sanitized(run, sanitize, CASES)
    assert reports == dict.fromkeys(CASES, "")
