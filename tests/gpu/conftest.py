"""tinynet on a GPU: a simulated one, whose kernels run on the CPU shim of tests/cuda_on_cpu; with --on-gpu a real one.

`gpu` is either, so that a test which uses it says what holds on both. What only the stand-in for CuPy has (counters,
free memory, functions that a test replaces) skips the test on a real GPU. `simulated_gpu` is for tests that make no
sense there at all, `two_gpus` and `tensor_cores` for what not every machine has. With --on-gpu, tests that use no `gpu`
are left out. tests/gpu/test_like_cupy.py runs them on a module with CuPy's names and rules.
"""

import importlib

import pytest

from gpu.tiny_benchmark import module  # noqa: F401 - a fixture
from tinynet.backend import precision
from tinynet.errors import DeviceError


class RealCupy:
    """The module cupy, for a test that may ask it for what only the stand-in has, or want to change it."""

    def __getattr__(self, name):
        cupy = importlib.import_module("cupy")
        if not hasattr(cupy, name):
            pytest.skip(f"a real GPU has no `{name}`, which this test looks at")
        return getattr(cupy, name)

    def __setattr__(self, name, value):
        if name != "busy":  # a real GPU takes its time by itself
            pytest.skip(f"this test replaces `{name}`, which a real GPU needs")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--on-gpu"):
        chosen = [item for item in items if "gpu" in item.fixturenames and "simulated_gpu" not in item.fixturenames]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except DeviceError as error:
        if item.config.getoption("--on-gpu"):
            for text, missing in (("no such GPU", "more GPUs"), ("needs tensor cores", "a newer GPU")):
                if text in str(error):
                    pytest.skip(f"needs {missing}: {error}")
        raise


@pytest.fixture
def gpu(request):
    """The stand-in; or, with --on-gpu, the real module."""
    if request.config.getoption("--on-gpu"):
        return RealCupy()
    return request.getfixturevalue("simulated_gpu")


@pytest.fixture
def two_gpus(gpu):
    """The same, where there are two."""
    if gpu.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    return gpu


@pytest.fixture
def tensor_cores(gpu):
    """The same, where every precision can be had."""
    if int(gpu.cuda.Device(0).compute_capability) < precision.TENSOR_CORES:
        pytest.skip("needs a GPU with tensor cores")
    return gpu


@pytest.fixture
def other_gpu(gpu):
    """The name of a GPU that is not the first one, if there are two."""
    return f"cuda:{min(1, gpu.cuda.runtime.getDeviceCount() - 1)}"
