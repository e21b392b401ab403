import numpy as np

from tinynet.checks import Pair, checked_pool_window
from tinynet.layers.layer import Layer
from tinynet.layers.windows import padded, taps, window_output


class MaxPool(Layer):
    """y[n, c, oh, ow] = max of x[n, c] over a window of `kernel_size` at (oh, ow) * stride - padding.

    x: (N, C, H, W), y: (N, C, OH, OW), OH = (H + 2*padding - KH) // stride + 1; ceil_mode rounds up instead, so that
    the last window may hang over the edge. Padding never wins: it counts as minus infinity. stride=None takes
    kernel_size; a stride below kernel_size makes windows overlap (Krizhevsky et al. 2012, section 3.4).

    backward: dy goes to the pixel that was the maximum, to the first one among equals; where windows overlap, a pixel
    may be the maximum of several and gets the sum.

    Raises ValueError if padding is more than half of kernel_size (a window could lie in padding alone).
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
    ):
        self.window = checked_pool_window("MaxPool", kernel_size, stride, padding)
        self.ceil_mode = ceil_mode

    def forward(self, x):
        self.check_input(x)
        shape = self.output_shape(x.shape)
        (KH, KW), stride, padding, _ = self.window
        pictures = padded(x, shape[2:], (KH, KW), stride, padding, value=-np.inf)
        y = np.full_like(x, -np.inf, shape=shape)
        place = np.zeros_like(x, shape=shape, dtype=np.int32)  # which kh*KW + kw of its window each maximum was
        for kh, kw, rows, columns in taps(shape[2:], (KH, KW), stride):
            value = pictures[:, :, rows, columns]
            wins = value > y  # not >=: the first among equals stays
            place = np.where(wins, kh * KW + kw, place)
            y = np.maximum(y, value)
        self.saved = x.shape, place
        return y

    def backward(self, dy):
        (N, C, H, W), place = self.saved
        shape = self.output_shape((N, C, H, W))
        self.check_dy(dy, shape)
        (KH, KW), stride, padding, _ = self.window
        dx = padded(np.zeros_like(dy, shape=(N, C, H, W)), shape[2:], (KH, KW), stride, padding)
        for kh, kw, rows, columns in taps(shape[2:], (KH, KW), stride):
            dx[:, :, rows, columns] += np.where(place == kh * KW + kw, dy, 0)
        return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "C", "H", "W"))
        kernel_size, stride, padding, dilation = self.window
        return (
            *shape[:2],
            *window_output(str(self), shape[2:], kernel_size, stride, padding, dilation, self.ceil_mode),
        )

    def options(self):
        kernel_size, stride, padding, _ = self.window
        return f"{kernel_size}, stride={stride}, padding={padding}" + ", ceil_mode=True" * self.ceil_mode
