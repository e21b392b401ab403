from tinynet.layers.layer import Layer
from tinynet.ops.max_pool import max_pool, max_pool_backward, max_pool_forward
from tinynet.ops.window import Pair, checked_pair, window_output


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
        kernel_size = checked_pair("MaxPool", "kernel_size", kernel_size, 1)
        stride = kernel_size if stride is None else checked_pair("MaxPool", "stride", stride, 1)
        padding = checked_pair("MaxPool", "padding", padding, 0)
        if any(2 * p > k for p, k in zip(padding, kernel_size, strict=True)):
            raise ValueError(f"MaxPool: expected padding of at most half of kernel_size {kernel_size}, got {padding}")
        self.window = kernel_size, stride, padding, (1, 1)
        self.ceil_mode = ceil_mode

    def forward(self, x):
        self.check_input(x)
        output = self.output_shape(x.shape)[2:]
        if not self.training:
            self.saved = x.shape, None, x
            return max_pool(x, output, *self.window[:3])
        y, place = max_pool_forward(x, output, *self.window[:3])
        self.saved = x.shape, place, None
        return y

    def backward(self, dy):
        shape, place, x = self.saved
        output = self.output_shape(shape)
        self.check_dy(dy, output)
        if place is None:  # forward ran in evaluation mode, where nobody but a picture of the gradient asks for it
            place = max_pool_forward(x, output[2:], *self.window[:3])[1]
        return max_pool_backward(dy, place, shape[2:], *self.window[:3])

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "C", "H", "W"))
        OH, OW = window_output(str(self), shape[2:], *self.window, self.ceil_mode)  # type: ignore[call-arg]
        return (*shape[:2], OH, OW)

    def options(self):
        kernel_size, stride, padding, _ = self.window
        return f"{kernel_size}, stride={stride}, padding={padding}" + ", ceil_mode=True" * self.ceil_mode
