"""Local response normalisation across channels, forward and backward. CUDA twin: `kernels/lrn.cu`.

A column is one pixel of one picture: its C channel values. Columns do not see each other, so memory is treated as a
matrix (C, columns) and walked in blocks of columns that stay in the second-level cache while the window moves over the
channels.
"""

import math

import numpy as np

from tinynet.ops import buffers
from tinynet.ops.layout import batch_first, batch_last
from tinynet.ops.parallel import kernel, parallel_for

CACHED = 1 << 15  # values of each buffer: what the second-level cache holds of five of them
GRAIN = 256  # columns a thread, at the least


@kernel
def _window_sum(square, total, size, groups, width):
    """total[c] = sum of square[j] for j in the window of `size` around c, cut at the ends of c's group."""
    C = square.shape[0]
    group = C // groups
    half = size // 2
    for c in range(C):
        first = max(c - half, c // group * group)
        last = min(c + half, c // group * group + group - 1)
        for m in range(width):
            total[c, m] = square[first, m]
        for j in range(first + 1, last + 1):
            for m in range(width):
                total[c, m] += square[j, m]


@kernel
def _power(scale, beta, width, out):
    """out = scale**-beta. The paper's 0.75 goes by two square roots, which are vector instructions."""
    if beta == 0.75:
        for m in range(width):
            root = math.sqrt(scale[m])
            out[m] = scale.dtype.type(1) / (root * math.sqrt(root))
    else:
        for m in range(width):
            out[m] = scale[m] ** -beta


@kernel
def _forward(x, y, size, groups, alpha, beta, k, start, stop):
    C = x.shape[0]
    block = max(128, CACHED // C)  # columns at a time
    square, scale = np.empty((C, block), x.dtype), np.empty((C, block), x.dtype)
    power = np.empty(block, x.dtype)
    for left in range(start, stop, block):
        width = min(block, stop - left)
        for c in range(C):
            for m in range(width):
                square[c, m] = x[c, left + m] * x[c, left + m]
        _window_sum(square, scale, size, groups, width)
        for c in range(C):
            for m in range(width):
                scale[c, m] = k + alpha * scale[c, m]
            _power(scale[c], beta, width, power)
            for m in range(width):
                y[c, left + m] = x[c, left + m] * power[m]


@kernel
def _backward(x, dy, dx, size, groups, alpha, beta, k, start, stop):
    C = x.shape[0]
    block = max(128, CACHED // C)  # columns at a time
    square, scale = np.empty((C, block), x.dtype), np.empty((C, block), x.dtype)
    ratio, spread, power = np.empty((C, block), x.dtype), np.empty((C, block), x.dtype), np.empty((C, block), x.dtype)
    factor = alpha * beta + alpha * beta
    for left in range(start, stop, block):
        width = min(block, stop - left)
        for c in range(C):
            for m in range(width):
                square[c, m] = x[c, left + m] * x[c, left + m]
        _window_sum(square, scale, size, groups, width)
        for c in range(C):
            for m in range(width):
                scale[c, m] = k + alpha * scale[c, m]
            _power(scale[c], beta, width, power[c])
            for m in range(width):
                ratio[c, m] = dy[c, left + m] * x[c, left + m] * power[c, m] / scale[c, m]
        # x_j also sits in its neighbours' denominators: the same window (its size is odd), over dy x scale**(-beta - 1)
        _window_sum(ratio, spread, size, groups, width)
        for c in range(C):
            for m in range(width):
                dx[c, left + m] = dy[c, left + m] * power[c, m] - factor * x[c, left + m] * spread[c, m]


def lrn_forward(x: np.ndarray, size: int, alpha: float, beta: float, k: float, groups: int) -> np.ndarray:
    """y = x / (k + alpha * S)**beta, S the sum of x**2 over the window; x, y (N, C, H, W)."""
    columns = batch_last(x)
    y = buffers.empty_like(columns)
    _over_columns(_forward, (columns, y), size, alpha, beta, k, groups)
    return batch_first(y)


def lrn_backward(
    x: np.ndarray, dy: np.ndarray, size: int, alpha: float, beta: float, k: float, groups: int
) -> np.ndarray:
    """dx = dy * scale**-beta - 2 * alpha * beta * x * (window sum of dy * x * scale**(-beta - 1)), all (N, C, H, W)."""
    columns = batch_last(x)
    dx = buffers.empty_like(columns)
    _over_columns(_backward, (columns, batch_last(dy), dx), size, alpha, beta, k, groups)
    return batch_first(dx)


def _over_columns(loop, arrays, size, alpha, beta, k, groups):
    C = arrays[0].shape[0]
    flat = [array.reshape(C, -1) for array in arrays]
    number = arrays[0].dtype.type  # a Python float would turn the whole loop into float64
    parallel_for(loop, flat[0].shape[1], *flat, size, groups, number(alpha), number(beta), number(k), grain=GRAIN)
