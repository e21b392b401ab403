from tinynet.layers.layer import Layer
from tinynet.ops.dropout import dropout_backward, dropout_forward
from tinynet.ops.elementwise import copy_of
from tinynet.random import stream_id, whole_number


class Dropout(Layer):
    """Training: y = x * mask / (1 - p), each element of mask 0 with probability p, else 1. Evaluation: y = x.

    x, y of any shape; backward: dx = dy * mask / (1 - p), the same mask. The division keeps the expectation of y at x,
    so that nothing need be scaled at test time ("inverted" dropout; the paper's net, section 4.2, multiplies by 1 - p
    at test time instead: the same in expectation).

    The mask is a pure function of (seed, stream, step, index in x): the first training forward draws step 0, the next
    step 1, and so on; `at_step` sets it. stream=None stands for the layer's name in its Sequential. A tower that has
    part t of T of the layer's features says so, part = (t, T), and draws that part of the whole layer's mask.

    Raises ValueError unless 0 <= p < 1 and seed is a whole number in [0, 2**64).
    """

    def __init__(self, p: float = 0.5, seed: int = 0, stream: int | str | None = None):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: expected 0 <= p < 1, the share that is dropped; got {p}")
        self.p, self.seed, self.stream = p, whole_number("seed", seed, 64), stream
        self.step, self.part = 0, (0, 1)

    def forward(self, x):
        self.check_input(x)
        if not (self.training and self.p > 0):
            self.saved = None, x.shape
            return copy_of(x)
        stream = stream_id(self.name if self.stream is None else self.stream)
        y, kept = dropout_forward(x, self.p, self.seed, stream, self.step, self.part)
        self.saved = kept, x.shape
        self.step += 1
        return y

    def backward(self, dy):
        kept, shape = self.saved
        self.check_dy(dy, shape)
        return copy_of(dy) if kept is None else dropout_backward(dy, kept, self.p)

    def at_step(self, step):
        self.step = whole_number("step", step, 32)
        return self

    def output_shape(self, shape):
        return shape

    def options(self):
        return f"p={self.p:g}"
