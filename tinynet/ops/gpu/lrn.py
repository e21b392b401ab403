"""Local response normalisation: launches of kernels/lrn.cu. CPU twin: tinynet/ops/lrn.py."""

import functools
from typing import Any

import numpy as np

from tinynet.backend.launch import launch
from tinynet.backend.layout import batch_first, batch_last
from tinynet.checks import Pair
from tinynet.ops.gpu import FULL, THREADS, blocks, pictures_first, same_place, t, window_numbers
from tinynet.ops.gpu.elementwise import relu_backward
from tinynet.ops.gpu.max_pool import max_pool_backward, max_pool_forward
from tinynet.ops.lrn import LARGEST_SIZE_ON_A_GPU

IN_REGISTERS = 5  # the paper's window
SHORTEST = 16  # walk along the channels
POOL_THREADS, PIXELS = 512, 4  # of a block of lrn_pool_forward, and pixels of each thread


def lrn_forward(x: Any, size: int, alpha: float, beta: float, k: float, groups: int) -> Any:
    x = batch_last(x)
    y = same_place(x, x.shape)
    _launch("lrn_forward", x, size, groups, alpha, beta, k, x=x, y=y)
    return batch_first(y)


def lrn_backward(x: Any, dy: Any, size: int, alpha: float, beta: float, k: float, groups: int) -> Any:
    x, dy = batch_last(x), batch_last(dy).astype(x.dtype, copy=False)
    dx = same_place(x, x.shape)
    _launch("lrn_backward", x, size, groups, alpha, beta, k, x=x, dy=dy, dx=dx)
    return batch_first(dx)


def relu_lrn_pool_backward(
    x: Any, dy: Any, place: Any, normalisation: Any, kernel_size: Pair, stride: Pair, padding: Pair
) -> Any:
    size, alpha, beta, k, groups = normalisation
    if place.dtype != np.uint8:  # windows of more than 256 pixels
        dy = max_pool_backward(dy, place, x.shape[2:], kernel_size, stride, padding)
        return relu_backward(lrn_backward(x, dy, *normalisation), x)
    x, dy = batch_last(x), batch_last(dy)
    dx = same_place(x, x.shape)
    arrays = {"x": x, "dy": dy, "place": place, "dx": dx}
    window = window_numbers(kernel_size, stride, padding)
    _launch("relu_lrn_pool_backward", x, size, groups, alpha, beta, k, **arrays, **window)
    return batch_first(dx)


def _launch(name, pictures, size, groups, alpha, beta, k, **args):
    C, columns = len(pictures), pictures[0].size
    size = min(size, 2 * (C // groups) - 1)
    if size > LARGEST_SIZE_ON_A_GPU:
        raise ValueError(f"{name}: on a GPU a window is at most {LARGEST_SIZE_ON_A_GPU} channels wide, got {size}")
    chunk = _chunk(C, columns, groups)
    instance = IN_REGISTERS if size == IN_REGISTERS else 0
    grid = blocks(columns, most=1 << 20), groups * -(-(C // groups) // chunk)
    numbers = {"size": size, "groups": groups, "chunk": chunk, "alpha": alpha, "beta": beta, "k": k}
    launch("lrn", f"{name}<{t(pictures)}, {instance}>", grid, (THREADS,), **args, **numbers)


def _chunk(C: int, columns: int, groups: int) -> int:
    """Channels of one walk: few columns want shorter walks, so that there are threads enough."""
    chunk = C // groups
    while chunk > SHORTEST and columns * (C // chunk) < FULL * THREADS // 4:
        chunk = -(-chunk // 2)
    return chunk


def lrn_pool_forward(
    x: Any, normalisation: Any, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[Any, Any]:
    size, alpha, beta, k, groups = normalisation
    x = batch_last(x)
    C, columns, N = len(x), x[0].size, x.shape[3]
    block = pictures_first(N, POOL_THREADS)
    tile = _pool_tile(kernel_size, stride, PIXELS * block[1])
    if size != IN_REGISTERS or tile is None or kernel_size[0] * kernel_size[1] > 256:
        y = lrn_forward(batch_first(x), *normalisation)
        return max_pool_forward(y, output, kernel_size, stride, padding)
    y = same_place(x, (C, *output, N))
    place = same_place(x, y.shape, np.uint8)
    chunk = _chunk(C, columns, groups)
    tiles = -(-output[0] // tile[0]) * -(-output[1] // tile[1])
    grid = tiles * -(-N // block[0]), groups * -(-(C // groups) // chunk)
    seen = [(tile[i] - 1) * stride[i] + kernel_size[i] for i in (0, 1)]
    shared = 2 * seen[0] * seen[1] * block[0] * x.dtype.itemsize
    numbers = window_numbers(kernel_size, stride, padding) | {"tile_h": tile[0], "tile_w": tile[1], "groups": groups}
    numbers |= {"chunk": chunk, "alpha": alpha, "beta": beta, "k": k}
    launch("lrn", f"lrn_pool_forward<{t(x)}, {size}>", grid, block, shared, x=x, y=y, place=place, **numbers)
    return batch_first(y), place


@functools.cache
def _pool_tile(kernel_size: Pair, stride: Pair, pixels: int) -> Pair | None:
    """The tile of windows that covers the most of them with at most `pixels` pixels under it; None if there is none."""
    best = None
    for down in range(1, 33):
        for across in range(1, 33):
            seen = ((down - 1) * stride[0] + kernel_size[0]) * ((across - 1) * stride[1] + kernel_size[1])
            if seen <= pixels and (best is None or down * across > best[0] * best[1]):
                best = down, across
    return best
