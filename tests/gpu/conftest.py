"""A simulated GPU: tinynet's launches of its own kernels, on the CPU shim of tests/cuda_on_cpu. No GPU is needed."""

import sys

import pytest
from cuda_on_cpu import why_not
from cuda_on_cpu.fake_cupy import FakeCupy

from tinynet import cuda, device
from tinynet.ops.gpu import conv_paths, elementwise


@pytest.fixture(scope="session")
def _simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated_gpu")
    if reason := why_not(folder):
        pytest.skip(reason)
    return FakeCupy(folder, devices=2)


@pytest.fixture
def gpu(_simulated, monkeypatch):
    """The stand-in for the cupy module: two devices, each with its own memory."""
    monkeypatch.setitem(sys.modules, "cupy", _simulated)
    caches = cuda._compiled, device._try_out, conv_paths.multiprocessors
    for cache in caches:
        cache.cache_clear()
    elementwise._tables.clear()
    _simulated.reset()
    yield _simulated
    for cache in caches:
        cache.cache_clear()
    elementwise._tables.clear()
