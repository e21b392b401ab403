"""im2col and col2im on a GPU: launches of kernels/im2col.cu. CPU twin: tinynet/ops/im2col.py."""

from typing import Any

from tinynet.backend.launch import launch
from tinynet.backend.layout import batch_first, batch_last
from tinynet.checks import Pair, checked_window
from tinynet.layers.windows import window_output
from tinynet.ops.gpu import THREADS, blocks, same_place, t, window_numbers

Sizes = int | Pair


def im2col(x: Any, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1) -> Any:
    x = batch_last(x)
    kernel_size, stride, padding, dilation = checked_window("im2col", kernel_size, stride, padding, dilation)
    output = window_output("im2col", x.shape[1:3], kernel_size, stride, padding, dilation)
    cols = same_place(x, (len(x), *kernel_size, *output, x.shape[3]))
    _launch("im2col", cols.size, (kernel_size, stride, padding, dilation), x=x, cols=cols)
    return cols.reshape(len(x) * kernel_size[0] * kernel_size[1], -1)


def col2im(
    cols: Any, shape: tuple[int, ...], kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1
) -> Any:
    N, C, H, W = shape
    kernel_size, stride, padding, dilation = checked_window("col2im", kernel_size, stride, padding, dilation)
    output = window_output("col2im", (H, W), kernel_size, stride, padding, dilation)
    dx = same_place(cols, (C, H, W, N))
    cols = cols.reshape(C, *kernel_size, *output, N)
    _launch("col2im", dx.size, (kernel_size, stride, padding, dilation), cols=cols, dx=dx)
    return batch_first(dx)


def _launch(name, count, window, **arrays):
    T = t(next(iter(arrays.values())))
    launch("im2col", f"{name}<{T}>", (blocks(count),), (THREADS,), **arrays, **window_numbers(*window))
