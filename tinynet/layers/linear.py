import numpy as np

from tinynet.checks import checked_counts
from tinynet.layers import init
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter


class Linear(Layer):
    """y = x @ weight.T + bias.

    x: (N, in_features), y: (N, out_features), weight: (out_features, in_features), bias: (out_features,).
    backward: dweight = dy.T @ x, dbias = the sum of dy over the batch, dx = dy @ weight.

    Initial values: He's normal for weight (`tinynet.layers.init.he_normal`), 0 for bias. Raises ValueError for a number
    of features that is no whole number of at least 1.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, seed: int = 0):
        self.in_features, self.out_features = checked_counts(
            "Linear", in_features=in_features, out_features=out_features
        )
        self.weight = init.he_normal_parameter(self, (self.out_features, self.in_features), seed)
        self.bias = Parameter(np.zeros(self.out_features, np.float32)) if bias else None

    def forward(self, x):
        self.check_input(x, ("N", self.in_features))
        self.saved = (x,)
        y = x @ self.weight.of_type(x.dtype).T
        return y if self.bias is None else y + self.bias.of_type(x.dtype)

    def backward(self, dy):
        (x,) = self.saved
        self.check_dy(dy, (x.shape[0], self.out_features))
        self.weight.grad += dy.T @ x
        if self.bias is not None:
            self.bias.grad += dy.sum(axis=0)
        return dy @ self.weight.of_type(x.dtype)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", self.in_features))
        return (shape[0], self.out_features)

    def macs(self, shape):
        return shape[0] * self.in_features * self.out_features

    def options(self):
        return f"{self.in_features}, {self.out_features}" + ", bias=False" * (self.bias is None)
