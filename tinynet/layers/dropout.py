import numpy as np

from tinynet.checks import checked_share
from tinynet.layers.layer import Layer
from tinynet.random import bits, stream_id, whole_number


class Dropout(Layer):
    """Training: y = x * mask / (1 - p), each element of mask 0 with probability p, else 1. Evaluation: y = x.

    x, y of any shape; backward: dx = dy * mask / (1 - p), the same mask. The division keeps the expectation of y at x,
    so that nothing need be scaled at test time ("inverted" dropout; the paper's net, section 4.2, multiplies by 1 - p
    at test time instead: the same in expectation).

    The mask is a pure function of (seed, stream, step, index in x): the first training forward draws step 0, the next
    step 1, and so on; `at_step` sets it. stream=None stands for the layer's name in its Sequential. A layer that is
    part t of T of a whole one, cut along axis 1 (`Layer.part`), draws its part of the whole layer's mask.

    Raises ValueError unless 0 <= p < 1 and seed is a whole number in [0, 2**64).
    """

    def __init__(self, p: float = 0.5, seed: int = 0, stream: int | str | None = None):
        self.p, self.seed, self.stream = checked_share("Dropout", p), whole_number("seed", seed, 64), stream
        self.step = 0

    def forward(self, x):
        self.check_input(x)
        if not (self.training and self.p > 0):
            self.saved = None, x.shape
            return x.copy()
        words = bits(x.shape, self.seed, self.stream_id(), self.step, self.part, self.xp)  # 32 random bits an element
        kept = words >= round(self.p * 2**32)
        self.saved = kept, x.shape
        self.step += 1
        return np.where(kept, x * (1 / (1 - self.p)), 0)

    def backward(self, dy):
        kept, shape = self.saved
        self.check_dy(dy, shape)
        return dy.copy() if kept is None else np.where(kept, dy * (1 / (1 - self.p)), 0)

    def stream_id(self):
        return stream_id(self.name if self.stream is None else self.stream)

    def at_step(self, step):
        self.step = whole_number("step", step, 32)
        return self

    def output_shape(self, shape):
        return shape

    def options(self):
        return f"p={self.p:g}"
