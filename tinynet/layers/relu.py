from tinynet.layers.layer import Layer
from tinynet.ops.elementwise import relu, relu_backward


class ReLU(Layer):
    """y = max(x, 0), element by element; x, y of any shape.

    dx = dy where x > 0, else 0: at 0, where there is no derivative, 0 is taken. (Nair and Hinton 2010; Krizhevsky et
    al. 2012, section 3.1.)
    """

    def forward(self, x):
        self.check_input(x, finite=False)
        y, finite = relu(x)  # one pass over memory
        if not finite:
            self.check_finite(x)
        self.saved = (y,)
        return y

    def backward(self, dy):
        (y,) = self.saved
        self.check_dy(dy, y.shape)
        return relu_backward(dy, y)

    def output_shape(self, shape):
        return shape
