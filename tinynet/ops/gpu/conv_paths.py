"""Convolution on a GPU: launches of kernels/panels.cu, an implicit matrix product. CPU twin: tinynet/ops/conv_paths.py.

There is one way here, whatever algorithm the layer names.
"""

import functools
from typing import Any

import numpy as np

from tinynet import device
from tinynet.cuda import launch
from tinynet.ops.gpu import LARGEST_GRID, THREADS, blocks, same_place, t, window_numbers
from tinynet.ops.layout import batch_first, batch_last
from tinynet.ops.panels import Window
from tinynet.ops.window import Pair

DEPTH = 16  # of a chunk of the sum, in the kernels
STAGES = 3  # chunks under way at a time
LONGEST = 8192  # columns that one part of a gradient sums, for the rounding
AT_ONCE = {(128, 128): 2, (64, 128): 3, (64, 64): 4}  # blocks that a multiprocessor has registers for
# (rows, columns), the largest first
TILES = {np.dtype(np.float32): ((128, 128), (64, 128)), np.dtype(np.float64): ((64, 64),)}


def forward(
    algorithm: str,
    x: Any,
    weight: Any,
    bias: Any,
    output: Pair,
    window: Window,
    groups: int,
    relu: bool,
    kept: Any = None,
) -> Any:
    x = batch_last(x)
    y = same_place(x, (len(weight), *output, x.shape[3]))
    arrays = {"x": x, "weight": weight, "bias": bias, "y": y, "relu": int(relu)}
    rows, columns = len(weight) // groups, y[0].size
    _launch("panels_forward", x, _tile(x, rows, columns, groups), rows, columns, 1, window, groups, **arrays)
    return batch_first(y)


def input_gradient(algorithm: str, dy: Any, weight: Any, shape: tuple[int, ...], window: Window, groups: int) -> Any:
    N, C, H, W = shape
    dy, stride = batch_last(dy), window[1]
    dx = same_place(dy, (C, H, W, N))
    phase = -(-H // stride[0]) * -(-W // stride[1]) * N  # columns of the largest one
    arrays = {"dy": dy, "weight": weight, "dx": dx}
    rows, phases = C // groups, stride[0] * stride[1]
    tile = _tile(dy, rows, phase, phases * groups)
    _launch("panels_input_gradient", dy, tile, rows, phase, phases, window, groups, **arrays)
    return batch_first(dx)


def weight_gradient(algorithm: str, x: Any, dy: Any, shape: tuple[int, ...], window: Window, groups: int) -> Any:
    x, dy = batch_last(x), batch_last(dy)
    O, K, columns = shape[0] // groups, shape[1] * shape[2] * shape[3], dy[0].size
    # the sum is split, so tiles need not fill the GPU: the one that hangs over the edges least
    tile = min(TILES[dy.dtype], key=lambda tile: _tiles(tile, O, K) * tile[0] * tile[1])
    room = AT_ONCE[tile] * multiprocessors(device.device_of(dy)) // (_tiles(tile, O, K) * groups)
    parts = min(max(1, -(-columns // LONGEST), room), -(-columns // DEPTH), LARGEST_GRID)
    partial, total = same_place(x, (parts, *shape)), same_place(x, shape)
    _launch("panels_weight_gradient", dy, tile, O, K, parts, window, groups, x=x, dy=dy, partial=partial)
    _sum_parts(partial, total, parts)
    return total


def bias_gradient(dy: Any) -> Any:
    dy = batch_last(dy)
    O, columns = len(dy), dy[0].size
    parts = -(-columns // LONGEST)
    partial, total = same_place(dy, (parts, O)), same_place(dy, (O,))
    launch("panels", f"panels_bias_gradient<{t(dy)}>", (parts, O), (THREADS,), dy=dy, partial=partial)
    _sum_parts(partial, total, parts)
    return total


def _sum_parts(partial, total, parts):
    arrays = {"partial": partial.reshape(parts, -1), "total": total}
    launch("panels", f"panels_sum_parts<{t(total)}>", (blocks(total.size),), (THREADS,), **arrays, accumulate=0)


def _launch(name, like, tile, rows, columns, grid_y, window, groups, **arrays):
    """One of the tiled kernels: `rows` x `columns` results of each group, and `grid_y` of them along the grid's y."""
    itemsize = like.dtype.itemsize
    lines = [n * (DEPTH + 16 // itemsize) for n in tile]
    columns_of_chunk = lines[1] if name == "panels_weight_gradient" else DEPTH * (tile[1] + 8)
    shared = STAGES * itemsize * (lines[0] + columns_of_chunk)
    expression = f"{name}<{t(like)}, FMA, {tile[0]}, {tile[1]}>"
    grid = _tiles(tile, rows, columns), grid_y, groups
    launch("panels", expression, grid, (tile[1],), shared, groups=groups, **window_numbers(*window), **arrays)


def _tiles(tile, rows, columns):
    return -(-rows // tile[0]) * -(-columns // tile[1])


def _tile(like, rows, columns, blocks_of_a_tile):
    """The largest tile that takes no more than a tenth longer than the best: the multiprocessors work in rounds."""
    processors = multiprocessors(device.device_of(like))
    rounds = {tile: -(-_tiles(tile, rows, columns) * blocks_of_a_tile // processors) for tile in TILES[like.dtype]}
    work = {tile: count * tile[0] * tile[1] for tile, count in rounds.items()}
    return next(tile for tile in TILES[like.dtype] if work[tile] <= 1.1 * min(work.values()))


@functools.cache
def multiprocessors(where: str) -> int:
    """How many the GPU has."""
    with device.on(where):
        return device.cupy().cuda.Device().attributes["MultiProcessorCount"]
