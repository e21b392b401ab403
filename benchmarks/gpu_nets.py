"""tinynet's nets as the GPU's benchmark wants them: their layers one by one, numbers to feed them, and steps."""

import copy
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

import nets
import numpy as np
import worker

from tinynet.backend import device
from tinynet.layers import Conv2d, Layer, Linear, Sequential, passes
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

BLOCK = (1 << 24) - 3  # random numbers that are drawn; more are these again, at an odd distance
LR = 1e-4


def layers(net: Sequential, name: str, batch_size: int) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """(layer, shape of its x), in order."""
    shape: tuple[int, ...] = (batch_size, 3, nets.NETS[name].image_size, nets.NETS[name].image_size)
    for layer in net:
        yield layer, shape
        shape = layer.output_shape(shape)


def depends_on_precision(layer: Layer) -> bool:
    return isinstance(layer, Conv2d | Linear)


@functools.cache
def _block() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(BLOCK, np.float32)


def numbers(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    """Random numbers for timing; the batch, which is first in `shape`, is innermost in memory."""
    values = np.resize(_block(), (*shape[1:], shape[0]))
    return np.moveaxis(values if scale == 1.0 else values * np.float32(scale), -1, 0)


@functools.lru_cache(2)
def batch(name: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, labels)."""
    size = nets.NETS[name].image_size
    return numbers((batch_size, 3, size, size), nets.NETS[name].scale), worker.labels_of(batch_size)


def loss_and_optimizer(model: Layer) -> tuple[SoftmaxCE, SGD]:
    return SoftmaxCE(), SGD(model.parameters(), lr=LR)


def step(model: Layer, x: Any, labels: np.ndarray) -> Callable[[], None]:
    """A training step of a model that is where x is. The loss is not read, for which the host would wait."""
    loss, optimizer = loss_and_optimizer(model)
    model.input_grad = False

    def call() -> None:
        optimizer.zero_grad()
        loss(model(x), labels)
        model.backward(passes.backward(loss))
        optimizer.step()

    return call


@functools.cache
def _built(name: str) -> Sequential:
    net = nets.build(name)
    net.state_dict()  # draws the initial values, which takes seconds
    return net


def fresh(name: str) -> Sequential:
    """A net of its own with initial values."""
    return copy.deepcopy(_built(name))


def placed(name: str, precision: str, where: str) -> Sequential:
    """A net on the GPU `where`, in this precision; its first layer's dx is not computed."""
    net: Any = fresh(name).to(where)
    net.set_precision(precision)
    net.input_grad = False
    return net


def release() -> None:
    """Give the memory that nobody uses back to the GPU, for the other library."""
    gc.collect()  # what hangs together in circles, such as a model and what calls it
    device.cupy().get_default_memory_pool().free_all_blocks()
