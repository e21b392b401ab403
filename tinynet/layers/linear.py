import numpy as np

from tinynet import init
from tinynet.device import as_type
from tinynet.layers.base import Layer, Parameter
from tinynet.ops.elementwise import add_bias, add_row_sums
from tinynet.ops.matmul import matmul
from tinynet.ops.window import checked_counts


class Linear(Layer):
    """y = x @ weight.T + bias.

    x: (N, in_features), y: (N, out_features), weight: (out_features, in_features), bias: (out_features,).
    backward: dweight = dy.T @ x, dbias = the sum of dy over the batch, dx = dy @ weight.

    Initial values: He's normal for weight (`tinynet.init.he_normal`), 0 for bias.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, seed: int = 0):
        checked_counts("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.he_normal_parameter(self, (out_features, in_features), seed)
        self.bias = Parameter(np.zeros(out_features, np.float32)) if bias else None

    def forward(self, x):
        self.check_input(x, ("N", self.in_features))
        self.saved = (x,)
        y = matmul(as_type(self.weight.data, x.dtype), x.T)  # (out_features, N): the batch innermost
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
        self.weight.add_product_to_grad(dy.T, x)
        if self.bias is not None:
            add_row_sums(dy.T, self.bias.grad)

    def backward_input(self, dy):
        """dx."""
        (x,) = self.saved
        self.check_dy(dy, (x.shape[0], self.out_features))
        return matmul(as_type(self.weight.data, x.dtype).T, dy.T).T

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", self.in_features))
        return (shape[0], self.out_features)

    def macs(self, shape):
        return shape[0] * self.in_features * self.out_features

    def options(self):
        return f"{self.in_features}, {self.out_features}" + ", bias=False" * (self.bias is None)
