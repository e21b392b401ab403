"""Convolution by Winograd's algorithm, tile by tile, and its gradients: the fast path of `tinynet.ops.conv2d`.

One tile of m x m outputs reads n x n inputs, n = m + r - 1. Per tile, and all pictures of the batch side by side:

    gather     V = B^T d B          n*n values for each input channel
    multiply   M_p = U_p V_p        for each of the n*n points p one matrix product over the channels, U = G g G^T
    scatter    Y = A^T M A          m*m outputs for each output channel; bias and ReLU on the way

The input's gradient is the convolution of dy with the kernels turned round. The kernels' gradient is the transpose
of the three maps: dU_p = (A dy A^T)_p V_p^T, summed over the tiles, and dg = G^T dU G.

A stride of s is s*s convolutions of stride 1: pixel (s*h + a, s*w + b) of x is pixel (h, w) of its phase (a, b), and
the phases count as channels. A few tiles are done at a time, so that V and M stay in the cache. See `cook_toom` for the
matrices; here stand the loops. All (tile, picture) pairs stand in a row, tile by tile; LANES of them are a `unit`.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.ops import buffers
from tinynet.ops.cook_toom import rows_of
from tinynet.ops.parallel import kernel, parallel_for
from tinynet.ops.vectors import LANES, VERSION, combine
from tinynet.ops.window import Pair

SPARE = 16  # values between the points' matrices: at equal distances of 2**k they would meet in one cache set
CHUNK = 1 << 22  # bytes of V and M that one thread works on at a time
MAX_UNITS = 64  # in a chunk
GRAIN = 2  # units of one thread, at the least
WORTH_A_THREAD = 1 << 18  # values of U


@dataclass(frozen=True)
class Grid:
    """How tiles lie on an array (C, H, W, N): pixel (i, j) of tile (y, x), phase (a, b), is the array's pixel
    ((m*y + i) * stride + a - padding, ...)."""

    shape: tuple[int, int, int, int]
    stride: Pair
    padding: Pair
    tiles: Pair  # down and across

    def units(self) -> int:
        return -(-self.tiles[0] * self.tiles[1] * self.shape[3] // LANES)

    def arguments(self, group: int, groups: int) -> tuple[Any, ...]:
        """For the loops: all of it, the group's first channel, and its channels x phases."""
        channels = self.shape[0] // groups
        phases = self.stride[0] * self.stride[1]
        return self.shape, self.stride, self.padding, self.tiles, group * channels, channels * phases


# The loops are made for each F(m, r). numba's cache on disk knows a loop by its name, its file and the values that it
# closes over. So each has a name of its own, and closes over its matrix and the version of `combine`: where these
# change, no old machine code is found.


def _made_for(m: int, r: int, loop: Any) -> Any:
    """`loop` compiled, under a name of its own."""
    loop.__qualname__ = f"{loop.__name__}_{m}_{r}"
    return kernel(loop)


def _gather_kernel(name: str, m: int, r: int) -> Any:
    P, version = rows_of(name, m, r), VERSION

    def gather(x, shape, stride, padding, tiles, first_channel, channels, values, point_step, first, last):
        """values[p, k, unit] = (P tile P^T)[p] for size x size pixels of each channel k, zero outside the picture; P =
        the matrix called `name`."""
        n, size, zero, _ = len(P), len(P[0]), x.dtype.type(0), version
        H, W, N = shape[1:]
        patch, rows = np.zeros(size * size * LANES, x.dtype), np.empty(n * size * LANES, x.dtype)
        for k in range(channels):
            c = first_channel + k // (stride[0] * stride[1])
            a, b = k // stride[1] % stride[0] - padding[0], k % stride[1] - padding[1]
            for unit in range(first, last):
                tile, picture = unit * LANES // N, unit * LANES % N
                top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                bottom, right = top + (size - 1) * stride[0], left + (size - 1) * stride[1]
                one_tile = picture + LANES <= N
                if one_tile and top >= 0 and left >= 0 and bottom < H and right < W:
                    source, corner = x, ((c * H + top) * W + left) * N + picture
                    down, aside = stride[0] * W * N, stride[1] * N
                elif one_tile:
                    source, corner, down, aside = patch, 0, size * LANES, LANES
                    for i in range(size):
                        for j in range(size):
                            h, w, to = top + i * stride[0], left + j * stride[1], (i * size + j) * LANES
                            begin = ((c * H + h) * W + w) * N + picture
                            if 0 <= h < H and 0 <= w < W:
                                for l in range(LANES):
                                    patch[to + l] = x[begin + l]
                            else:
                                for l in range(LANES):
                                    patch[to + l] = 0
                else:  # a unit of several tiles, or the last one, which may be only in part
                    source, corner, down, aside = patch, 0, size * LANES, LANES
                    for l in range(LANES):
                        tile, picture = (unit * LANES + l) // N, (unit * LANES + l) % N
                        top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                        for i in range(size):
                            for j in range(size):
                                h, w = top + i * stride[0], left + j * stride[1]
                                here = tile < tiles[0] * tiles[1] and 0 <= h < H and 0 <= w < W
                                value = x[((c * H + h) * W + w) * N + picture] if here else zero
                                patch[(i * size + j) * LANES + l] = value
                for j in range(size):
                    combine(name, m, r, source, corner + j * aside, down, rows, j * LANES, size * LANES)
                place = (k * (last - first) + unit - first) * LANES
                for i in range(n):
                    combine(name, m, r, rows, i * size * LANES, LANES, values, i * n * point_step + place, point_step)

    gather.__name__ += {"B^T": "_inputs", "A": "_dy"}[name]
    return _made_for(m, r, gather)


