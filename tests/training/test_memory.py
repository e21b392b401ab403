"""A steady training step asks the system for no memory, and nothing piles up."""

import gc
import tracemalloc

import numpy as np
import pytest
from checks import using
from strategies import numbers

from tinynet.backend import buffers
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

STEPS = 100


def training():
    """A function that trains one step, of a net in which every large array comes from `buffers`."""
    net = Sequential(
        *(Conv2d(3, 16, 5, stride=2, padding=2), ReLU(), LRN(5, 0.5, groups=2), MaxPool(3, 2)),
        *(
            Conv2d(16, 32, 3, padding=1, groups=2),
            ReLU(),
            using(Conv2d(32, 32, 3, padding=1), algorithm="panels"),
            ReLU(),
        ),
        *(Flatten(), Dropout(0.5), Linear(32 * 7 * 7, 64), ReLU(), Linear(64, 10)),
    )
    net.input_grad = False
    optimizer, loss = SGD(net.parameters(), lr=1e-3), SoftmaxCE()
    x = np.ascontiguousarray(numbers((32, 3, 31, 31), np.float32).transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)

    def step():
        optimizer.zero_grad()
        loss(net(x), np.arange(32) % 10)
        net.backward(loss.backward())
        optimizer.step()

    return step


@pytest.fixture
def fresh_blocks(monkeypatch):
    """The sizes of the blocks that `buffers` had to take from the system."""
    sizes = []
    take = buffers._take

    def listed(size):
        before = len(buffers._idle)
        block = take(size)
        if len(buffers._idle) == before:  # none was taken out of the list
            sizes.append(size)
        return block

    monkeypatch.setattr(buffers, "_take", listed)
    buffers._idle.clear()  # of other tests
    return sizes


def test_a_steady_step_takes_no_new_block(fresh_blocks):
    step = training()
    for _ in range(3):
        step()
    assert fresh_blocks  # the net's arrays do come from there
    fresh_blocks.clear()
    for _ in range(STEPS):
        step()
    # threads share the list of free blocks: which holds one at a time may differ once, but it cannot go on
    assert len(fresh_blocks) <= 4


def test_memory_does_not_grow():
    step = training()
    for _ in range(5):
        step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(STEPS):
            step()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # bytes; a leak of the smallest array that comes from `buffers`, at each step, would be 6.5 MB
    assert grown < 2_000_000
