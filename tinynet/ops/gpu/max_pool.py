"""Max pooling: launches of kernels/max_pool.cu. CPU twin: tinynet/ops/max_pool.py."""

from typing import Any

import numpy as np

from tinynet.backend.launch import launch
from tinynet.backend.layout import batch_first, batch_last
from tinynet.checks import Pair
from tinynet.ops.gpu import LARGEST_GRID, pictures_first, same_place, t, window_numbers
from tinynet.ops.max_pool import index_type

PLACE: dict[Any, str] = {np.uint8: "unsigned char", np.int32: "int"}


def max_pool_forward(x: Any, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair) -> tuple[Any, Any]:
    x, index = batch_last(x), index_type(kernel_size)
    y = same_place(x, (len(x), *output, x.shape[3]))
    place = same_place(x, y.shape, index)
    name = f"max_pool_forward<{t(x)}, {PLACE[index]}>"
    _launch(name, y, kernel_size, stride, padding, x=x, y=y, place=place)
    return batch_first(y), place


def max_pool(x: Any, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair) -> Any:
    return max_pool_forward(x, output, kernel_size, stride, padding)[0]


def max_pool_backward(dy: Any, place: Any, size: Pair, kernel_size: Pair, stride: Pair, padding: Pair) -> Any:
    dy = batch_last(dy)
    dx = same_place(dy, (len(dy), *size, dy.shape[3]))
    name = f"max_pool_backward<{t(dy)}, {PLACE[place.dtype.type]}>"
    _launch(name, dx, kernel_size, stride, padding, dy=dy, place=place, dx=dx)
    return batch_first(dx)


def _launch(name, result, kernel_size, stride, padding, **arrays):
    """A thread for each element of `result` (C, rows, columns, N), at most."""
    C, rows, columns, N = result.shape
    block = pictures_first(N)
    grid = -(-columns // block[1]), min(rows, LARGEST_GRID), min(C, LARGEST_GRID)
    launch("max_pool", name, grid, block, **arrays, **window_numbers(kernel_size, stride, padding))