@functools.cache
def _gather_inputs(m: int, r: int) -> Any:
    return _gather_kernel("B^T", m, r)


@functools.cache
def _gather_dy(m: int, r: int) -> Any:
    return _gather_kernel("A", m, r)


@functools.cache
def _scatter(m: int, r: int) -> Any:
    AT, version = rows_of("A^T", m, r), VERSION

    def scatter(values, point_step, y, shape, stride, padding, tiles, first_channel, channels, bias, relu, first, last):
        """y = A^T values A of each unit, plus the channel's bias, negative values to 0 if relu."""
        n, _ = len(AT[0]), version
        H, W, N = shape[1:]
        zero = y.dtype.type(0)
        rows, patch = np.empty(m * n * LANES, y.dtype), np.empty(m * m * LANES, y.dtype)
        for k in range(channels):
            c = first_channel + k // (stride[0] * stride[1])
            a, b = k // stride[1] % stride[0] - padding[0], k % stride[1] - padding[1]
            more = bias[c] if len(bias) else zero
            for unit in range(first, last):
                place = (k * (last - first) + unit - first) * LANES
                for j in range(n):
                    combine("A^T", m, r, values, place + j * point_step, n * point_step, rows, j * LANES, n * LANES)
                for i in range(m):
                    combine("A^T", m, r, rows, i * n * LANES, LANES, patch, i * m * LANES, LANES)
                for l in range(len(patch)):
                    value = patch[l] + more
                    # -inf times 0 is NaN, which the next layer reports; plain 0 would hide it
                    patch[l] = value if value > 0 or not relu else value * zero + zero
                tile, picture = unit * LANES // N, unit * LANES % N
                one_tile = picture + LANES <= N
                for lane in range(1 if one_tile else min(LANES, tiles[0] * tiles[1] * N - unit * LANES)):
                    tile, picture = (unit * LANES + lane) // N, (unit * LANES + lane) % N
                    top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                    for i in range(m):
                        for j in range(m):
                            h, w, begin = top + i * stride[0], left + j * stride[1], (i * m + j) * LANES
                            to = ((c * H + h) * W + w) * N + picture
                            if not (0 <= h < H and 0 <= w < W):
                                continue
                            if one_tile:
                                for l in range(LANES):
                                    y[to + l] = patch[begin + l]
                            else:
                                y[to] = patch[begin + lane]

    return _made_for(m, r, scatter)


@functools.cache
def _transform_kernels(m: int, r: int) -> Any:
    G, version = rows_of("G", m, r), VERSION

    def transform(weight, U, point_step, start, stop):
        """U[p, o, k] = (G weight[o, k] G^T)[p], LANES values of k at a time; for o in [start, stop)."""
        n, channels, _ = len(G), weight.shape[1], version
        patch, rows = np.zeros(r * r * LANES, U.dtype), np.empty(n * r * LANES, U.dtype)
        points = np.empty(n * n * LANES, U.dtype)
        for o in range(start, stop):
            for k in range(0, channels, LANES):
                lanes = min(LANES, channels - k)
                for i in range(r):
                    for j in range(r):
                        for lane in range(lanes):
                            patch[(i * r + j) * LANES + lane] = weight[o, k + lane, i, j]
                for j in range(r):
                    combine("G", m, r, patch, j * LANES, r * LANES, rows, j * LANES, r * LANES)
                begin = o * channels + k
                if lanes == LANES:
                    for i in range(n):
                        combine("G", m, r, rows, i * r * LANES, LANES, U, i * n * point_step + begin, point_step)
                else:
                    for i in range(n):
                        combine("G", m, r, rows, i * r * LANES, LANES, points, i * n * LANES, LANES)
                    for p in range(n * n):
                        for lane in range(lanes):
                            U[p * point_step + begin + lane] = points[p * LANES + lane]

    return _made_for(m, r, transform)


