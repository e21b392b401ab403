"""Dropout as a function of its place and time alone. CUDA twin: `kernels/dropout.cu`."""

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.threads import kernel, parallel_for
from tinynet.ops.elementwise import GRAIN as PLAIN_GRAIN
from tinynet.ops.elementwise import in_memory_order
from tinynet.ops.philox import key_words, philox4x32

TILE = 64  # rows whose random bits are drawn at a time
GRAIN = 1 << 14  # elements a thread, at the least


@kernel
def _drop(x, y, kept, N, whole, offset, threshold, scale, k0, k1, stream, step, start, stop):
    """For x, y, kept (R * N,): rows r in [start, stop) of N elements; the random word of (r, n) is n * whole + offset +
    r."""
    zero = x.dtype.type(0)
    words = np.empty((N, TILE + 4), np.uint32)
    for first in range(start, stop, TILE):
        rows = min(TILE, stop - first)
        for n in range(N):
            begin = n * whole + offset + first
            block, skip = begin // 4, begin % 4
            for j in range(-skip, rows, 4):
                u = np.uint64(block)
                four = philox4x32(u & np.uint64(0xFFFFFFFF), u >> np.uint64(32), step, stream, k0, k1)
                for i in range(4):
                    if 0 <= j + i < rows:
                        words[n, j + i] = four[i]
                block += 1
        for r in range(rows):
            at = (first + r) * N
            for n in range(N):
                keep = words[n, r] >= threshold
                kept[at + n] = keep
                y[at + n] = x[at + n] * scale if keep else zero


@kernel
def _drop_again(dy, kept, dx, scale, start, stop):
    dy, kept, dx = dy[start:stop], kept[start:stop], dx[start:stop]
    zero = dy.dtype.type(0)
    for i in range(len(dy)):
        dx[i] = dy[i] * scale if kept[i] else zero


@with_gpu_twin
def dropout_forward(
    x: np.ndarray, p: float, seed: int, stream: int, step: int, part: tuple[int, int] = (0, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """y = x / (1 - p) where an element's 32 random bits are at least p * 2**32, else 0; and where it is kept.

    x of any shape; the bits of element i, in C order, are word i of (seed, stream, step), wherever x has it in memory.
    part=(t, T): x (N, ...) is part number t of T equal parts of a whole array, cut along axis 1, and i counts there.
    """
    innermost = np.moveaxis(x, 0, -1)  # the batch
    if part != (0, 1):
        innermost = np.ascontiguousarray(innermost)
    elif x.ndim == 1 or not innermost.flags.c_contiguous:
        x = np.ascontiguousarray(x)
        innermost = x[..., None]
    N = innermost.shape[-1]
    y, kept = buffers.empty(innermost.shape, x.dtype), buffers.empty(innermost.shape, np.bool_)
    rows = x.size // N
    place = part[1] * rows, part[0] * rows
    flat = innermost.reshape(-1), y.reshape(-1), kept.reshape(-1)
    numbers = (
        np.uint64(round(p * 2**32)),
        x.dtype.type(1 / (1 - p)),
        *key_words(seed),
        np.uint64(stream),
        np.uint64(step),
    )
    parallel_for(_drop, rows, *flat, N, *place, *numbers, grain=-(-GRAIN // N))
    if innermost.ndim > x.ndim:
        return y[..., 0], kept[..., 0]
    return np.moveaxis(y, -1, 0), np.moveaxis(kept, -1, 0)


@with_gpu_twin
def dropout_backward(dy: np.ndarray, kept: np.ndarray, p: float) -> np.ndarray:
    """dx = dy / (1 - p) where kept, else 0."""
    dx = buffers.empty_like(kept, dy.dtype)
    flat_dx, flat_dy, flat_kept = in_memory_order(dx, dy, kept)
    parallel_for(_drop_again, dy.size, flat_dy, flat_kept, flat_dx, dy.dtype.type(1 / (1 - p)), grain=PLAIN_GRAIN)
    return dx
