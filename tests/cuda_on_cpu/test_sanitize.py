"""Sanitizers report, one case at a time, and are silent about kernels that are right."""

import os
from pathlib import Path

import numpy as np
import pytest

from cuda_on_cpu import CpuModule, sanitize, why_not
from cuda_on_cpu.sanitize import SanitizerError, run_sanitized, why_not_sanitized

HERE = Path(__file__).parent
both = pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler():
    if reason := why_not() or why_not_sanitized("address,undefined,thread"):
        pytest.skip(reason)


def launch_right_ones(load, case):
    module = load(HERE / "features.cu", names=["shuffles", "adds_atomically"])
    if case == "shuffles":
        x = np.arange(32, dtype=np.int32)
        module.get_function(case)((4,), (32,), (x, np.zeros((6, 32), np.int32)), blocks=[2])
    elif case == "atomics of many blocks":
        arrays = [np.ones(1, dtype) for dtype in ("i4", "u4", "u8", "f4", "f8")]
        module.get_function("adds_atomically")((4,), (64,), arrays)
    else:  # two launches, where the second reads what the first wrote and writes over what it read
        name = "block_sums<double, 128>"
        kernel = load(HERE / "features.cu", names=[name]).get_function(name)
        x, out = np.arange(12.0).reshape(3, 4), np.zeros((3, 4))
        for first, second in ((x, out), (out, x)):
            kernel((4,), (128,), (first, None, second, 12), shared_mem=1024, guarded=False)


def launch_wrong_ones(load, case):
    module = load(HERE / "faulty.cu")
    if case == "crash":
        module.get_function("points_nowhere")((1,), (1,), (np.ones(1, np.float32), 1 << 44))
    elif case == "exception":
        module.get_function("no such kernel")
    elif case == "one too many":
        module.get_function("writes_past_the_end")((1,), (1,), (np.ones(3, np.float32), 3))
    elif case == "race of blocks":
        module.get_function("leaves_the_last_to_win")((4,), (1,), (np.ones(1, np.int32),))
    else:
        module.get_function("counts_itself")((1,), (3,), (np.ones(3, np.int32),))


@both
def test_silence(sanitizer):
    cases = ["sums", "shuffles", "atomics of many blocks"]
    assert run_sanitized(launch_right_ones, sanitizer, cases) == dict.fromkeys(cases, "")


@both
def test_every_case_has_its_own_report(sanitizer):
    cases = ["one too many", "crash", "none", "exception", "race of blocks", "last"]
    reports = run_sanitized(launch_wrong_ones, sanitizer, cases)
    assert list(reports) == cases
    assert (reports["none"], reports["last"]) == ("", "")
    assert "SEGV" in reports["crash"]
    assert "the process ended with" in reports["crash"]
    assert "KernelError: faulty.cu: no kernel no such kernel" in reports["exception"]
    if sanitizer == "thread":
        assert "KernelError: writes_past_the_end: argument 0: the kernel wrote past the end" in reports["one too many"]
        assert "faulty.cu:17 in leaves_the_last_to_win" in reports["race of blocks"]
    else:
        assert "AddressSanitizer: use-after-poison" in reports["one too many"]
        assert "faulty.cu:3" in reports["one too many"]


def test_a_sanitizer_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sanitize.LIBRARIES, "thread", "libnothing.so")
    assert why_not_sanitized("thread") == "-fsanitize=thread needs libnothing.so, which g++ does not have here"
    with pytest.raises(SanitizerError, match=r"needs libnothing\.so"):
        run_sanitized(launch_right_ones, "thread", ["sums"])


def test_what_fails_before_the_first_case(monkeypatch):
    monkeypatch.setattr(launch_right_ones, "__qualname__", "no_such_function")
    with pytest.raises(SanitizerError, match=r"(?s)does not run here, exit code 1:.*no_such_function"):
        run_sanitized(launch_right_ones, "thread", ["sums"])


def test_addresses_that_threadsanitizer_cannot_use(monkeypatch, tmp_path):
    """It is tried again without randomised addresses, and if that is not possible the reason is told."""
    words = "FATAL: ThreadSanitizer: unexpected memory mapping"
    for name, script in {
        "fussy": f'test "$1" = fixed || {{ echo {words}; exit 66; }}',
        "setarch": '"$3" fixed',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sanitize._run([str(tmp_path / "fussy")], os.environ, 60) == ("", 0)
    (tmp_path / "setarch").write_text("#!/bin/sh\necho setarch: not permitted; exit 1\n")
    assert "not permitted" in sanitize._run([str(tmp_path / "fussy")], os.environ, 60)[0]
    monkeypatch.setenv("PATH", "")
    assert words in sanitize._run([str(tmp_path / "fussy")], os.environ, 60)[0]


def test_not_without_the_library_loaded_first(tmp_path):
    with pytest.raises(RuntimeError, match=r"use cuda_on_cpu\.sanitize\.run_sanitized"):
        CpuModule(HERE / "faulty.cu", tmp_path, sanitize="thread")
