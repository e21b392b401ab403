"""Linear's twin: the batch innermost, products on all threads, the gradient straight to its place."""

from typing import Any

import numpy as np

from tinynet.backend.device import as_type
from tinynet.fast.inputs import check_input
from tinynet.ops.elementwise import add_bias, add_row_sums
from tinynet.ops.matmul import matmul


def forward(linear: Any, x: Any) -> Any:
    check_input(linear, x, ("N", linear.in_features))
    linear.saved = (x,)
    y = matmul(as_type(linear.weight.data, x.dtype), x.T, precision=linear.precision)  # (out_features, N)
    if linear.bias is not None:
        add_bias(y, as_type(linear.bias.data, x.dtype))
    return y.T


def backward(linear: Any, dy: Any) -> Any:
    backward_weight(linear, dy)
    return backward_input(linear, dy) if linear.input_grad else None


def backward_weight(linear: Any, dy: Any) -> None:
    """Adds dweight and dbias."""
    (x,) = linear.saved
    linear.check_dy(dy, (x.shape[0], linear.out_features))
    place = linear.weight.fresh_grad(np.result_type(dy.dtype, x.dtype))
    product = matmul(dy.T, x, out=place, precision=linear.precision)
    if place is None:
        linear.weight.add_to_grad(product)
    if linear.bias is not None:
        add_row_sums(dy.T, linear.bias.grad)


def backward_input(linear: Any, dy: Any) -> Any:
    """dx."""
    (x,) = linear.saved
    linear.check_dy(dy, (x.shape[0], linear.out_features))
    return matmul(as_type(linear.weight.data, x.dtype).T, dy.T, precision=linear.precision).T
