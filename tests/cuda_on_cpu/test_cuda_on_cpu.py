"""cuda_on_cpu must see the mistakes that it is there for: here are kernels that make them."""

import re
from pathlib import Path

import numpy as np
import pytest

from cuda_on_cpu import ORDERS, CpuModule, KernelError, kernel_names, nvrtc

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def faulty(kernels_folder):
    return CpuModule(HERE / "faulty.cu", kernels_folder)


def test_a_compiler_warning_is_an_error(kernels_folder):
    with pytest.raises(KernelError, match="unused"):
        CpuModule(HERE / "warning.cu", kernels_folder)
    if compiler := nvrtc.find_compiler():
        with pytest.raises(nvrtc.CompileError, match="unused"):
            compiler.cubin(HERE / "warning.cu", ["warns"], compiler.architectures()[-1])


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("writes_past_the_end", ("out", 3), "argument 0: the kernel wrote past the end"),
        ("writes_before_the_start", ("out", 1), "argument 0: the kernel wrote before the start"),
        ("changes_its_input", ("x", "out"), "argument 0 is an input, const float32*, and was changed"),
        ("points_nowhere", ("out", 1 << 44), "SIGSEGV in block (0, 0, 0), thread (0, 0, 0)"),
        ("overflows", ("integers", 1 << 16), "in block (0, 0, 0), thread (0, 0, 0)"),
        ("divides_by_zero", ("integers", 2), "in block (0, 0, 0), thread (2, 0, 0)"),
    ],
)
def test_a_faulty_kernel_is_caught(faulty, name, args, message):
    arrays = {"out": np.ones(3, np.float32), "x": np.ones(3, np.float32), "integers": np.ones(3, np.int32)}
    kernel = faulty.get_function(name)
    with pytest.raises(KernelError, match=re.escape(message)):
        kernel((1,), (3,), [arrays.get(arg, arg) for arg in args])


def test_what_lies_outside_an_array_reads_as_nan(faulty):
    out = np.zeros(1, np.float32)
    faulty.get_function("reads_past_the_end")((1,), (1,), (np.ones(3, np.float32), out, 3))
    assert np.isnan(out[0])


def test_the_order_of_threads_is_as_asked(faulty):
    last = {}
    for order in ORDERS:
        out = np.zeros(1, np.int32)
        faulty.get_function("leaves_the_last_to_win")((4,), (8,), (out,), order=order)
        last[order] = out[0]
    assert last["forward"] == 31
    assert last["reversed"] == 0
    assert last["shuffled"] not in (0, 31)


@pytest.mark.parametrize("order", ORDERS)
def test_every_thread_runs_once(faulty, order):
    out = np.zeros((2 * 3, 5 * 2, 3 * 4), np.int32)
    faulty.get_function("counts_itself")((3, 5, 2), (4, 2, 3), (out,), order=order)
    assert (out == 1).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros(3), 3), r"argument 0: expected a C-contiguous array for float32\*, got float64\(3,\)"),
        ((np.zeros(6, np.float32)[::2], 3), "argument 0: expected a C-contiguous array"),
        ((np.zeros(3, np.float32), 3.0), "argument 1: expected a whole number for int32, got 3.0"),
        ((np.zeros(3, np.float32), 1 << 31), "argument 1: 2147483648 does not fit int32"),
        ((np.zeros(3, np.float32),), "expected 2 arguments"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(faulty, args, message):
    with pytest.raises((TypeError, ValueError), match=message):
        faulty.get_function("writes_past_the_end")((1,), (1,), args)


def test_an_unknown_kernel_is_an_error(faulty):
    with pytest.raises(KernelError, match=r"faulty\.cu: no kernel overflow; it has writes_past_the_end, "):
        faulty.get_function("overflow")


def test_a_kernel_that_would_go_unseen_is_an_error(tmp_path):
    source = tmp_path / "strange.cu"
    source.write_text("__global__ void seen(float* x) {}\n__global__\nstatic void unseen() {}\n")
    with pytest.raises(ValueError, match=r"strange\.cu: expected kernels as .* of 2 I understand \['seen'\]"):
        kernel_names(source)
