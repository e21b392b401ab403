"""What the tests of the CUDA sources share: a kernel, compiled for the CPU."""

import pytest
from cuda_on_cpu import CpuModule, kernel_names, why_not

from tinynet import cuda


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """module(path): a .cu file, compiled for the CPU when first asked for."""
    folder = tmp_path_factory.mktemp("kernels")
    if reason := why_not(folder):
        pytest.skip(reason)
    modules = {}

    def compiled(path):
        if path not in modules:
            modules[path] = CpuModule(path, folder, include=cuda.kernel_folder())
        return modules[path]

    return compiled


@pytest.fixture(scope="session")
def kernel(module):
    """kernel("lrn_forward<float, 5>"), from whichever file has it, to be called on NumPy arrays."""

    def find(expression):
        (path,) = (path for path in map(cuda.kernel_path, cuda.kernel_stems()) if expression in kernel_names(path))
        return module(path).get_function(expression)

    return find
