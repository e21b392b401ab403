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

CACHED = 1 << 15  # values of each buffer: what the second-level cache holds of four of them
GRAIN = 256  # columns a thread, at the least


@kernel
def _window_sum(rows, c, size, groups, total):
    """total = the sum of rows[j] for j in the window of `size` around c, cut at the ends of c's group."""
    group = rows.shape[0] // groups
    first = max(c - size // 2, c // group * group)
    last = min(c + size // 2, c // group * group + group - 1)
    row = rows[first]
    for m in range(len(total)):
        total[m] = row[m]
    for j in range(first + 1, last, 2):  # by twos: half the traffic
        row, next_row = rows[j], rows[j + 1]
        for m in range(len(total)):
            total[m] += row[m] + next_row[m]
    if (last - first) % 2:
        row = rows[last]
        for m in range(len(total)):
            total[m] += row[m]


@kernel
def _power(scale, beta, out):
    """out = scale**-beta. The paper's 0.75 goes by two square roots, which are vector instructions."""
    if beta == 0.75:
        for m in range(len(scale)):
            root = math.sqrt(scale[m])
            out[m] = scale.dtype.type(1) / (root * math.sqrt(root))
    else:
        for m in range(len(scale)):
            out[m] = scale[m] ** -beta


@kernel
def _squares(x, left, right, squares):
    for c in range(len(x)):
        row, square = x[c, left:right], squares[c]
        for m in range(len(row)):
            square[m] = row[m] * row[m]


@kernel
def _scale(squares, c, size, groups, alpha, k, scale):
    """scale = k + alpha * (window sum of the squares around channel c)."""
    _window_sum(squares, c, size, groups, scale)
    for m in range(len(scale)):
        scale[m] = k + alpha * scale[m]


@kernel
def forward_block(x, y, left, right, shift, size, groups, alpha, beta, k):
    """Columns [left, right) of x, normalised, to the columns of y that are `shift` further left."""
    squares = np.empty((len(x), right - left), x.dtype)
    scale, power = np.empty(right - left, x.dtype), np.empty(right - left, x.dtype)
    _squares(x, left, right, squares)
    for c in range(len(x)):
        _scale(squares, c, size, groups, alpha, k, scale)
        _power(scale, beta, power)
        row, out = x[c, left:right], y[c, left - shift : right - shift]
        for m in range(len(row)):
            out[m] = row[m] * power[m]


@kernel
def backward_block(x, dy, dx, left, right, shift, size, groups, alpha, beta, k, relu):
    """The same columns of dx, from those of dy that are `shift` further left; relu: 0 where x is not positive."""
    squares, scale = np.empty((len(x), right - left), x.dtype), np.empty(right - left, x.dtype)
    powers, ratios = np.empty_like(squares), np.empty_like(squares)
    factor, zero = alpha * beta + alpha * beta, x.dtype.type(0)
    _squares(x, left, right, squares)
    for c in range(len(x)):
        _scale(squares, c, size, groups, alpha, k, scale)
        power, ratio, row, gradient = powers[c], ratios[c], x[c, left:right], dy[c, left - shift : right - shift]
        _power(scale, beta, power)
        for m in range(len(row)):
            ratio[m] = gradient[m] * row[m] * power[m] / scale[m]
    # x_j also sits in its neighbours' denominators: the same window (its size is odd), over dy x scale**(-beta - 1)
    spread = scale
    for c in range(len(x)):
        _window_sum(ratios, c, size, groups, spread)
        power, row, gradient, out = powers[c], x[c, left:right], dy[c, left - shift : right - shift], dx[c, left:right]
        for m in range(len(row)):
            value = gradient[m] * power[m] - factor * row[m] * spread[m]
            out[m] = value if row[m] > 0 or not relu else zero


@kernel
def block_of(channels):
    """How many columns at a time."""
    return max(128, CACHED // channels)


@kernel
def _forward(x, y, size, groups, alpha, beta, k, start, stop):
    for left in range(start, stop, block_of(len(x))):
        forward_block(x, y, left, min(left + block_of(len(x)), stop), 0, size, groups, alpha, beta, k)


@kernel
def _backward(x, dy, dx, size, groups, alpha, beta, k, start, stop):
    for left in range(start, stop, block_of(len(x))):
        backward_block(x, dy, dx, left, min(left + block_of(len(x)), stop), 0, size, groups, alpha, beta, k, False)


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
