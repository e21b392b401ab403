"""What the tests of the CUDA sources share: a kernel, compiled for the CPU."""

import functools

import pytest
from cuda_on_cpu import CpuModule, kernel_names

from tinynet.backend import launch


@pytest.fixture(scope="session")
def module(kernels_folder):
    """module(path): a .cu file, compiled for the CPU when first asked for."""
    return functools.cache(lambda path: CpuModule(path, kernels_folder, include=launch.kernel_folder()))


@pytest.fixture(scope="session")
def kernel(module):
    """kernel("lrn_forward<float, 5>"), from whichever file has it, to be called on NumPy arrays."""

    def find(expression):
        (path,) = (path for path in map(launch.kernel_path, launch.kernel_stems()) if expression in kernel_names(path))
        return module(path).get_function(expression)

    return find
