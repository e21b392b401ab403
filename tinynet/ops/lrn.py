"""Local response normalisation across channels, forward and backward. CUDA twin: `kernels/lrn.cu`.

A column is one pixel of one picture: its C channel values. Columns do not see each other, so memory is treated as a
matrix (C, columns) and walked in blocks of columns that stay in the second-level cache while the window moves over the
channels.

LRN and the max pooling behind it also go in one pass: what LRN gives is pooled while it is in the cache, and never
written to memory; backward, with the ReLU before them, makes the gradient of one line of pixels at a time, and LRN's
and the ReLU's backward take it up at once. The numbers are those of the three one after another, bit for bit.
"""

import math

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.layout import batch_first, batch_last
from tinynet.backend.threads import kernel, parallel_for
from tinynet.checks import Pair
from tinynet.ops.max_pool import index_type

CACHED = 1 << 15  # values of each buffer: what the second-level cache holds of four of them
LARGEST_SIZE_ON_A_GPU = 63  # of a window, in the kernels
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
def _forward_block(x, y, left, right, shift, size, groups, alpha, beta, k):
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
def _backward_block(x, dy, dx, left, right, shift, size, groups, alpha, beta, k, relu):
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
def _block_of(channels):
    """How many columns at a time."""
    return max(128, CACHED // channels)


@kernel
def _forward(x, y, size, groups, alpha, beta, k, start, stop):
    for left in range(start, stop, _block_of(len(x))):
        _forward_block(x, y, left, min(left + _block_of(len(x)), stop), 0, size, groups, alpha, beta, k)


@kernel
def _backward(x, dy, dx, size, groups, alpha, beta, k, start, stop):
    for left in range(start, stop, _block_of(len(x))):
        _backward_block(x, dy, dx, left, min(left + _block_of(len(x)), stop), 0, size, groups, alpha, beta, k, False)


@kernel
def _forward_and_pool(x, y, place, kernel_size, stride, padding, size, groups, alpha, beta, k, start, stop):
    C, H, W, N = x.shape
    OW = y.shape[2]
    KH, KW = kernel_size
    line, columns = W * N, x.reshape(C, H * W * N)
    ring = np.empty((KH, C, W, N), x.dtype)  # normalised lines; h has its place at h % KH
    ready = 0  # lines below are in the ring, or no longer needed
    for oh in range(start, stop):
        top = oh * stride[0] - padding[0]
        for h in range(max(ready, top, 0), min(H, top + KH)):
            normalised = ring[h % KH].reshape(C, line)
            for left in range(h * line, h * line + line, _block_of(C)):
                right = min(left + _block_of(C), h * line + line)
                _forward_block(columns, normalised, left, right, h * line, size, groups, alpha, beta, k)
        ready = top + KH
        for c in range(C):
            for ow in range(OW):
                left = ow * stride[1] - padding[1]
                for n in range(N):
                    y[c, oh, ow, n] = -np.inf
                for kh in range(max(0, -top), min(KH, H - top)):
                    for kw in range(max(0, -left), min(KW, W - left)):
                        here, at = kh * KW + kw, (top + kh) % KH
                        for n in range(N):
                            value, best = ring[at, c, left + kw, n], y[c, oh, ow, n]
                            wins = (value > best) | (value != value)
                            place[c, oh, ow, n] = here if wins else place[c, oh, ow, n]
                            y[c, oh, ow, n] = value if wins else best


@kernel
def _backward_from_pool(x, dy, place, dx, kernel_size, stride, padding, size, groups, alpha, beta, k, start, stop):
    C, H, W, N = x.shape
    OH, OW = dy.shape[1:3]
    KH, KW = kernel_size
    line, zero = W * N, x.dtype.type(0)
    columns, dx_columns = x.reshape(C, H * W * N), dx.reshape(C, H * W * N)
    pooled = np.empty((C, W, N), x.dtype)  # the gradient of one line of what LRN gave
    for h in range(start, stop):
        pooled[:] = 0
        for oh in range(max(0, (h + padding[0] - KH) // stride[0] + 1), min(OH, (h + padding[0]) // stride[0] + 1)):
            kh = h - (oh * stride[0] - padding[0])
            for c in range(C):
                for ow in range(OW):
                    left = ow * stride[1] - padding[1]
                    for kw in range(max(0, -left), min(KW, W - left)):
                        here = kh * KW + kw
                        for n in range(N):
                            pooled[c, left + kw, n] += dy[c, oh, ow, n] if place[c, oh, ow, n] == here else zero
        gradient = pooled.reshape(C, line)
        for left in range(h * line, h * line + line, _block_of(C)):
            right = min(left + _block_of(C), h * line + line)
            _backward_block(columns, gradient, dx_columns, left, right, h * line, size, groups, alpha, beta, k, True)


@with_gpu_twin
def lrn_forward(x: np.ndarray, size: int, alpha: float, beta: float, k: float, groups: int) -> np.ndarray:
    """y = x / (k + alpha * S)**beta, S the sum of x**2 over the window; x, y (N, C, H, W)."""
    columns = batch_last(x)
    y = buffers.empty_like(columns)
    _over_columns(_forward, (columns, y), size, alpha, beta, k, groups)
    return batch_first(y)


@with_gpu_twin
def lrn_backward(
    x: np.ndarray, dy: np.ndarray, size: int, alpha: float, beta: float, k: float, groups: int
) -> np.ndarray:
    """dx = dy * scale**-beta - 2 * alpha * beta * x * (window sum of dy * x * scale**(-beta - 1)), all (N, C, H, W)."""
    columns = batch_last(x)
    dx = buffers.empty_like(columns)
    _over_columns(_backward, (columns, batch_last(dy), dx), size, alpha, beta, k, groups)
    return batch_first(dx)


def _over_columns(loop, arrays, *normalisation):
    flat = [array.reshape(len(array), -1) for array in arrays]
    parallel_for(loop, flat[0].shape[1], *flat, *_settings(arrays[0], normalisation), grain=GRAIN)


@with_gpu_twin
def lrn_pool_forward(
    x: np.ndarray, normalisation: tuple, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool_forward(lrn_forward(x, *normalisation), output, ...)`."""
    pictures = batch_last(x)
    C, _, _, N = pictures.shape
    y = buffers.empty((C, *output, N), x.dtype)
    place = buffers.zeros(y.shape, index_type(kernel_size))
    window = kernel_size, stride, padding
    parallel_for(_forward_and_pool, output[0], pictures, y, place, *window, *_settings(x, normalisation))
    return batch_first(y), place


@with_gpu_twin
def relu_lrn_pool_backward(
    x: np.ndarray,
    dy: np.ndarray,
    place: np.ndarray,
    normalisation: tuple,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
) -> np.ndarray:
    """dx of ReLU, LRN and pooling, where x is what the ReLU gave."""
    pictures = batch_last(x)
    dx = buffers.empty_like(pictures)
    arrays = pictures, batch_last(dy), place, dx
    window = kernel_size, stride, padding
    parallel_for(_backward_from_pool, x.shape[2], *arrays, *window, *_settings(x, normalisation))
    return batch_first(dx)


def _settings(x, normalisation):
    size, alpha, beta, k, groups = normalisation
    number = x.dtype.type  # a Python float would turn the whole loop into float64
    return size, groups, number(alpha), number(beta), number(k)
