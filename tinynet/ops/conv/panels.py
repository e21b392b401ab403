"""Convolution as im2col and a matrix product, a panel of columns at a time: the general way of `conv_paths`.

The whole matrix of `im2col` can be 25 times the picture, and writing it to memory and reading it back costs more than
the product. A panel, some of its columns, stays in the second-level cache: filled, multiplied, forgotten. Any stride,
padding, dilation and number of groups. CUDA twin: `kernels/panels.cu`, whose panels lie in shared memory.
"""

from typing import Any

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.threads import kernel, parallel_for
from tinynet.checks import Pair

PANEL = 1 << 19  # bytes
WIDTH = 128, 1024  # columns of a panel, at least and at most; a multiple of 16
GRAIN = 16  # columns of one thread, at the least
Window = tuple[Pair, Pair, Pair, Pair]  # kernel_size, stride, padding, dilation


@kernel
def _fill(x, shape, panel, kernel_size, stride, padding, dilation, OW, first_channel, first, last):
    """panel[(c, kh, kw), :] = columns [first, last) of im2col, counted (oh, ow, n); channels from first_channel on."""
    _, H, W, N = shape
    KH, KW = kernel_size
    line, zero = OW * N, x.dtype.type(0)
    for row in range(panel.shape[0]):
        c, kh, kw = first_channel + row // (KH * KW), row // KW % KH, row % KW
        for oh in range(first // line, (last - 1) // line + 1):
            begin, end = max(first - oh * line, 0), min(last - oh * line, line)  # this part of the line
            to = oh * line - first
            h = oh * stride[0] + kh * dilation[0] - padding[0]
            source = (c * H + h) * W * N
            if not 0 <= h < H:
                for i in range(begin, end):
                    panel[row, to + i] = 0
            elif stride[1] == 1:  # neighbours stay neighbours: one run, with zeros on both sides
                shift = (kw * dilation[1] - padding[1]) * N
                left = min(max(begin, -shift), end)
                right = max(min(end, W * N - shift), left)
                for i in range(begin, left):
                    panel[row, to + i] = 0
                for i in range(left, right):
                    panel[row, to + i] = x[source + shift + i]
                for i in range(right, end):
                    panel[row, to + i] = 0
            else:
                for ow in range(begin // N, (end - 1) // N + 1):
                    w = ow * stride[1] + kw * dilation[1] - padding[1]
                    for i in range(max(begin, ow * N), min(end, ow * N + N)):
                        panel[row, to + i] = x[source + w * N + i - ow * N] if 0 <= w < W else zero


@kernel
def _add_back(panel, dx, shape, kernel_size, stride, padding, dilation, OW, first_channel, first, last):
    """The transpose of `_fill`: each entry of the panel is added to the pixel that it was taken from."""
    _, H, W, N = shape
    KH, KW = kernel_size
    line = OW * N
    for row in range(panel.shape[0]):
        c, kh, kw = first_channel + row // (KH * KW), row // KW % KH, row % KW
        for oh in range(first // line, (last - 1) // line + 1):
            begin, end = max(first - oh * line, 0), min(last - oh * line, line)
            to = oh * line - first
            h = oh * stride[0] + kh * dilation[0] - padding[0]
            target = (c * H + h) * W * N
            if not 0 <= h < H:
                continue
            if stride[1] == 1:
                shift = (kw * dilation[1] - padding[1]) * N
                for i in range(max(begin, -shift), min(end, W * N - shift)):
                    dx[target + shift + i] += panel[row, to + i]
            else:
                for ow in range(begin // N, (end - 1) // N + 1):
                    w = ow * stride[1] + kw * dilation[1] - padding[1]
                    if 0 <= w < W:
                        for i in range(max(begin, ow * N), min(end, ow * N + N)):
                            dx[target + w * N + i - ow * N] += panel[row, to + i]


@kernel
def _finish(y, bias, relu):
    """y += bias, one for each row; then negative values to 0 if relu."""
    zero = y.dtype.type(0)
    for o in range(y.shape[0]):
        more = bias[o] if len(bias) else zero
        for i in range(y.shape[1]):
            value = y[o, i] + more
            # -inf times 0 is NaN, which the next layer reports; plain 0 would hide it
            y[o, i] = value if value > 0 or not relu else value * zero + zero


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    window: Window,
    groups: int,
    bias: np.ndarray | None = None,
    relu: bool = False,
) -> None:
    """y = convolution of x by weight, plus bias; x (C, H, W, N), y (O, OH, OW, N), weight (O, C/groups, KH, KW)."""
    O, K = weight.shape[0] // groups, weight[0].size
    rows = weight.reshape(groups, O, K)
    columns = y.reshape(groups, O, -1)
    own = np.empty(0, x.dtype) if bias is None else bias

    def convolve(start: int, stop: int) -> None:
        for first, last in _panels(K, x.dtype, start, stop):
            for group in range(groups):
                panel = _filled(x, K, window, y.shape[2], group * (x.shape[0] // groups), first, last)
                part = columns[group][:, first:last]
                np.matmul(rows[group], panel, out=part)
                if bias is not None or relu:
                    _finish(part, own[group * O : (group + 1) * O], relu)

    parallel_for(convolve, columns.shape[2], grain=GRAIN)


def weight_gradient(x: np.ndarray, dy: np.ndarray, shape: tuple[int, ...], window: Window, groups: int) -> np.ndarray:
    """dweight, of `shape` (O, C/groups, KH, KW), for dy (O, OH, OW, N)."""
    O, K = shape[0] // groups, shape[1] * shape[2] * shape[3]
    columns = dy.reshape(groups, O, -1)
    sums: dict[int, np.ndarray] = {}  # of each thread, by the first column of its range

    def sum_over(start: int, stop: int) -> None:
        sums[start] = np.zeros((groups, O, K), x.dtype)
        for first, last in _panels(K, x.dtype, start, stop):
            for group in range(groups):
                panel = _filled(x, K, window, dy.shape[2], group * (x.shape[0] // groups), first, last)
                sums[start][group] += columns[group][:, first:last] @ panel.T

    parallel_for(sum_over, columns.shape[2], grain=GRAIN)
    return sum((sums[start] for start in sorted(sums)[1:]), sums[0]).reshape(shape)


def input_gradient(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, window: Window, groups: int) -> None:
    """dx (C, H, W, N) for dy (O, OH, OW, N). Threads share the channels, so that no two add to one pixel."""
    O, taps = weight.shape[0] // groups, weight.shape[2] * weight.shape[3]
    C = weight.shape[1]  # of a group
    rows = weight.reshape(groups, O, C * taps)
    columns = dy.reshape(groups, O, -1)
    dx.fill(0)

    def spread(start: int, stop: int) -> None:
        for group in range(start // C, (stop - 1) // C + 1):
            begin, end = max(start - group * C, 0), min(stop - group * C, C)
            own = rows[group][:, begin * taps : end * taps].T
            for first, last in _panels(len(own), dy.dtype, 0, columns.shape[2]):
                panel = buffers.empty((len(own), last - first), dy.dtype)
                np.matmul(own, columns[group][:, first:last], out=panel)
                _give_back(panel, dx, window, dy.shape[2], group * C + begin, first, last)

    parallel_for(spread, groups * C)


def _panels(rows: int, dtype: Any, start: int, stop: int) -> list[tuple[int, int]]:
    """(first, last) column of each panel in the range."""
    width = PANEL // (rows * np.dtype(dtype).itemsize) // 16 * 16
    width = min(max(width, WIDTH[0]), WIDTH[1])
    return [(first, min(first + width, stop)) for first in range(start, stop, width)]


def _filled(x, rows, window, OW, first_channel, first, last):
    panel = buffers.empty((rows, last - first), x.dtype)
    _fill(x.reshape(-1), x.shape, panel, *window, OW, first_channel, first, last)
    return panel


def _give_back(panel, dx, window, OW, first_channel, first, last):
    _add_back(panel, dx.reshape(-1), dx.shape, *window, OW, first_channel, first, last)
