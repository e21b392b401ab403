import numpy as np

from tinynet.layers.layer import Layer


class ReLU(Layer):
    """y = max(x, 0), element by element; x, y of any shape.

    backward: dx = dy where x > 0, else 0; at 0, where there is no derivative, 0 is taken. (Nair and Hinton 2010;
    Krizhevsky et al. 2012, section 3.1.)
    """

    def forward(self, x):
        self.check_input(x)
        y = np.maximum(x, 0)
        self.saved = (y,)  # y > 0 just where x > 0; and y is the next layer's x, so keeping it costs no memory
        return y

    def backward(self, dy):
        (y,) = self.saved
        self.check_dy(dy, y.shape)
        return np.where(y > 0, dy, 0)

    def output_shape(self, shape):
        return shape
