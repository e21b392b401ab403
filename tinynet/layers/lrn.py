from tinynet.checks import checked_normalisation
from tinynet.layers.layer import Layer
from tinynet.layers.windows import channel_window_sum


class LRN(Layer):
    """y = x / scale**beta;  scale = k + alpha * S;  S sums x**2 over `size` neighbouring channels of the same pixel.

    x, y: (N, C, H, W). The window reaches size // 2 channels to each side and is cut at the ends of its group: with
    groups=2, the two towers of the paper's net do not see each other. (Krizhevsky et al. 2012, section 3.3.)

    backward: x_j stands in its own numerator and in the denominators of its neighbours: of all y_i in whose window j
    is, and since the window has a centre, those are the i in the window of j. So dx = dy * scale**-beta - 2 * alpha *
    beta * x * T;  T sums dy * x * scale**(-beta - 1) over the same window.

    alpha is not divided by size. To say the same elsewhere, at size 5:

    | library                                          | divides by size | write for alpha | default k |
    | the paper's formula; this layer                  | no              | alpha           | 2         |
    | TensorFlow (depth_radius=2; k is called bias)    | no              | alpha           | 1         |
    | cuda-convnet, Caffe, PyTorch's LocalResponseNorm | yes             | 5 * alpha       | 1         |

    The paper's own run wrote 1e-4 in cuda-convnet with k = 2, so 2e-5 here; Caffe's AlexNet is 2e-5 with k = 1.

    Raises ValueError if size is even (the window would have no centre) or groups does not divide the channels.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1):
        self.size, self.alpha, self.beta, self.k, self.groups = checked_normalisation(
            "LRN", size, alpha, beta, k, groups
        )

    def forward(self, x):
        self.check_input(x)
        self.output_shape(x.shape)  # raises unless groups divides the channels
        self.saved = (x,)
        return x * self.scale(x) ** -self.beta

    def backward(self, dy):
        (x,) = self.saved
        self.check_dy(dy, x.shape)
        scale = self.scale(x)  # made anew: cheaper than to keep
        # each x_j also sits in its neighbours' denominators: the same window, run backwards (odd sizes only)
        spread = channel_window_sum(dy * x * scale ** (-self.beta - 1), self.size, self.groups)
        return dy * scale**-self.beta - 2 * self.alpha * self.beta * x * spread

    def scale(self, x):
        """k + alpha * S, of x's shape."""
        return self.k + self.alpha * channel_window_sum(x * x, self.size, self.groups)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "C", "H", "W"))
        if shape[1] % self.groups:
            raise ValueError(f"{self}: expected a number of channels divisible by groups={self.groups}, got {shape}")
        return shape

    def options(self):
        return f"size={self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}, groups={self.groups}"
