"""Max pooling with the place of each maximum, and its backward. CUDA twin: `kernels/max_pool.cu`."""

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.layout import batch_first, batch_last
from tinynet.backend.threads import kernel, parallel_for
from tinynet.checks import Pair

FEW = 8  # pictures: below, loops run along a row of one picture and not over the pictures


@kernel
def _forward(x, y, place, kernel_size, stride, padding, start, stop):
    C, H, W, N = x.shape
    OH, OW = y.shape[1:3]
    KH, KW = kernel_size
    few = N < FEW
    for c in range(start, stop):
        for oh in range(OH):
            top = oh * stride[0] - padding[0]
            for ow in range(OW):
                corner = max(0, -top) * KW + max(0, padding[1] - ow * stride[1])  # the window's first pixel in x
                for n in range(N):
                    y[c, oh, ow, n] = -np.inf
                    place[c, oh, ow, n] = corner
            for kh in range(max(0, -top), min(KH, H - top)):
                for kw in range(KW):
                    here, left = kh * KW + kw, kw - padding[1]
                    first, last = -(left // stride[1]) if left < 0 else 0, min(OW, (W - 1 - left) // stride[1] + 1)
                    # the innermost loop is the longer one. Selects and no branch: it becomes vector instructions.
                    # The first of equals stays, and so does NaN.
                    if few:
                        for n in range(N):
                            for ow in range(first, last):
                                value, best = x[c, top + kh, ow * stride[1] + left, n], y[c, oh, ow, n]
                                wins = (value > best) | (value != value)
                                place[c, oh, ow, n] = here if wins else place[c, oh, ow, n]
                                y[c, oh, ow, n] = value if wins else best
                        continue
                    for ow in range(first, last):
                        for n in range(N):
                            value, best = x[c, top + kh, ow * stride[1] + left, n], y[c, oh, ow, n]
                            wins = (value > best) | (value != value)
                            place[c, oh, ow, n] = here if wins else place[c, oh, ow, n]
                            y[c, oh, ow, n] = value if wins else best


@kernel
def _maxima(x, y, kernel_size, stride, padding, start, stop):
    """y alone, for few pictures: the maximum over a window's rows for each column first, then over its columns."""
    C, H, W, N = x.shape
    OH, OW = y.shape[1:3]
    columns = np.empty(W * N, x.dtype)
    for c in range(start, stop):
        for oh in range(OH):
            top = oh * stride[0] - padding[0]
            row = x[c, max(0, top)].reshape(-1)
            for i in range(W * N):
                columns[i] = row[i]
            for h in range(max(0, top) + 1, min(H, top + kernel_size[0])):
                row = x[c, h].reshape(-1)
                for i in range(W * N):
                    value, best = row[i], columns[i]
                    columns[i] = value if (value > best) | (value != value) else best
            for ow in range(OW):
                left = ow * stride[1] - padding[1]
                first, last = max(0, left), min(W, left + kernel_size[1])
                for n in range(N):
                    best = columns[first * N + n]
                    for w in range(first + 1, last):
                        value = columns[w * N + n]
                        best = value if (value > best) | (value != value) else best
                    y[c, oh, ow, n] = best


@kernel
def _backward(dy, place, dx, kernel_size, stride, padding, start, stop):
    C, H, W, N = dx.shape
    OH, OW = dy.shape[1:3]
    KH, KW = kernel_size
    for c in range(start, stop):
        pixels = dx[c].reshape(-1)
        for i in range(len(pixels)):
            pixels[i] = 0
        for oh in range(OH):
            for ow in range(OW):
                top, left = oh * stride[0] - padding[0], ow * stride[1] - padding[1]
                for kh in range(max(0, -top), min(KH, H - top)):
                    for kw in range(max(0, -left), min(KW, W - left)):
                        here = kh * KW + kw
                        for n in range(N):
                            share = dy[c, oh, ow, n] if place[c, oh, ow, n] == here else dx.dtype.type(0)
                            dx[c, top + kh, left + kw, n] += share


@with_gpu_twin
def max_pool_forward(
    x: np.ndarray, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """x (N, C, H, W) -> y (N, C, OH, OW), and place (C, OH, OW, N): which kh*KW + kw of its window each maximum was."""
    pictures = batch_last(x)
    C, _, _, N = pictures.shape
    y = buffers.empty((C, *output, N), x.dtype)
    place = buffers.empty(y.shape, index_type(kernel_size))
    parallel_for(_forward, C, pictures, y, place, kernel_size, stride, padding)
    return batch_first(y), place


@with_gpu_twin
def max_pool(x: np.ndarray, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """The y of `max_pool_forward`, without the places: three to eight times as fast for few pictures."""
    if len(x) >= FEW:
        return max_pool_forward(x, output, kernel_size, stride, padding)[0]
    pictures = batch_last(x)
    y = buffers.empty((x.shape[1], *output, len(x)), x.dtype)
    parallel_for(_maxima, x.shape[1], pictures, y, kernel_size, stride, padding)
    return batch_first(y)


@with_gpu_twin
def max_pool_backward(
    dy: np.ndarray, place: np.ndarray, size: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """dy (N, C, OH, OW) -> dx (N, C, *size): each dy goes to the pixel that was its window's maximum."""
    C, _, _, N = place.shape
    dx = buffers.empty((C, *size, N), dy.dtype)
    parallel_for(_backward, C, batch_last(dy), place, dx, kernel_size, stride, padding)
    return batch_first(dx)


def index_type(kernel_size: Pair) -> type:
    """The dtype of `place`."""
    return np.uint8 if kernel_size[0] * kernel_size[1] <= 256 else np.int32