@functools.cache
def _transform_gradient(m: int, r: int) -> Any:
    G, version = rows_of("G", m, r), VERSION

    def transform_back(dU, point_step, dweight, start, stop):
        """dweight[o, k] = G^T dU[:, o, k] G, the transpose of the kernels' transform; for o in [start, stop)."""
        n, channels, _ = len(G), dweight.shape[1], version
        points, rows = np.zeros(n * n * LANES, dU.dtype), np.empty(r * n * LANES, dU.dtype)
        patch = np.empty(r * r * LANES, dU.dtype)
        for o in range(start, stop):
            for k in range(0, channels, LANES):
                lanes = min(LANES, channels - k)
                for p in range(n * n):
                    for lane in range(lanes):
                        points[p * LANES + lane] = dU[p * point_step + o * channels + k + lane]
                for j in range(n):
                    combine("G^T", m, r, points, j * LANES, n * LANES, rows, j * LANES, n * LANES)
                for i in range(r):
                    combine("G^T", m, r, rows, i * n * LANES, LANES, patch, i * r * LANES, LANES)
                for i in range(r):
                    for j in range(r):
                        for lane in range(lanes):
                            dweight[o, k + lane, i, j] = patch[(i * r + j) * LANES + lane]

    return _made_for(m, r, transform_back)


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    m: int,
    stride: Pair,
    padding: Pair,
    groups: int,
    bias: np.ndarray | None = None,
    relu: bool = False,
) -> None:
    """y = convolution of x by weight, plus bias, by F(m, r) tiles; x (C, H, W, N), y (O, OH, OW, N), weight (O,
    C/groups, KH, KW), r = ceil(KH / stride)."""
    tiles = -(-y.shape[1] // m), -(-y.shape[2] // m)
    reads, writes = Grid(x.shape, stride, padding, tiles), Grid(y.shape, (1, 1), (0, 0), tiles)
    _correlate(x, reads, _phases(weight, stride), y, writes, m, groups, bias, relu)


def input_gradient(
    dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, m: int, stride: Pair, padding: Pair, groups: int
) -> None:
    """dx of `forward`: in each phase of x, the convolution of dy with the phase's kernels turned round."""
    kernels = _phases(weight, stride)
    O, K, r, _ = kernels.shape
    turned = (
        kernels[:, :, ::-1, ::-1].reshape(groups, O // groups, K, r, r).swapaxes(1, 2).reshape(-1, O // groups, r, r)
    )
    # row h of x is row q of phase a, h = q * stride + a - padding; rows below q = padding // stride do not exist
    q = padding[0] // stride[0], padding[1] // stride[1]
    rows, columns = (-(-(dx.shape[1 + i] + padding[i]) // stride[i]) - q[i] for i in (0, 1))
    tiles = -(-rows // m), -(-columns // m)
    reads = Grid(dy.shape, (1, 1), (r - 1 - q[0], r - 1 - q[1]), tiles)
    writes = Grid(dx.shape, stride, (padding[0] - q[0] * stride[0], padding[1] - q[1] * stride[1]), tiles)
    _correlate(dy, reads, turned, dx, writes, m, groups)


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, m: int, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    """dweight of `forward`, (O, C/groups, KH, KW)."""
    tiles = -(-dy.shape[1] // m), -(-dy.shape[2] // m)
    reads_x, reads_dy = Grid(x.shape, stride, padding, tiles), Grid(dy.shape, (1, 1), (0, 0), tiles)
    r = -(-kernel_size[0] // stride[0])
    n = m + r - 1
    K, O = reads_x.arguments(0, groups)[-1], dy.shape[0] // groups
    gather_x, gather_dy = _gather_inputs(m, r), _gather_dy(m, r)
    sums: dict[int, _Points] = {}  # of each thread, by the first unit of its range

    def sum_over(start: int, stop: int) -> None:
        width = _chunk(K + O, n, x.dtype, stop - start)
        V, dM = _Points(n, K, width, x.dtype), _Points(n, O, width, x.dtype)
        total, part = _Points(n, O * groups, 1, x.dtype, K), _Points(n, O, 1, x.dtype, K)
        for first in range(start, stop, width):
            last = min(first + width, stop)
            for group in range(groups):
                gather_x(x.reshape(-1), *reads_x.arguments(group, groups), V.flat, V.step, first, last)
                gather_dy(dy.reshape(-1), *reads_dy.arguments(group, groups), dM.flat, dM.step, first, last)
                rows = total.matrices()[:, group * O : (group + 1) * O]
                product = np.matmul(
                    dM.matrices(last - first),
                    V.matrices(last - first).swapaxes(1, 2),
                    out=rows if first == start else part.matrices(),
                )
                if first > start:
                    rows += product
        sums[start] = total

    parallel_for(sum_over, reads_x.units(), grain=GRAIN)
    dU, *others = (sums[start] for start in sorted(sums))
    for other in others:
        parallel_for(_add, n * n, dU.matrices(), other.matrices())
    dweight = np.empty((O * groups, K, r, r), x.dtype)
    parallel_for(_transform_gradient(m, r), len(dweight), dU.flat, dU.step, dweight)
    return _from_phases(dweight, kernel_size, stride)


class _Points:
    """n*n matrices (rows, columns) in one flat array: as many columns as `units` have pictures, or `values`."""

    def __init__(self, n: int, rows: int, units: int, dtype: Any, values: int | None = None):
        self.n, self.rows = n, rows
        self.columns = units * LANES if values is None else values
        self.step = rows * self.columns + SPARE
        self.flat = buffers.empty((n * n * self.step,), dtype)

    def matrices(self, units: int | None = None) -> np.ndarray:
        """(n*n, rows, columns), a view; of `units` only, which lie closer together."""
        columns = self.columns if units is None else units * LANES
        separate = self.flat.reshape(self.n**2, self.step)[:, : self.rows * columns]
        return separate.reshape(self.n**2, self.rows, columns)


def _add(total: np.ndarray, more: np.ndarray, start: int, stop: int) -> None:
    total[start:stop] += more[start:stop]


def _correlate(x, reads, kernels, y, writes, m, groups, bias=None, relu=False):
    O, K, r, _ = kernels.shape
    n, O = m + r - 1, O // groups
    U = _Points(n, O * groups, 1, x.dtype, K)
    grain = -(-WORTH_A_THREAD // (n * n * K))
    parallel_for(_transform_kernels(m, r), O * groups, kernels, U.flat, U.step, grain=grain)
    gather, scatter = _gather_inputs(m, r), _scatter(m, r)
    bias = np.empty(0, x.dtype) if bias is None else bias

    def convolve(start: int, stop: int) -> None:
        width = _chunk(K + O, n, x.dtype, stop - start)
        V, M = _Points(n, K, width, x.dtype), _Points(n, O, width, x.dtype)
        for first in range(start, stop, width):
            last = min(first + width, stop)
            for group in range(groups):
                gather(x.reshape(-1), *reads.arguments(group, groups), V.flat, V.step, first, last)
                of_group = U.matrices()[:, group * O : (group + 1) * O]
                np.matmul(of_group, V.matrices(last - first), out=M.matrices(last - first))
                grid = writes.arguments(group, groups)
                scatter(M.flat, M.step, y.reshape(-1), *grid, bias, relu, first, last)

    parallel_for(convolve, reads.units(), grain=GRAIN)


def _chunk(channels: int, n: int, dtype: Any, available: int) -> int:
    """How many units a thread does at a time: V and M within CHUNK bytes, but products of many channels want width."""
    unit = channels * n * n * LANES * np.dtype(dtype).itemsize
    widest = min(MAX_UNITS, max(16 if channels >= 256 else 4, CHUNK // unit))
    return math.ceil(available / math.ceil(available / widest))  # parts of one size


def _phases(weight: np.ndarray, stride: Pair) -> np.ndarray:
    """(O, C, KH, KW) -> (O, C*phases, r, r): tap (s*i + a, ...) becomes tap (i, ...) of phase a, missing ones 0."""
    if stride == (1, 1):
        return weight
    O, C, KH, KW = weight.shape
    r = -(-KH // stride[0])
    full = np.zeros((O, C, r * stride[0], r * stride[1]), weight.dtype)
    full[:, :, :KH, :KW] = weight
    split = full.reshape(O, C, r, stride[0], r, stride[1]).transpose(0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(split).reshape(O, -1, r, r)


def _from_phases(kernels: np.ndarray, kernel_size: Pair, stride: Pair) -> np.ndarray:
    """The transpose of `_phases`."""
    if stride == (1, 1):
        return kernels
    O, _, r, _ = kernels.shape
    split = kernels.reshape(O, -1, *stride, r, r).transpose(0, 1, 4, 2, 5, 3)
    full = split.reshape(O, -1, r * stride[0], r * stride[1])
    return full[:, :, : kernel_size[0], : kernel_size[1]]
