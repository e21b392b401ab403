import numpy as np

from tinynet.checks import Pair, checked_channels, checked_window
from tinynet.layers import init
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter
from tinynet.layers.windows import col2im, im2col, window_output


class Conv2d(Layer):
    """y[n, o, oh, ow] = bias[o] + sum over c, kh, kw of weight[o, c, kh, kw] * x[n, c, h, w],
    h = oh*stride - padding + kh*dilation, w likewise; x is zero outside the picture.

    x: (N, C, H, W), y: (N, O, OH, OW), weight: (O, C/groups, KH, KW), bias: (O,);
    OH = (H + 2*padding - dilation*(KH - 1) - 1) // stride + 1. With groups=G the channels fall into G parts and output
    part g reads input part g alone: the two towers of Krizhevsky et al. 2012, section 3.2.

    By im2col (`tinynet.layers.windows`) it is one matrix product a group: y = rows @ cols + bias, where a row is one
    kernel and a column one window. So backward is that of a product: dweight = dy @ cols.T, dbias = the sum of dy over
    pictures and pixels, dcols = rows.T @ dy, and dx = col2im(dcols).

    Every size is a whole number or a pair (h, w). Initial values: He's normal for weight
    (`tinynet.layers.init.he_normal`), 0 for bias. Raises ValueError if groups does not divide both numbers of channels
    or the kernel does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        seed: int = 0,
    ):
        self.window = checked_window("Conv2d", kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels, self.groups = checked_channels("Conv2d", in_channels, out_channels, groups)
        shape = (self.out_channels, self.in_channels // self.groups, *self.window[0])
        self.weight = init.he_normal_parameter(self, shape, seed)
        self.bias = Parameter(np.zeros(self.out_channels, np.float32)) if bias else None

    def forward(self, x):
        self.check_input(x)
        N, O, OH, OW = self.output_shape(x.shape)
        self.saved = (x,)
        cols = im2col(x, *self.window).reshape(self.groups, -1, OH * OW * N)
        y = (self.rows(x.dtype) @ cols).reshape(O, OH, OW, N)  # (G, O/G, C/G*KH*KW) @ (G, C/G*KH*KW, OH*OW*N)
        if self.bias is not None:
            y += self.bias.of_type(x.dtype).reshape(O, 1, 1, 1)
        return y.transpose(3, 0, 1, 2)

    def backward(self, dy):
        (x,) = self.saved
        self.check_dy(dy, self.output_shape(x.shape))
        N, O, OH, OW = dy.shape
        cols = im2col(x, *self.window).reshape(self.groups, -1, OH * OW * N)  # made anew: cheaper than to keep
        dy_rows = dy.transpose(1, 2, 3, 0).reshape(self.groups, O // self.groups, OH * OW * N)
        self.weight.grad += (dy_rows @ cols.transpose(0, 2, 1)).reshape(self.weight.shape)
        if self.bias is not None:
            self.bias.grad += dy.sum(axis=(0, 2, 3))
        dcols = self.rows(x.dtype).transpose(0, 2, 1) @ dy_rows
        return col2im(dcols.reshape(-1, OH * OW * N), x.shape, *self.window)

    def rows(self, dtype):
        """(G, O/G, C/G*KH*KW): each output channel's kernels as one row."""
        return self.weight.of_type(dtype).reshape(self.groups, self.out_channels // self.groups, -1)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", self.in_channels, "H", "W"))
        return (shape[0], self.out_channels, *window_output(str(self), shape[2:], *self.window))

    def macs(self, shape):
        N, O, OH, OW = self.output_shape(shape)
        return N * OH * OW * self.weight.size

    def options(self):
        kernel_size, stride, padding, dilation = self.window
        more = f", dilation={dilation}" * (dilation != (1, 1)) + f", groups={self.groups}" * (self.groups != 1)
        more += ", bias=False" * (self.bias is None)
        return f"{self.in_channels}, {self.out_channels}, {kernel_size}, stride={stride}, padding={padding}{more}"
