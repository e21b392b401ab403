import numpy as np

from tinynet.backend.device import as_type
from tinynet.layers import init
from tinynet.layers.parameter import Parameter
from tinynet.layers.precision import WithPrecision
from tinynet.ops.elementwise import add_bias, add_row_sums
from tinynet.ops.matmul import matmul
from tinynet.ops.window import checked_counts


class Linear(WithPrecision):
    """y = x @ weight.T + bias.

    x: (N, in_features), y: (N, out_features), weight: (out_features, in_features), bias: (out_features,).
    backward: dweight = dy.T @ x, dbias = the sum of dy over the batch, dx = dy @ weight.

    Initial values: He's normal for weight (`tinynet.layers.init.he_normal`), 0 for bias. precision: of the three
    products on a GPU, see `tinynet.backend.precision`; "tf32x3" is computed as "fp32", for cuBLAS has no such product.
    Raises ValueError for an unknown precision.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, seed: int = 0, precision: str = "fp32"):
        checked_counts("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.he_normal_parameter(self, (out_features, in_features), seed)
        self.bias = Parameter(np.zeros(out_features, np.float32)) if bias else None
        self.precision = precision

    def forward(self, x):
        self.check_input(x, ("N", self.in_features))
        self.saved = (x,)
        weight = as_type(self.weight.data, x.dtype)
        y = matmul(weight, x.T, precision=self.precision)  # (out_features, N): the batch innermost
        if self.bias is not None:
            add_bias(y, as_type(self.bias.data, x.dtype))
        return y.T

    def backward(self, dy):
        self.backward_weight(dy)
        return self.backward_input(dy) if self.input_grad else None

    def backward_weight(self, dy):
        """Adds dweight and dbias."""
        (x,) = self.saved
        self.check_dy(dy, (x.shape[0], self.out_features))
        self.weight.add_product_to_grad(dy.T, x, self.precision)
        if self.bias is not None:
            add_row_sums(dy.T, self.bias.grad)

    def backward_input(self, dy):
        """dx."""
        (x,) = self.saved
        self.check_dy(dy, (x.shape[0], self.out_features))
        return matmul(as_type(self.weight.data, x.dtype).T, dy.T, precision=self.precision).T

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", self.in_features))
        return (shape[0], self.out_features)

    def macs(self, shape):
        return shape[0] * self.in_features * self.out_features

    def options(self):
        more = ", bias=False" * (self.bias is None) + self.precision_option()
        return f"{self.in_features}, {self.out_features}{more}"
