"""Every mistake planted in planted_bugs.cu is seen in the ways named here; the same kernel without it in none."""

from pathlib import Path

import numpy as np
import pytest

from cuda_on_cpu import ORDERS, CpuModule, KernelError, kernel_names
from cuda_on_cpu.sanitize import run_sanitized, why_not_sanitized

SOURCE = Path(__file__).with_name("planted_bugs.cu")
N = 128
SANITIZERS = ("address,undefined", "thread")

# kernel: N, what out[i] should be, and who must see the mistake. The ways:
#   wrong             a wrong number in out, or NaN, in at least one order of blocks and threads
#   other words       from the KernelError of an ordinary launch
#   asan, ubsan, tsan a report
BUGS = {
    "missing_barrier": (N, lambda x: _mirrored(x), {"wrong", "tsan"}),
    "missing_barrier_in_a_loop": (N, lambda x: 2 * _mirrored(x) + 1000, {"wrong", "tsan"}),
    "missing_syncwarp": (N, lambda x: x.reshape(4, 32)[:, ::-1], {"wrong", "tsan"}),
    "missing_atomic_in_a_block": (N, lambda x: x.reshape(2, 64).sum(1).repeat(64), {"tsan"}),
    "missing_atomic_between_blocks": (N, lambda x: np.append(x[0] + x[64], np.zeros(127)), {"tsan"}),
    "reads_one_too_many": (N, lambda x: x + np.append(x[1:], 0), {"wrong", "asan"}),
    "writes_one_too_many": (100, lambda x: x, {"wrote past the end of the array", "asan"}),
    "leaves_one_unwritten": (100, lambda x: x, {"wrong"}),
    "overruns_dynamic_shared": (N, lambda x: x, {"wrote outside its shared arrays", "asan"}),
    "overruns_static_shared": (N, lambda x: x, {"wrote outside its shared arrays", "asan"}),
    "wrong_inner_index": (N, lambda x: x.reshape(2, 8, 8).transpose(0, 2, 1), {"SIGILL", "ubsan"}),
    "divergent_barrier": (N, lambda x: _mirrored(x), {"it waits at __syncthreads in line"}),
    "returns_before_a_barrier": (100, lambda x: x, {"thread (36, 0, 0) has returned"}),
    "uninitialised_shared": (N, lambda x: _mirrored(x), {"wrong"}),
    "overflowing_index": (N, lambda x: x, {"SIGILL", "ubsan"}),
    "misaligned_load": (N, lambda x: np.append(x.reshape(32, 4).sum(1)[:31], np.zeros(97)), {"SIGILL", "ubsan"}),
    "wrong_shuffle_mask": (N, lambda x: x.reshape(8, 2, 8)[:, ::-1], {"not for lane 16"}),
    "missing_lanes": (N, lambda x: x.reshape(64, 2)[:, ::-1], {"waits at __shfl_xor_sync(mask 0xffffffff)"}),
    "missing_copy_wait": (N, lambda x: _mirrored(x), {"wrong"}),
    "missing_barrier_after_copy": (N, lambda x: _mirrored(x), {"wrong", "tsan"}),
    "missing_barrier_in_a_pipeline": (N, lambda x: _rotated_sums(x), {"wrong", "tsan"}),
    "shifts_too_far": (N, lambda x: np.where(np.arange(N) % 32 == 3, x, 0), {"SIGILL", "ubsan"}),
}
STARTS_AS_ZEROS = ("missing_atomic_between_blocks", "misaligned_load")
WORDS = {"asan": "ERROR: AddressSanitizer", "ubsan": "runtime error", "tsan": "WARNING: ThreadSanitizer: data race"}


def _mirrored(x):
    return x.reshape(2, 64)[:, ::-1]


def _rotated_sums(x):
    return np.tile(np.roll(x.reshape(2, 4, 16).sum(1), -5, axis=1), 4)


def launch(load, case, order="forward"):
    """Run one kernel; x and out."""
    name = case.partition("<")[0]
    x = np.arange(BUGS[name][0], dtype=np.float32) + 1
    out = np.full_like(x, 0 if name in STARTS_AS_ZEROS else np.nan)
    load(SOURCE).get_function(case)((2,), (64,), (x, out, x.size), shared_mem=64 * 4, order=order)
    return x, out


@pytest.fixture(scope="module")
def seen(kernels_folder):
    """seen(case): all that the orders and the sanitizers see, each as one text."""
    if reason := why_not_sanitized("address,undefined,thread"):
        pytest.skip(reason)
    module = CpuModule(SOURCE, kernels_folder)
    reports = [run_sanitized(launch, sanitize, kernel_names(SOURCE)) for sanitize in SANITIZERS]

    def all_findings(case):
        findings = [report[case] for report in reports]
        for order in ORDERS:
            try:
                x, out = launch(lambda _: module, case, order)
            except KernelError as error:
                findings.append(str(error))
            else:
                if not np.array_equal(out, BUGS[case.partition("<")[0]][1](x).reshape(-1)):
                    findings.append("wrong")
        return [finding for finding in findings if finding]

    return all_findings


def test_every_kernel_is_listed():
    assert kernel_names(SOURCE) == [f"{name}<{bug}>" for name in BUGS for bug in ("true", "false")]


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_is_seen(seen, name):
    findings = "\n".join(seen(f"{name}<true>"))
    assert [way for way in BUGS[name][2] if WORDS.get(way, way) not in findings] == [], findings


@pytest.mark.parametrize("name", BUGS)
def test_no_false_alarm(seen, name):
    assert seen(f"{name}<false>") == []
