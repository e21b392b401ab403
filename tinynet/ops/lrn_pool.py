"""LRN and the max pooling behind it in one pass over memory; in backward, the ReLU before them too.

What LRN gives is pooled while it is in the cache, and never written to memory; backward makes the gradient of one line
of pixels at a time, which LRN's and the ReLU's backward take up at once. The numbers are those of `lrn` and `max_pool`,
bit for bit.
"""

import numpy as np

from tinynet.ops import buffers
from tinynet.ops.layout import batch_first, batch_last
from tinynet.ops.lrn import backward_block, block_of, forward_block
from tinynet.ops.max_pool import index_type
from tinynet.ops.parallel import kernel, parallel_for
from tinynet.ops.window import Pair


@kernel
def _forward(x, y, place, kernel_size, stride, padding, size, groups, alpha, beta, k, start, stop):
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
            for left in range(h * line, h * line + line, block_of(C)):
                right = min(left + block_of(C), h * line + line)
                forward_block(columns, normalised, left, right, h * line, size, groups, alpha, beta, k)
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
def _backward(x, dy, place, dx, kernel_size, stride, padding, size, groups, alpha, beta, k, start, stop):
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
        for left in range(h * line, h * line + line, block_of(C)):
            right = min(left + block_of(C), h * line + line)
            backward_block(columns, gradient, dx_columns, left, right, h * line, size, groups, alpha, beta, k, True)


def lrn_pool_forward(
    x: np.ndarray, normalisation: tuple, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool_forward(lrn_forward(x, *normalisation), output, ...)`."""
    pictures = batch_last(x)
    C, _, _, N = pictures.shape
    y = buffers.empty((C, *output, N), x.dtype)
    place = buffers.zeros(y.shape, index_type(kernel_size))
    window = kernel_size, stride, padding
    parallel_for(_forward, output[0], pictures, y, place, *window, *_settings(x, normalisation))
    return batch_first(y), place


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
    parallel_for(_backward, x.shape[2], *arrays, *window, *_settings(x, normalisation))
    return batch_first(dx)


def _settings(x, normalisation):
    size, alpha, beta, k, groups = normalisation
    number = x.dtype.type  # a Python float would turn the whole loop into float64
    return size, groups, number(alpha), number(beta), number(k)
