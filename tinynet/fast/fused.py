"""Neighbouring layers computed in one pass over memory, or in place, where memory is the limit.

The numbers are those of the layers one after another, bit for bit, and what each keeps in `saved` serves either way, so
a fused forward may be followed by plain backwards. Sequential looks here; the layers know nothing of it. Only these
very classes are fused: a subclass, or a layer that was given its own forward, may compute something else.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.layers.conv2d import Conv2d
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.lrn import LRN
from tinynet.layers.max_pool import MaxPool
from tinynet.layers.relu import ReLU
from tinynet.ops.elementwise import relu_backward
from tinynet.ops.lrn import lrn_pool_forward, relu_lrn_pool_backward

FEW = 32  # pictures; below, the fused loops over LRN's columns are too short to gain


def _conv_relu(x: np.ndarray, conv: Any, relu: Any) -> np.ndarray:
    y = conv.forward(x, relu=True)
    relu.saved = (y,)
    return y


def _lrn_pool(x: np.ndarray, lrn: Any, pool: Any) -> np.ndarray:
    if len(x) < FEW:
        return pool.forward(lrn.forward(x))
    lrn.check_input(x)
    output = pool.output_shape(lrn.output_shape(x.shape))[2:]
    y, place = lrn_pool_forward(x, lrn.normalisation, output, *pool.window[:3])
    lrn.saved, pool.saved = (x,), (x.shape, place, None)
    return y


def _relu_lrn_pool_backward(dy: np.ndarray, relu: Any, lrn: Any, pool: Any) -> np.ndarray:
    (x,), (y,), (shape, place, _) = lrn.saved, relu.saved, pool.saved
    if x is not y or shape != x.shape or place is None or len(x) < FEW or dy.dtype != x.dtype:
        return relu.backward(lrn.backward(pool.backward(dy)))
    pool.check_dy(dy, pool.output_shape(shape))
    return relu_lrn_pool_backward(x, dy, place, lrn.normalisation, *pool.window[:3])


def _relu_before_backward(dy: np.ndarray, relu: Any, layer: Any) -> np.ndarray:
    dx, (y,) = layer.backward(dy), relu.saved
    relu.check_dy(dx, y.shape)
    return relu_backward(dx, y, out=dx)  # in place: dx is new, nobody else has seen it


Table = dict[tuple[type[Layer], ...], Callable[..., Any]]
FORWARD: Table = {(Conv2d, ReLU): _conv_relu, (LRN, MaxPool): _lrn_pool}
BACKWARD: Table = {
    (ReLU, LRN, MaxPool): _relu_lrn_pool_backward,
    **{(ReLU, kind): _relu_before_backward for kind in (Conv2d, MaxPool, Linear)},
}


Steps = list[tuple[tuple[Layer, ...], Callable[..., Any]]]


def forward_steps(layers: Sequence[Layer]) -> Steps:
    """[(layers, function)], in order: y = function(x, *layers)."""
    return _steps(layers, FORWARD, lambda x, layer: layer.forward(x))


def backward_steps(layers: Sequence[Layer]) -> Steps:
    """[(layers, function)], the last layers first: dx = function(dy, *layers)."""
    return _steps(layers, BACKWARD, lambda dy, layer: layer.backward(dy))[::-1]


def _steps(layers: Sequence[Layer], table: Table, single: Callable[..., Any]) -> Steps:
    steps: Steps = []
    waiting = tuple(layers)
    while waiting:
        lengths = [len(kinds) for kinds in table if tuple(map(_kind, waiting[: len(kinds)])) == kinds]
        part = waiting[: max(lengths, default=1)]
        steps.append((part, table.get(tuple(map(_kind, part)), single)))
        waiting = waiting[len(part) :]
    return steps


def _kind(layer: Layer) -> type[Layer]:
    """Its class; just Layer if somebody gave this one layer another forward or backward, to look at what passes."""
    return Layer if {"forward", "backward"} & vars(layer).keys() else type(layer)
