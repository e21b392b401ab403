"""Neighbouring layers computed in one pass over memory, or in place, where memory is the limit.

The numbers are those of the twins one after another, bit for bit, and what each keeps in `saved` serves either way, so
a fused forward may be followed by plain backwards.
"""

from collections.abc import Callable
from typing import Any

from tinynet.backend.layout import batch_first
from tinynet.fast import conv2d, lrn, max_pool
from tinynet.fast.inputs import check_input
from tinynet.fast.single import backward, forward
from tinynet.layers.conv2d import Conv2d
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.lrn import LRN
from tinynet.layers.max_pool import MaxPool
from tinynet.layers.relu import ReLU
from tinynet.ops.elementwise import relu_backward
from tinynet.ops.lrn import lrn_pool_forward, relu_lrn_pool_backward

FEW = 32  # pictures; below, the fused loops over LRN's columns are too short to gain


def _conv_relu(x: Any, conv: Any, relu: Any) -> Any:
    y = conv2d.forward(conv, x, relu=True)
    relu.saved = (y,)
    return y


def _lrn_pool(x: Any, norm: Any, pool: Any) -> Any:
    if len(x) < FEW or not lrn.fits(norm, x):
        return forward(forward(x, norm), pool)
    check_input(norm, x)
    output = pool.output_shape(norm.output_shape(x.shape))[2:]
    y, place = lrn_pool_forward(x, lrn.settings(norm), output, *pool.window[:3])
    norm.saved, pool.saved = (x,), (x.shape, batch_first(place))
    return y


def _relu_lrn_pool_backward(dy: Any, relu: Any, norm: Any, pool: Any) -> Any:
    (x,), (y,), (shape, place) = norm.saved, relu.saved, pool.saved
    if x is not y or shape != x.shape or len(x) < FEW or dy.dtype != x.dtype or not lrn.fits(norm, x):
        return backward(backward(backward(dy, pool), norm), relu)
    pool.check_dy(dy, pool.output_shape(shape))
    return relu_lrn_pool_backward(x, dy, max_pool.places(pool, place), lrn.settings(norm), *pool.window[:3])


def _relu_before_backward(dy: Any, relu: Any, layer: Any) -> Any:
    dx, (y,) = backward(dy, layer), relu.saved
    if dx is None:  # of a layer whose input_grad is False
        return None
    relu.check_dy(dx, y.shape)
    return relu_backward(dx, y, out=dx)  # in place: dx is new, nobody else has seen it


Table = dict[tuple[type[Layer], ...], Callable[..., Any]]
FORWARD: Table = {(Conv2d, ReLU): _conv_relu, (LRN, MaxPool): _lrn_pool}
BACKWARD: Table = {
    (ReLU, LRN, MaxPool): _relu_lrn_pool_backward,
    **{(ReLU, kind): _relu_before_backward for kind in (Conv2d, MaxPool, Linear)},
}
