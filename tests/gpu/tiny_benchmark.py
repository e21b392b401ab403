"""The GPU's benchmark made small: a net with every kind of layer, and sizes that take no time."""

import importlib
from pathlib import Path

import pytest

from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, ReLU, Sequential

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def tiny():
    first = {"conv1": Conv2d(3, 4, 3, stride=2, groups=1), "relu1": ReLU(), "lrn1": LRN(3, 0.1, 0.75, 2.0, groups=2)}
    last = {"flatten": Flatten(), "fc6": Linear(4 * 2 * 2, 10), "drop6": Dropout(0.5), "fc7": Linear(10, 10)}
    return Sequential({**first, "pool1": MaxPool(3, 2), **last})


@pytest.fixture
def module(monkeypatch):
    """module(name): one of the benchmark's modules, its sizes made small."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    small = {
        "gpu_check": {"SPARE": 1 << 10, "STEP_CHECK": 2},
        "gpu_time": {"STEPS_S": 0.0, "OTHER_BYTES": 64, "OTHER_TIMES": 2},
        "gpu_nets": {"BLOCK": 1001},
        "gpu_peer": {"BACKEND": "eager"},
        "worker_gpu": {"COPIED": 1000, "PRODUCT": 8},
    }
    for name, sizes in small.items():
        for key, value in sizes.items():
            monkeypatch.setattr(importlib.import_module(name), key, value, raising=key != "STEP_CHECK")
    if not hasattr(Layer, "set_precision"):
        monkeypatch.setattr(Layer, "set_precision", lambda self, precision: self, raising=False)
    nets = importlib.import_module("nets")
    monkeypatch.setitem(nets.NETS, "tiny", nets.Net(tiny, 11, 2.0))
    return importlib.import_module
