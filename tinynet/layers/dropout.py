import numpy as np

from tinynet import random
from tinynet.layers.base import Layer


class Dropout(Layer):
    """Training: y = x * mask / (1 - p), each element of mask 0 with probability p, else 1. Evaluation: y = x.

    x, y of any shape; backward: dx = dy * mask / (1 - p), the same mask. The division keeps the expectation of y at x,
    so that nothing need be scaled at test time ("inverted" dropout; the paper's net, section 4.2, multiplies by 1 - p
    at test time instead: the same in expectation).

    The mask is a pure function of (seed, stream, step, index in x): the first training forward draws step 0, the next
    step 1, and so on; `at_step` sets it. stream=None stands for the layer's name in its Sequential.

    Raises ValueError unless 0 <= p < 1.
    """

    def __init__(self, p: float = 0.5, seed: int = 0, stream: int | str | None = None):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: expected 0 <= p < 1, the share that is dropped; got {p}")
        self.p, self.seed, self.stream = p, seed, stream
        self.step = 0

    def forward(self, x):
        self.check_input(x)
        mask = np.ones((), x.dtype)
        if self.training and self.p:
            keep = self.draw(x.shape) >= round(self.p * 2**32)
            mask = keep * x.dtype.type(1 / (1 - self.p))
            self.step += 1
        self.saved = mask, x.shape
        return x * mask

    def backward(self, dy):
        mask, shape = self.saved
        self.check_dy(dy, shape)
        return dy * mask.astype(dy.dtype, copy=False)

    def draw(self, shape):
        """The 32 random bits of each element, uint32."""
        return random.bits(shape, self.seed, self.name if self.stream is None else self.stream, self.step)

    def at_step(self, step):
        self.step = step
        return self

    def output_shape(self, shape):
        return shape

    def options(self):
        return f"p={self.p:g}"
