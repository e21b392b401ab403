"""Convolution on a GPU: launches of kernels/panels.cu, an implicit matrix product. CPU twin: ops/conv/choose.py.

There is one way here, whatever algorithm the layer names. The precision decides which instances of the kernels run, and
the sizes which of their tiles.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import device
from tinynet.backend.launch import launch
from tinynet.backend.layout import batch_first, batch_last
from tinynet.backend.precision import check_precision_on
from tinynet.checks import Pair
from tinynet.ops.conv.panels import Window
from tinynet.ops.gpu import LARGEST_GRID, THREADS, blocks, same_place, t, window_numbers

DEPTH = 16  # of a chunk of the sum, in the kernels
LONGEST = 8192  # columns that one part of a gradient sums, for the rounding


class Arithmetic(NamedTuple):
    """How the kernels multiply: their name for it, the chunks of a sum that are under way at a time, and the tiles
    (rows, columns), the largest first, each with how many blocks a multiprocessor has registers for."""

    name: str
    stages: int
    tiles: dict[Pair, int]


FLOAT = {  # precision: what panels.cu has instances of
    "fp32": Arithmetic("FMA", 3, {(128, 128): 2, (64, 128): 3}),
    "tf32x3": Arithmetic("TF32X3", 4, {(128, 128): 2, (64, 128): 3}),
    "tf32": Arithmetic("TF32", 4, {(128, 256): 1, (128, 128): 2, (64, 128): 3}),
    "bf16": Arithmetic("BF16", 4, {(128, 256): 1, (128, 128): 2, (64, 128): 3}),
}
DOUBLE = Arithmetic("FMA", 3, {(64, 64): 4})


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
    precision: str = "fp32",
) -> Any:
    x = batch_last(x)
    y = same_place(x, (len(weight), *output, x.shape[3]))
    arrays = {"x": x, "weight": weight, "bias": bias, "y": y, "relu": int(relu)}
    rows, columns = len(weight) // groups, y[0].size
    tile = best_tile(tiles("panels_forward", x, precision), rows, columns, groups, multiprocessors(device.device_of(x)))
    _launch("panels_forward", x, precision, tile, rows, columns, 1, window, groups, **arrays)
    return batch_first(y)


def input_gradient(
    algorithm: str,
    dy: Any,
    weight: Any,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
    precision: str = "fp32",
) -> Any:
    N, C, H, W = shape
    dy, stride = batch_last(dy), window[1]
    dx = same_place(dy, (C, H, W, N))
    columns = -(-H // stride[0]) * -(-W // stride[1]) * N  # of the largest phase
    rows, phases = C // groups, stride[0] * stride[1]
    choice = tiles("panels_input_gradient", dy, precision)
    tile = best_tile(choice, rows, columns, phases * groups, multiprocessors(device.device_of(dy)))
    arrays = {"dy": dy, "weight": weight, "dx": dx}
    _launch("panels_input_gradient", dy, precision, tile, rows, columns, phases, window, groups, **arrays)
    return batch_first(dx)


def weight_gradient(
    algorithm: str,
    x: Any,
    dy: Any,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
    precision: str = "fp32",
) -> Any:
    x, dy = batch_last(x), batch_last(dy)
    O, K = shape[0] // groups, shape[1] * shape[2] * shape[3]
    choice = tiles("panels_weight_gradient", dy, precision)
    tile, parts = tile_and_parts(choice, O, K, groups, dy[0].size, multiprocessors(device.device_of(dy)))
    partial, total = same_place(x, (parts, *shape)), same_place(x, shape)
    arrays = {"x": x, "dy": dy, "partial": partial}
    _launch("panels_weight_gradient", dy, precision, tile, O, K, parts, window, groups, **arrays)
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


def _launch(name, like, precision, tile, rows, columns, grid_y, window, groups, **arrays):
    """One of the tiled kernels: `rows` x `columns` results of each group, and `grid_y` of them along the grid's y."""
    way = arithmetic(like.dtype, precision)
    expression = f"{name}<{t(like)}, {way.name}, {tile[0]}, {tile[1]}>"
    grid, shared = (tile_count(tile, rows, columns), grid_y, groups), shared_bytes(name, way, like.itemsize, tile)
    launch("panels", expression, grid, (tile[1],), shared, groups=groups, **window_numbers(*window), **arrays)


# --- which instance, and how much of it: pure functions of the sizes and of the GPU ---


def arithmetic(dtype: Any, precision: str) -> Arithmetic:
    return FLOAT[precision] if dtype == np.float32 else DOUBLE


def shared_bytes(name: str, way: Arithmetic, itemsize: int, tile: Pair) -> int:
    """Of dynamic shared memory: for each stage a chunk of the left matrix and one of the right (panels_tile.cuh)."""
    lines = [n * (DEPTH + 16 // itemsize) for n in tile]
    right = lines[1] if name == "panels_weight_gradient" else DEPTH * (tile[1] + 8)
    return way.stages * itemsize * (lines[0] + right)


def tiles(name: str, like: Any, precision: str) -> dict[Pair, int]:
    """Those that the kernel `name` has for arrays as `like`, and that the GPU has the shared memory for."""
    where, way = device.device_of(like), arithmetic(like.dtype, precision)
    if like.dtype == np.float32:
        check_precision_on(where, precision)
    most = shared_memory(where)
    return {tile: n for tile, n in way.tiles.items() if shared_bytes(name, way, like.itemsize, tile) <= most}


def tile_count(tile: Pair, rows: int, columns: int) -> int:
    """Tiles that cover `rows` x `columns`."""
    return -(-rows // tile[0]) * -(-columns // tile[1])


def best_tile(choice: dict[Pair, int], rows: int, columns: int, blocks_of_a_tile: int, processors: int) -> Pair:
    """The largest tile that takes no more than a tenth longer than the best: the multiprocessors work in rounds."""
    rounds = {tile: -(-tile_count(tile, rows, columns) * blocks_of_a_tile // processors) for tile in choice}
    work = {tile: count * tile[0] * tile[1] for tile, count in rounds.items()}
    return next(tile for tile in choice if work[tile] <= 1.1 * min(work.values()))


def tile_and_parts(
    choice: dict[Pair, int], O: int, K: int, groups: int, columns: int, processors: int
) -> tuple[Pair, int]:
    """For the weight gradient, whose long sum over `columns` is split into parts. The parts fill the GPU, so the tile
    is the one that hangs over the edges least."""
    tile = min(choice, key=lambda tile: tile_count(tile, O, K) * tile[0] * tile[1])
    room = choice[tile] * processors // (tile_count(tile, O, K) * groups)
    return tile, min(max(1, -(-columns // LONGEST), room), -(-columns // DEPTH), LARGEST_GRID)


@functools.cache
def multiprocessors(where: str) -> int:
    """How many the GPU has."""
    return _attribute(where, "MultiProcessorCount")


@functools.cache
def shared_memory(where: str) -> int:
    """Bytes of it that a block may have at most."""
    return _attribute(where, "MaxSharedMemoryPerBlockOptin")


def _attribute(where, name):
    with device.on(where):
        return device.cupy().cuda.Device().attributes[name]
