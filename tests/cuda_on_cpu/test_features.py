"""What CUDA C++ offers works as it does there: shared memory, shuffles, votes, vectors, atomics, copies."""

import re
from pathlib import Path

import numpy as np
import pytest

import cuda_on_cpu
from cuda_on_cpu import ORDERS, CpuModule, KernelError, kernel_names, nvrtc

HERE = Path(__file__).parent
NAN_WORD = 0x7FFD7FFD


@pytest.fixture(scope="module", params=["own switch", "ucontext"])
def features(kernels_folder, request):
    """features.cu, with the two ways to change from one fiber to another."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ucontext":
            patch.setattr(cuda_on_cpu, "FLAGS", (*cuda_on_cpu.FLAGS, "-DCUDA_ON_CPU_UCONTEXT"))
        return CpuModule(HERE / "features.cu", kernels_folder)


@pytest.fixture(scope="module")
def copies(kernels_folder):
    return CpuModule(HERE / "copies.cu", kernels_folder)


def test_real_gpus_know_all_of_it():
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC or nvcc; neither found")
    source = HERE / "features.cu"
    names = [name for name in kernel_names(source) if name != "fills_its_stack"]
    for architecture in compiler.architectures()[:: len(compiler.architectures()) - 1]:
        cubin = compiler.cubin(source, names, architecture)
        assert [name for name in names if nvrtc.symbol(name) not in cubin] == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("instance", "dtype", "threads"), [("<float, 64>", "f4", 64), ("<double, 128>", "f8", 128)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_block_sums(features, instance, dtype, threads, with_bias, order):
    x, bias = np.arange(300).astype(dtype), np.full(300, 2, dtype) if with_bias else None
    out = np.full((3, -(-300 // threads)), np.nan, dtype)
    kernel = features.get_function(f"block_sums{instance}")
    kernel((out.shape[1],), (threads,), (x, bias, out, 300), shared_mem=threads * x.itemsize, order=order)
    padded = np.zeros(out.shape[1] * threads)
    padded[:300] = x + 2 * with_bias
    np.testing.assert_array_equal(out, [padded.reshape(-1, threads).sum(1)] * 3)


@pytest.mark.parametrize("order", ORDERS)
def test_shuffles(features, order):
    x, out, lane = np.arange(100, 132, dtype=np.int32), np.zeros((6, 32), np.int32), np.arange(32)
    features.get_function("shuffles")((1,), (32,), (x, out), order=order)
    sources = (
        (lane + 3) % 32,
        np.where(lane < 5, lane, lane - 5),
        np.where(lane % 8 < 3, lane + 5, lane),
        np.where(lane % 8 < 4, lane, lane ^ 6),  # 0 to 3 would read beyond their group; 4 to 7 may read an earlier one
        lane ^ 9,
        lane // 16 * 16 + (lane + 1) % 16,
    )
    np.testing.assert_array_equal(out, x[np.array(sources)])


@pytest.mark.parametrize("order", ORDERS)
def test_votes(features, order):
    x, out = np.ones(32, np.int32), np.full((4, 32), 9, np.uint32)
    x[4] = 0
    features.get_function("votes")((1,), (32,), (x, out), order=order)
    np.testing.assert_array_equal(out[:3], np.repeat([[0xFFFFFFEF], [0], [0]], 32, axis=1))
    np.testing.assert_array_equal(out[3], np.arange(32) % 2)


def test_shared_memory_is_nan_in_every_block(features):
    out = np.zeros((3, 2), np.uint32)
    features.get_function("shows_shared")((3,), (1,), (out,), shared_mem=4)
    assert (out == NAN_WORD).all()
    assert np.isnan(out.view(np.float32)).all()
    assert np.isnan(out.view(np.float64)).all()


def test_every_type(features):
    arrays = [
        np.array([n], dtype) for n, dtype in ((200, "u1"), (-100, "i1"), (60000, "u2"), (1 << 40, "u8"), (-7, "i8"))
    ]
    out = np.zeros(1)
    features.get_function("every_type")((1,), (1,), (*arrays, out))
    assert out == 200 - 100 + 60000 + (1 << 40) - 7


def test_atomics(features):
    arrays = [np.ones(1, dtype) for dtype in ("i4", "u4", "u8", "f4", "f8")]
    features.get_function("adds_atomically")((3,), (40,), arrays)
    assert [array[0] for array in arrays] == [1 - 120, 121, 1 + (120 << 40), 61, 31]


def test_vectors_and_bits(features):
    x, out = np.arange(8, dtype=np.float32), np.zeros(12, np.float32)
    features.get_function("vectors_and_bits")((1,), (1,), (x, out))
    np.testing.assert_array_equal(out, [7, 6, 5, 4, 0, 1, 2, 5 + 0.5 + 1, 3 + 4 + 31, 3, 8 + 16, 11.5])


def test_a_stack_that_is_too_small_is_a_crash(features):
    with pytest.raises(KernelError, match=r"fills_its_stack: SIG(SEGV|BUS) in block \(0, 0, 0\), thread \(0, 0, 0\)"):
        features.get_function("fills_its_stack")((1,), (2,), (np.zeros(1, np.float32), 1 << 17))


def test_a_launch_after_one_that_failed(features):
    test_a_stack_that_is_too_small_is_a_crash(features)
    test_shuffles(features, "forward")


@pytest.mark.parametrize(
    ("grid", "block", "shared_mem", "message"),
    [
        ((1,), (1025,), 0, "a block of 1025 threads; at most 1024 are possible"),
        ((1,), (1, 1, 65), 0, "expected a block from (1, 1, 1) to (1024, 1024, 64), got (1, 1, 65)"),
        ((1, 65536), (1,), 0, "expected a grid from"),
        ((0,), (1,), 0, "expected a grid from"),
        ((1,), (1,), 232449, "232449 bytes of shared memory; at most 232448 are possible"),
        ((1,), (1,), 232448, "232452 bytes of shared memory are more than the 227 KB that a block can have"),
    ],
)
def test_a_launch_that_no_gpu_can_do(features, grid, block, shared_mem, message):
    with pytest.raises(KernelError, match=re.escape(message)):
        features.get_function("shows_shared")(grid, block, (np.zeros((1, 2), np.uint32),), shared_mem=shared_mem)


def test_a_block_beyond_the_launch_bounds(features):
    x, out = np.ones(300), np.ones((3, 2))
    with pytest.raises(KernelError, match="a block of 256 threads; at most 128 are possible"):
        features.get_function("block_sums<double, 128>")((2,), (256,), (x, None, out, 300), shared_mem=2048)


def test_none_only_where_the_source_allows_it(features):
    with pytest.raises(TypeError, match=r"argument 0: expected a C-contiguous array for const float64\*, got None"):
        features.get_function("block_sums<double, 128>")((1,), (128,), (None, None, np.ones((3, 1)), 1))


@pytest.mark.parametrize("order", ORDERS)
def test_warp_share(copies, order):
    x, out = np.random.default_rng(0).integers(0, 9, 32).astype(np.float64), np.zeros(32)
    copies.get_function("shares")((1,), (32,), (x, out), order=order)
    np.testing.assert_array_equal(out, (x * np.arange(32)).sum() + np.arange(32)[::-1])
    with pytest.raises(KernelError, match=r"warp_share\(mask 0xffffffff\): this warp has only 8 lanes"):
        copies.get_function("shares")((1,), (8,), (x, out))


@pytest.mark.parametrize(("allowed", "commits", "arrived"), [(0, 2, 12), (1, 2, 8), (2, 2, 0), (0, 1, 8), (1, 1, 0)])
def test_a_copy_arrives_only_when_waited_for(copies, allowed, commits, arrived):
    x, out = np.arange(1, 13, dtype=np.float32), np.zeros(12, np.float32)
    copies.get_function("copies")((1,), (1,), (x, out, allowed, commits))
    x[6:8] = 0  # copied from nowhere
    x[arrived:] = np.nan
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize(
    ("to", "bytes_", "message"),
    [
        (1, 8, "the target is not a multiple of 8 bytes"),
        (0, 12, "12 bytes; expected 4, 8 or 16"),
        (12, 4, "the target lies outside all shared arrays"),
    ],
)
def test_a_copy_that_no_gpu_can_do(copies, to, bytes_, message):
    x, out = np.ones(12, np.float32), np.zeros(12, np.float32)
    with pytest.raises(KernelError, match=f"thread \\(0, 0, 0\\): async_copy: {message}"):
        copies.get_function("copies_badly")((1,), (1,), (x, out, to, bytes_))
    with pytest.raises(KernelError, match="the target lies outside all shared arrays"):
        copies.get_function("copies_elsewhere")((1,), (1,), (x, out))
