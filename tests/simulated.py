"""The simulated GPU as fixtures: a stand-in for the cupy module whose kernels run on the CPU (tests/cuda_on_cpu)."""

import sys

import pytest
from cuda_on_cpu.fake_cupy import FakeCupy

from tinynet.backend import device, launch, precision, streams
from tinynet.ops.gpu import elementwise
from tinynet.ops.gpu.conv import choose


@pytest.fixture(scope="session")
def _simulated(kernels_folder):
    return FakeCupy(kernels_folder, devices=2)


@pytest.fixture
def _fresh():
    """Nothing is kept from another test's GPU."""
    caches = launch._compiled, device._try_out, choose.multiprocessors, choose.shared_memory
    caches = *caches, precision.compute_capability, streams.reaches

    def clear():
        for cache in caches:
            cache.cache_clear()
        elementwise._tables.clear()
        device._in_use.clear()

    clear()
    yield
    clear()


@pytest.fixture
def simulated_gpu(_simulated, _fresh, monkeypatch):
    """The stand-in for the cupy module: two devices, each with its own memory."""
    monkeypatch.setitem(sys.modules, "cupy", _simulated)
    _simulated.reset()
    return _simulated
