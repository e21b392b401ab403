import math

from tinynet.layers.layer import Layer
from tinynet.ops.lrn import lrn_backward, lrn_forward
from tinynet.ops.window import checked_counts


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
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"LRN: expected an odd size, a window with a centre; got {size}")
        checked_counts("LRN", groups=groups)
        if not (0 < k < math.inf and 0 <= alpha < math.inf and math.isfinite(beta)):
            raise ValueError(
                f"LRN: expected k > 0 and alpha >= 0, so that scale > 0, and a finite beta; got k={k}, alpha={alpha}, "
                f"beta={beta}"
            )
        self.size, self.alpha, self.beta, self.k, self.groups = size, alpha, beta, k, groups

    @property
    def normalisation(self):
        """(size, alpha, beta, k, groups)."""
        return self.size, self.alpha, self.beta, self.k, self.groups

    def forward(self, x):
        self.check_input(x)
        self.output_shape(x.shape)  # raises unless groups divides the channels
        self.saved = (x,)
        return lrn_forward(x, *self.normalisation)

    def backward(self, dy):
        (x,) = self.saved
        self.check_dy(dy, x.shape)
        return lrn_backward(x, dy, *self.normalisation)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "C", "H", "W"))
        if shape[1] % self.groups:
            raise ValueError(f"{self}: expected a number of channels divisible by groups={self.groups}, got {shape}")
        return shape

    def options(self):
        return f"size={self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}, groups={self.groups}"
