"""im2col and col2im: convolution as one matrix product.

im2col writes the window under each output position as one column; the kernels, each flattened to a row, times that
matrix are the convolution. col2im is its transpose: it adds every column back to the pixels it was taken from, which is
just what the gradient needs. (Chellapilla, Puri, Simard: High performance convolutional neural networks for document
processing, 2006, section 3.) CUDA twin: `kernels/im2col.cu`.
"""

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.layout import batch_first, batch_last
from tinynet.backend.threads import kernel, parallel_for
from tinynet.checks import Pair, checked_window
from tinynet.layers.windows import window_output


@kernel
def _im2col(x, cols, kernel_size, stride, padding, dilation, start, stop):
    C, H, W, N = x.shape
    KH, KW = kernel_size
    OH, OW = cols.shape[1:3]
    for row in range(start, stop):
        c, kh, kw = row // (KH * KW), row // KW % KH, row % KW
        for oh in range(OH):
            h = oh * stride[0] + kh * dilation[0] - padding[0]
            for ow in range(OW):
                w = ow * stride[1] + kw * dilation[1] - padding[1]
                if 0 <= h < H and 0 <= w < W:
                    for n in range(N):
                        cols[row, oh, ow, n] = x[c, h, w, n]
                else:
                    for n in range(N):
                        cols[row, oh, ow, n] = 0


@kernel
def _col2im(cols, dx, kernel_size, stride, padding, dilation, start, stop):
    C, H, W, N = dx.shape
    KH, KW = kernel_size
    OH, OW = cols.shape[1:3]
    for c in range(start, stop):
        for kh in range(KH):
            for kw in range(KW):
                row = (c * KH + kh) * KW + kw
                for oh in range(OH):
                    h = oh * stride[0] + kh * dilation[0] - padding[0]
                    for ow in range(OW):
                        w = ow * stride[1] + kw * dilation[1] - padding[1]
                        if 0 <= h < H and 0 <= w < W:
                            for n in range(N):
                                dx[c, h, w, n] += cols[row, oh, ow, n]


@with_gpu_twin
def im2col(
    x: np.ndarray,
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> np.ndarray:
    """Every window of x as a column: x (N, C, H, W) -> cols (C*KH*KW, OH*OW*N).

    Row (c, kh, kw) and column (oh, ow, n) hold x[n, c, oh*stride - padding + kh*dilation, ow*stride - padding +
    kw*dilation], zero outside the picture: c, kh, kw as in a flattened kernel, and the pictures of the batch side by
    side (the order of Stanford's cs231n; PyTorch's `unfold` is cols.reshape(-1, OH*OW, N).transpose(2, 0, 1)).
    OH = (H + 2*padding - dilation*(KH - 1) - 1) // stride + 1, and likewise OW.

    Raises ValueError if x has not four axes, a size is no whole number or the window does not fit into the padded
    picture.
    """
    window = checked_window("im2col", kernel_size, stride, padding, dilation)
    _check_array("im2col", "x", x, 4)
    N, C, H, W = x.shape
    OH, OW = window_output("im2col", (H, W), *window)
    rows = C * window[0][0] * window[0][1]
    cols = buffers.empty((rows, OH, OW, N), x.dtype)
    parallel_for(_im2col, rows, batch_last(x), cols, *window)
    return cols.reshape(rows, OH * OW * N)


@with_gpu_twin
def col2im(
    cols: np.ndarray,
    shape: tuple[int, int, int, int],
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> np.ndarray:
    """The transpose of `im2col`: cols (C*KH*KW, OH*OW*N) -> dx of `shape` (N, C, H, W).

    dx[n, c, h, w] is the sum of all entries of cols that im2col copied from x[n, c, h, w]: sum(im2col(x) * cols) =
    sum(x * col2im(cols)). A pixel in k windows gets k terms, a border pixel in no window 0; what fell on padding is
    lost.

    Raises ValueError if a size is no whole number or cols has not the shape that im2col gives for `shape`.
    """
    window = checked_window("col2im", kernel_size, stride, padding, dilation)
    _check_array("col2im", "cols", cols, 2)
    if len(shape) != 4:
        raise ValueError(f"col2im: expected a shape (N, C, H, W), got {shape}")
    N, C, H, W = shape
    OH, OW = window_output("col2im", (H, W), *window)
    rows = C * window[0][0] * window[0][1]
    if cols.shape != (rows, OH * OW * N):
        raise ValueError(
            f"col2im: expected cols of shape {(rows, OH * OW * N)} for a picture {shape}, got {cols.shape}"
        )
    dx = buffers.zeros((C, H, W, N), cols.dtype)
    cols = np.ascontiguousarray(cols).reshape(rows, OH, OW, N)
    parallel_for(_col2im, C, cols, dx, *window)
    return batch_first(dx)


def _check_array(layer: str, name: str, array: np.ndarray, ndim: int) -> None:
    if not isinstance(array, np.ndarray) or array.ndim != ndim:
        raise ValueError(f"{layer}: expected {name} as an array of {ndim} axes, got {np.shape(array)}")
    if array.dtype.kind not in "fiu" or array.dtype == np.float16:
        raise TypeError(f"{layer}: expected {name} of whole numbers, float32 or float64, got {array.dtype}")
