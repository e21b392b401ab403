import numpy as np

from tinynet.backend.device import as_type
from tinynet.backend.layout import batch_last
from tinynet.layers import init
from tinynet.layers.parameter import Parameter
from tinynet.layers.precision import WithPrecision
from tinynet.ops import elementwise
from tinynet.ops.conv import choose
from tinynet.ops.conv.winograd import KeptKernels
from tinynet.ops.im2col import col2im, im2col
from tinynet.ops.matmul import matmul
from tinynet.ops.window import Pair, checked_counts, checked_window, window_output


class Conv2d(WithPrecision):
    """y[n, o, oh, ow] = bias[o] + sum over c, kh, kw of weight[o, c, kh, kw] * x[n, c, h, w],
    h = oh*stride - padding + kh*dilation, w likewise; x is zero outside the picture.

    x: (N, C, H, W), y: (N, O, OH, OW), weight: (O, C/groups, KH, KW), bias: (O,);
    OH = (H + 2*padding - dilation*(KH - 1) - 1) // stride + 1. With groups=G the channels fall into G parts and output
    part g reads input part g alone: the two towers of Krizhevsky et al. 2012, section 3.2.

    By im2col it is one matrix product a group: y = weight @ cols + bias. So backward is that of a product, dweight =
    dy @ cols.T, dcols = weight.T @ dy, dbias = the sum of dy over pictures and pixels, and dx = col2im(dcols).

    That is what `algorithm="im2col"` computes, line by line below. The default, "auto", takes a faster way to the same
    numbers, up to rounding: "panels", the same product some columns at a time, or "winograd" (Lavin and Gray 2016),
    which takes fewer multiplications. `path` tells which; each name forces its way. See `tinynet.ops.conv.choose`.
    precision: of the products on a GPU, forward and backward; see `tinynet.backend.precision`.

    Every size is a whole number or a pair (h, w). Initial values: He's normal for weight
    (`tinynet.layers.init.he_normal`), 0 for bias. Raises ValueError if groups does not divide both numbers of channels,
    the kernel does not fit, or the algorithm or the precision is unknown, or the algorithm "winograd" for a kernel that
    it cannot do.
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
        algorithm: str = "auto",
        precision: str = "fp32",
    ):
        self.window = checked_window("Conv2d", kernel_size, stride, padding, dilation)
        checked_counts("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: expected groups to divide in_channels and out_channels; got groups={groups}, "
                f"in_channels={in_channels}, out_channels={out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.weight = init.he_normal_parameter(self, (out_channels, in_channels // groups, *self.window[0]), seed)
        self.bias = Parameter(np.zeros(out_channels, np.float32)) if bias else None
        self._kept: KeptKernels | None = None  # in evaluation mode, where weights stay as they are
        self._algorithm = "auto"
        self.algorithm, self.precision = algorithm, precision

    def forward(self, x, relu=False):
        """y, or with relu=True max(y, 0), which costs nothing while y is in the cache."""
        self.check_input(x)
        N, O, OH, OW = self.output_shape(x.shape)
        self.saved = (x,)
        weight = as_type(self.weight.data, x.dtype)
        bias = None if self.bias is None else as_type(self.bias.data, x.dtype)
        if self.training:
            self._kept = None
        elif self._kept is None:
            self._kept = KeptKernels()
        if (path := self.path(x.shape)) != "im2col":
            how = self._kept, self.precision
            return choose.forward(path, x, weight, bias, (OH, OW), self.window, self.groups, relu, *how)
        cols = im2col(x, *self.window).reshape(self.groups, -1, OH * OW * N)
        y = matmul(self._rows(weight), cols, precision=self.precision)  # (G, O/G, OH*OW*N)
        if bias is not None:
            elementwise.add_bias(y.reshape(O, -1), bias)
        y = y.reshape(O, OH, OW, N).transpose(3, 0, 1, 2)
        return elementwise.relu(y)[0] if relu else y

    def backward(self, dy):
        self.backward_weight(dy)
        return self.backward_input(dy) if self.input_grad else None

    def backward_weight(self, dy):
        """Adds dweight and dbias."""
        x, dy, weight = self._of_one_dtype(dy)
        if self.bias is not None:
            self.bias.add_to_grad(choose.bias_gradient(dy))
        if (path := self.path(x.shape)) != "im2col":
            how = self.window, self.groups, self.precision
            dweight = choose.weight_gradient(path, x, dy, weight.shape, *how)
        else:
            dy_rows = batch_last(dy).reshape(self.groups, self.out_channels // self.groups, -1)
            cols = im2col(x, *self.window).reshape(self.groups, -1, dy_rows.shape[2])  # cheaper to make than to keep
            dweight = matmul(dy_rows, cols.transpose(0, 2, 1), precision=self.precision).reshape(weight.shape)
        self.weight.add_to_grad(dweight)

    def backward_input(self, dy):
        """dx."""
        x, dy, weight = self._of_one_dtype(dy)
        if (path := self.path(x.shape)) != "im2col":
            how = self.window, self.groups, self.precision
            return choose.input_gradient(path, dy, weight, x.shape, *how)
        dy_rows = batch_last(dy).reshape(self.groups, self.out_channels // self.groups, -1)
        dcols = matmul(self._rows(weight).transpose(0, 2, 1), dy_rows, precision=self.precision)
        return col2im(dcols.reshape(-1, dy_rows.shape[2]), x.shape, *self.window)

    def _of_one_dtype(self, dy):
        """x, dy and weight."""
        (x,) = self.saved
        self.check_dy(dy, self.output_shape(x.shape))
        dtype = np.result_type(x.dtype, dy.dtype)
        return [as_type(array, dtype) for array in (x, dy, self.weight.data)]

    def _rows(self, weight):
        """(G, O/G, C/G*KH*KW): each output channel's kernels as one row."""
        return weight.reshape(self.groups, self.out_channels // self.groups, -1)

    @property
    def algorithm(self) -> str:
        return self._algorithm

    @algorithm.setter
    def algorithm(self, algorithm: str) -> None:
        if algorithm not in choose.ALGORITHMS:
            raise ValueError(f"{self}: expected an algorithm out of {choose.ALGORITHMS}, got {algorithm!r}")
        if algorithm == "winograd" and not choose.tile((1, 1, 1, 1), self.weight.shape, self.window):
            raise ValueError(
                f"{self}: expected for algorithm='winograd' a kernel of 2 to 7 rows and as many columns, each divided "
                f"by its stride and rounded up, without dilation; got {self.options()}"
            )
        self._algorithm = algorithm

    def path(self, shape: tuple[int, ...]) -> str:
        """The algorithm that runs for an x of `shape`, (N, C, H, W): "winograd", "panels" or "im2col"; on a GPU
        "panels" stands for "winograd" too."""
        if self.algorithm == "im2col":
            return "im2col"
        if self.device != "cpu":
            return "panels"
        if self.algorithm != "auto":
            return self.algorithm
        return choose.choose(shape, self.output_shape(shape), self.weight.shape, self.window, not self.training)

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
        more += f", algorithm={self.algorithm!r}" * (self.algorithm != "auto") + self.precision_option()
        return f"{self.in_channels}, {self.out_channels}, {kernel_size}, stride={stride}, padding={padding}{more}"
