"""What several tests of kernels need: arrays as the device holds them, launches, what must hold for every source."""

import tempfile
from dataclasses import dataclass

import numpy as np
import pytest
from checks import FEW, assert_close
from cuda_on_cpu import ORDERS, kernel_names, nvrtc
from hypothesis import strategies as st

from tinynet.backend import launch

C_NAME = {np.float32: "float", np.float64: "double"}

both_dtypes = pytest.mark.parametrize("dtype", C_NAME)
batches = st.one_of(st.integers(1, 9), st.sampled_from([12, 16, 36]))  # 36: more than a warp
seeds = st.integers(0, 2**32 - 1)


def blank(shape, dtype):
    """An array to be overwritten: what a kernel leaves out stays NaN, or absurd."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 123, dtype)


def normal(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def batch_last(x):
    """What the user sees, the batch outermost -> how the device holds it, the batch innermost."""
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))


def batch_first(x):
    return np.moveaxis(x, -1, 0)


def close(actual, expected, terms=FEW, size=1.0):
    """Equal but for so many roundings, in the precision of `actual`: checks.assert_close."""
    assert_close(actual, expected, actual.dtype, terms, size)


@dataclass(frozen=True)
class Launch:
    """A grid and a block that a kernel takes which takes any, and the order in which blocks and threads run."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    order: str

    def __call__(self, kernel, *args, **options):
        kernel(self.grid, self.block, args, order=self.order, **options)


orders = st.sampled_from(ORDERS)


def launches(grid_axes=1, block_axes=1):
    """Launches whose grid and block have this many axes; some have many more threads than there is work, some fewer."""
    grid = st.tuples(*[st.integers(1, 4)] * grid_axes)
    block = st.tuples(*[st.sampled_from([1, 3, 8, 32][: 5 - block_axes])] * block_axes)
    return st.builds(Launch, grid, block, orders)


def run_last_block(kernel, grid, block, *args):
    """Run only the last block of a grid, on arrays that are too large for guard zones."""
    kernel(grid, block, args, blocks=[int(np.prod(grid, dtype=np.int64)) - 1], guarded=False)


def sparse(folder, *shape, dtype=np.float32):
    """Zeros in a file that is all hole; it takes room, on disk and in memory, only where written to."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        return pytest.skip(f"no sparse file for {shape} {np.dtype(dtype)} here: {error!r}")


def check_source(stem, tests, twin, spills=None):
    """What must hold for every .cu file.

    It compiles for every GPU without a warning, every instance of every kernel of it, and all that a thread works on
    fits the registers, but for what `spills` allows, {name of an instance: bytes}; the Python file `twin` and it name
    each other; each kernel is run by a test among `tests`, the names of a test file.
    """
    path = launch.kernel_path(stem)
    names = kernel_names(path)
    kernels = sorted({name.partition("<")[0] for name in names})
    assert [name for name in kernels if not any(test.startswith(f"test_{name}") for test in tests)] == []
    assert set(spills or ()) <= set(names)
    assert twin in path.read_text(encoding="utf-8")
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC (pip install nvidia-cuda-nvrtc-cu12) or nvcc; neither found")
    assert compiler.architectures()
    for architecture in compiler.architectures():
        cubin = compiler.cubin(path, names, architecture, spills=0, more=spills)
        for name in kernels:  # its mangled name begins so, whatever the instance
            assert f"_Z{len(name)}{name}".encode() in cubin
