"""Convolution by Winograd's algorithm, tile by tile, and its gradients: one of the ways of `tinynet.ops.conv.choose`.

One tile of m x m outputs reads n x n inputs, n = m + r - 1. Per tile, and all pictures of the batch side by side:

    gather     V = B^T d B          n*n values for each input channel
    multiply   M_p = U_p V_p        for each of the n*n points p one matrix product over the channels, U = G g G^T
    scatter    Y = A^T M A          m*m outputs for each output channel; bias and ReLU on the way

The input's gradient is the convolution of dy with the kernels turned round. The kernels' gradient is the transpose
of the three maps: dU_p = (A dy A^T)_p V_p^T, summed over the tiles, and dg = G^T dU G.

A stride of s is s*s convolutions of stride 1: pixel (s*h + a, s*w + b) of x is pixel (h, w) of its phase (a, b), and
the phases count as channels. A few tiles are done at a time, so that V and M stay in the cache. See `cook_toom` for the
matrices, `winograd_loops` for the loops. All (tile, picture) pairs stand in a row, tile by tile; LANES of them are a
`unit`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.threads import parallel_for
from tinynet.checks import Pair
from tinynet.ops.conv.vectors import LANES
from tinynet.ops.conv.winograd_loops import (
    gather_dy,
    gather_inputs,
    multiply_few,
    scatter,
    transform_gradient,
    transform_kernels,
)
from tinynet.ops.elementwise import same_bits

SPARE = 16  # values between the points' matrices: at equal distances of 2**k they would meet in one cache set
CHUNK = 1 << 22  # bytes of V and M that one thread works on at a time
MAX_UNITS = 64  # in a chunk
FEW_UNITS = 4  # for which our own product is faster than BLAS, which first copies U
GRAIN = 1  # units of one thread, at the least
FEW_POINTS = 8  # whose products are added to a sum while they are in the cache
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
    kept: "KeptKernels | None" = None,
) -> None:
    """y = convolution of x by weight, plus bias, by F(m, r) tiles; x (C, H, W, N), y (O, OH, OW, N), weight (O,
    C/groups, KH, KW), r = ceil(KH / stride). `kept` spares U's computation while the weight stays the same."""
    tiles = -(-y.shape[1] // m), -(-y.shape[2] // m)
    reads, writes = Grid(x.shape, stride, padding, tiles), Grid(y.shape, (1, 1), (0, 0), tiles)
    U = _transformed(_phases(weight, stride), m) if kept is None else kept.of(weight, m, stride)
    _correlate(x, reads, U, y, writes, m, groups, bias, relu)


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
    _correlate(dy, reads, _transformed(turned, m), dx, writes, m, groups)


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, m: int, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    """dweight of `forward`, (O, C/groups, KH, KW)."""
    tiles = -(-dy.shape[1] // m), -(-dy.shape[2] // m)
    reads_x, reads_dy = Grid(x.shape, stride, padding, tiles), Grid(dy.shape, (1, 1), (0, 0), tiles)
    r = -(-kernel_size[0] // stride[0])
    n = m + r - 1
    K, O = reads_x.arguments(0, groups)[-1], dy.shape[0] // groups
    gather_x, gather_y = gather_inputs(m, r), gather_dy(m, r)
    sums: dict[int, _Points] = {}  # of each thread, by the first unit of its range

    def sum_over(start: int, stop: int) -> None:
        width = _chunk(K + O, n, x.dtype, stop - start)
        V, dM = _Points(n, K, width, x.dtype), _Points(n, O, width, x.dtype)
        total, part = _Points(n, O * groups, 1, x.dtype, K), buffers.empty((FEW_POINTS, O, K), x.dtype)
        for first in range(start, stop, width):
            last = min(first + width, stop)
            for group in range(groups):
                gather_x(x.reshape(-1), *reads_x.arguments(group, groups), V.flat, V.step, first, last)
                gather_y(dy.reshape(-1), *reads_dy.arguments(group, groups), dM.flat, dM.step, first, last)
                sums_of = total.matrices()[:, group * O : (group + 1) * O]
                left, right = dM.matrices(last - first), V.matrices(last - first).swapaxes(1, 2)
                if first == start:
                    np.matmul(left, right, out=sums_of)
                    continue
                for p in range(0, n * n, FEW_POINTS):
                    few = slice(p, min(p + FEW_POINTS, n * n))
                    sums_of[few] += np.matmul(left[few], right[few], out=part[: few.stop - p])
        sums[start] = total

    parallel_for(sum_over, reads_x.units(), grain=GRAIN)
    dU, *others = (sums[start] for start in sorted(sums))
    for other in others:
        parallel_for(_add, n * n, dU.matrices(), other.matrices())
    dweight = np.empty((O * groups, K, r, r), x.dtype)
    parallel_for(transform_gradient(m, r), len(dweight), dU.flat, dU.step, dweight)
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


class KeptKernels:
    """U of a layer's weight, from one call to the next. The weight is an array that anybody may write into, so it is
    compared with a copy each time: a tenth of the work of computing U."""

    def __init__(self) -> None:
        self.last: tuple[int, Pair, np.ndarray, _Points] | None = None

    def of(self, weight: np.ndarray, m: int, stride: Pair) -> "_Points":
        last = self.last  # read and written as one: several threads may ask, and Ctrl-C may come at any moment
        if last is None or last[:2] != (m, stride) or not same_bits(weight, last[2]):
            last = self.last = m, stride, weight.copy(), _transformed(_phases(weight, stride), m)
        return last[3]


def _transformed(kernels: np.ndarray, m: int) -> "_Points":
    """U of kernels (O, K, r, r)."""
    O, K, r, _ = kernels.shape
    n = m + r - 1
    U = _Points(n, O, 1, kernels.dtype, K)
    grain = -(-WORTH_A_THREAD // (n * n * K))
    parallel_for(transform_kernels(m, r), O, kernels, U.flat, U.step, grain=grain)
    return U


def _correlate(x, reads, U, y, writes, m, groups, bias=None, relu=False):
    n, O, K = U.n, U.rows // groups, U.columns
    r = n - m + 1
    gather, multiply, write = gather_inputs(m, r), multiply_few(), scatter(m, r)
    bias = np.empty(0, x.dtype) if bias is None else bias

    def convolve(start: int, stop: int) -> None:
        width = _chunk(K + O, n, x.dtype, stop - start)
        V, M = _Points(n, K, width, x.dtype), _Points(n, O, width, x.dtype)
        for first in range(start, stop, width):
            last = min(first + width, stop)
            for group in range(groups):
                gather(x.reshape(-1), *reads.arguments(group, groups), V.flat, V.step, first, last)
                if last - first <= FEW_UNITS:
                    first_of_U = group * O * K
                    multiply(U.flat, first_of_U, U.step, V.flat, V.step, M.flat, M.step, n * n, O, K, last - first)
                else:
                    of_group = U.matrices()[:, group * O : (group + 1) * O]
                    np.matmul(of_group, V.matrices(last - first), out=M.matrices(last - first))
                grid = writes.arguments(group, groups)
                write(M.flat, M.step, y.reshape(-1), *grid, bias, relu, first, last)

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
