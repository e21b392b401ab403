"""Conv2d's twin: the algorithm that should be the fastest for the sizes at hand (`tinynet.ops.conv.choose`).

`conv.algorithm` is "auto"; "winograd" (Lavin and Gray 2016), which takes fewer multiplications; "panels", the product
of im2col some columns at a time; or "im2col", the whole matrix of columns and one product, as in the layer's own lines.
Each gives the same numbers up to rounding. `conv.precision`: of the products on a GPU (`tinynet.backend.precision`).
"""

from typing import Any

import numpy as np

from tinynet.backend.device import as_type
from tinynet.backend.layout import batch_last
from tinynet.fast.inputs import check_input
from tinynet.ops import elementwise
from tinynet.ops.conv import choose
from tinynet.ops.conv.winograd import KeptKernels
from tinynet.ops.im2col import col2im, im2col
from tinynet.ops.matmul import matmul


def path(conv: Any, shape: tuple[int, ...]) -> str:
    """The algorithm that runs for an x of `shape`, (N, C, H, W): "winograd", "panels" or "im2col"; on a GPU "panels"
    stands for "winograd" too. Raises ValueError if conv.algorithm is unknown, or "winograd" for a kernel that it cannot
    do."""
    algorithm = conv.algorithm
    if algorithm not in choose.ALGORITHMS:
        raise ValueError(f"{conv}: expected an algorithm out of {choose.ALGORITHMS}, got {algorithm!r}")
    if algorithm == "winograd" and not choose.tile((1, 1, 1, 1), conv.weight.shape, conv.window):
        raise ValueError(
            f"{conv}: expected for algorithm='winograd' a kernel of 2 to 7 rows and as many columns, each divided "
            f"by its stride and rounded up, without dilation; got {conv.options()}"
        )
    if algorithm == "im2col":
        return "im2col"
    if conv.device != "cpu":
        return "panels"
    if algorithm != "auto":
        return algorithm
    return choose.choose(shape, conv.output_shape(shape), conv.weight.shape, conv.window, not conv.training)


def forward(conv: Any, x: Any, relu: bool = False) -> Any:
    """y, or with relu=True max(y, 0), which costs nothing while y is in the cache."""
    check_input(conv, x)
    N, O, OH, OW = conv.output_shape(x.shape)
    conv.saved = (x,)
    weight = as_type(conv.weight.data, x.dtype)
    bias = None if conv.bias is None else as_type(conv.bias.data, x.dtype)
    if (way := path(conv, x.shape)) != "im2col":
        how = _kept(conv), conv.precision
        return choose.forward(way, x, weight, bias, (OH, OW), conv.window, conv.groups, relu, *how)
    cols = im2col(x, *conv.window).reshape(conv.groups, -1, OH * OW * N)
    y = matmul(_rows(conv, weight), cols, precision=conv.precision)  # (G, O/G, OH*OW*N)
    if bias is not None:
        elementwise.add_bias(y.reshape(O, -1), bias)
    y = y.reshape(O, OH, OW, N).transpose(3, 0, 1, 2)
    return elementwise.relu(y)[0] if relu else y


def backward(conv: Any, dy: Any) -> Any:
    backward_weight(conv, dy)
    return backward_input(conv, dy) if conv.input_grad else None


def backward_weight(conv: Any, dy: Any) -> None:
    """Adds dweight and dbias."""
    x, dy, weight = _of_one_dtype(conv, dy)
    if conv.bias is not None:
        conv.bias.add_to_grad(choose.bias_gradient(dy))
    if (way := path(conv, x.shape)) != "im2col":
        dweight = choose.weight_gradient(way, x, dy, weight.shape, conv.window, conv.groups, conv.precision)
    else:
        dy_rows = batch_last(dy).reshape(conv.groups, conv.out_channels // conv.groups, -1)
        cols = im2col(x, *conv.window).reshape(conv.groups, -1, dy_rows.shape[2])
        dweight = matmul(dy_rows, cols.transpose(0, 2, 1), precision=conv.precision).reshape(weight.shape)
    conv.weight.add_to_grad(dweight)


def backward_input(conv: Any, dy: Any) -> Any:
    """dx."""
    x, dy, weight = _of_one_dtype(conv, dy)
    if (way := path(conv, x.shape)) != "im2col":
        return choose.input_gradient(way, dy, weight, x.shape, conv.window, conv.groups, conv.precision)
    dy_rows = batch_last(dy).reshape(conv.groups, conv.out_channels // conv.groups, -1)
    dcols = matmul(_rows(conv, weight).transpose(0, 2, 1), dy_rows, precision=conv.precision)
    return col2im(dcols.reshape(-1, dy_rows.shape[2]), x.shape, *conv.window)


def _of_one_dtype(conv: Any, dy: Any) -> list[Any]:
    """x, dy and weight."""
    (x,) = conv.saved
    conv.check_dy(dy, conv.output_shape(x.shape))
    dtype = np.result_type(x.dtype, dy.dtype)
    return [as_type(array, dtype) for array in (x, dy, conv.weight.data)]


def _rows(conv: Any, weight: Any) -> Any:
    """(G, O/G, C/G*KH*KW): each output channel's kernels as one row."""
    return weight.reshape(conv.groups, conv.out_channels // conv.groups, -1)


def _kept(conv: Any) -> KeptKernels | None:
    """The transformed kernels of a layer in evaluation mode, where weights stay as they are."""
    kept = vars(conv)
    if conv.training:
        kept.pop("_kept", None)
        return None
    return kept.setdefault("_kept", KeptKernels())
