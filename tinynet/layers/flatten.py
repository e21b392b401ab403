import math

from tinynet.layers.layer import Layer


class Flatten(Layer):
    """y = x with all axes but the first as one: (N, C, H, W) -> (N, C*H*W); backward puts dy back into x's shape.

    Both are views: nothing is copied.
    """

    def forward(self, x):
        self.check_input(x)
        self.saved = (x.shape,)
        return x.reshape(self.output_shape(x.shape))

    def backward(self, dy):
        (shape,) = self.saved
        self.check_dy(dy, self.output_shape(shape))
        return dy.reshape(shape)

    def output_shape(self, shape):
        return (shape[0], math.prod(shape[1:]))
