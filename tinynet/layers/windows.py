"""Sliding windows in array code: im2col and its transpose, padding, sums over neighbouring channels.

im2col writes the window under each output position as one column; the kernels, each flattened to a row, times that
matrix are the convolution. col2im is its transpose: it adds every column back to the pixels it was taken from, which is
just what the gradient needs. (Chellapilla, Puri, Simard: High performance convolutional neural networks for document
processing, 2006, section 3.)

A *tap* (kh, kw) is one place in the window. The pixels under tap (kh, kw), for all windows at once, are a slice of the
padded picture with the stride as its step. So the loops below run over taps and not over pixels.
"""

from collections.abc import Iterator

import numpy as np

from tinynet.checks import Pair, checked_array, checked_window, window_output


def taps(
    output: Pair, kernel_size: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> Iterator[tuple[int, int, slice, slice]]:
    """(kh, kw, rows, columns) for each tap: padded[:, :, rows, columns] are the pixels under it, (N, C, *output)."""
    for kh in range(kernel_size[0]):
        for kw in range(kernel_size[1]):
            top, left = kh * dilation[0], kw * dilation[1]
            rows = slice(top, top + (output[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (output[1] - 1) * stride[1] + 1, stride[1])
            yield kh, kw, rows, columns


def padded(x, output: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), value=0):
    """x (N, C, H, W) with `padding` rows and columns of `value` around it, and so many more at the bottom and right
    that every window lies inside."""
    sides = [(0, 0), (0, 0)]
    for axis in (0, 1):
        reach = (output[axis] - 1) * stride[axis] + dilation[axis] * (kernel_size[axis] - 1) + 1
        more = reach - padding[axis] - x.shape[2 + axis]
        sides.append((padding[axis], max(padding[axis], more)))
    return np.pad(x, sides, constant_values=value)


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """Every window of x as a column: x (N, C, H, W) -> cols (C*KH*KW, OH*OW*N).

    Row (c, kh, kw) and column (oh, ow, n) hold x[n, c, oh*stride - padding + kh*dilation, ow*stride - padding +
    kw*dilation], zero outside the picture: c, kh, kw as in a flattened kernel, and the pictures of the batch side by
    side (the order of Stanford's cs231n; PyTorch's `unfold` is cols.reshape(-1, OH*OW, N).transpose(2, 0, 1)).
    OH = (H + 2*padding - dilation*(KH - 1) - 1) // stride + 1, and likewise OW.

    Raises ValueError if x has not four axes, a size is no whole number or the window does not fit into the padded
    picture, TypeError for a dtype that is not of whole numbers, float32 or float64.
    """
    kernel_size, stride, padding, dilation = checked_window("im2col", kernel_size, stride, padding, dilation)
    checked_array("im2col", "x", x, 4)
    N, C, H, W = x.shape
    output = window_output("im2col", (H, W), kernel_size, stride, padding, dilation)
    pictures = padded(x, output, kernel_size, stride, padding, dilation)
    cols = np.zeros_like(x, shape=(C, *kernel_size, *output, N))
    for kh, kw, rows, columns in taps(output, kernel_size, stride, dilation):
        cols[:, kh, kw] = pictures[:, :, rows, columns].transpose(1, 2, 3, 0)
    return cols.reshape(C * kernel_size[0] * kernel_size[1], -1)


def col2im(cols, shape, kernel_size, stride=1, padding=0, dilation=1):
    """The transpose of `im2col`: cols (C*KH*KW, OH*OW*N) -> dx of `shape` (N, C, H, W).

    dx[n, c, h, w] is the sum of all entries of cols that im2col copied from x[n, c, h, w]: sum(im2col(x) * cols) =
    sum(x * col2im(cols)). A pixel in k windows gets k terms, a border pixel in no window 0; what fell on padding is
    lost.

    Raises ValueError if a size is no whole number or cols has not the shape that im2col gives for `shape`.
    """
    kernel_size, stride, padding, dilation = checked_window("col2im", kernel_size, stride, padding, dilation)
    checked_array("col2im", "cols", cols, 2)
    if len(shape) != 4:
        raise ValueError(f"col2im: expected a shape (N, C, H, W), got {shape}")
    N, C, H, W = shape
    OH, OW = window_output("col2im", (H, W), kernel_size, stride, padding, dilation)
    expected = C * kernel_size[0] * kernel_size[1], OH * OW * N
    if cols.shape != expected:
        raise ValueError(f"col2im: expected cols of shape {expected} for a picture {shape}, got {cols.shape}")
    cols = cols.reshape(C, *kernel_size, OH, OW, N)
    dx = np.zeros_like(cols, shape=(N, C, H + 2 * padding[0], W + 2 * padding[1]))
    for kh, kw, rows, columns in taps((OH, OW), kernel_size, stride, dilation):
        dx[:, :, rows, columns] += cols[:, kh, kw].transpose(3, 0, 1, 2)
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]


def channel_window_sum(x, size: int, groups: int = 1):
    """total[n, c] = the sum of x[n, j] for the `size` channels j around c, cut at the ends of c's group; all
    (N, C, H, W)."""
    N, C, H, W = x.shape
    x = x.reshape(N, groups, C // groups, H, W)
    total = x.copy()
    for distance in range(1, min(size // 2, C // groups - 1) + 1):
        total[:, :, distance:] += x[:, :, :-distance]
        total[:, :, :-distance] += x[:, :, distance:]
    return total.reshape(N, C, H, W)
