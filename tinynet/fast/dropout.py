"""Dropout's twin: mask and product in one pass, the random bits drawn on the way (`tinynet.ops.dropout`)."""

from typing import Any

import numpy as np

from tinynet.backend.device import cupy, on
from tinynet.checks import device_of
from tinynet.fast.inputs import check_input
from tinynet.layers.layer import Later
from tinynet.ops.dropout import dropout_backward, dropout_forward
from tinynet.ops.elementwise import copy_of
from tinynet.random import bits


class Drawn(Later):
    """What a GPU's forward keeps: the numbers from which backward draws the mask again, faster than it would read one.
    Whoever asks for `saved`, as the layer's own backward does, gets the mask."""

    def __init__(self, draw: Any, p: float, shape: tuple[int, ...], where: str):
        self.draw, self.p, self.shape, self.where = draw, p, shape, where

    def make(self) -> tuple[Any, ...]:
        draw = self.draw
        with on(self.where):
            words = bits(self.shape, draw.seed, draw.stream, draw.step, draw.part, cupy())
            return words >= round(self.p * 2**32), self.shape


def forward(dropout: Any, x: Any) -> Any:
    check_input(dropout, x)
    if not (dropout.training and dropout.p > 0):
        dropout.saved = None, x.shape
        return copy_of(x)
    y, kept = dropout_forward(x, dropout.p, dropout.seed, dropout.stream_id(), dropout.step, dropout.part)
    dropout.saved = (kept, x.shape) if hasattr(kept, "dtype") else Drawn(kept, dropout.p, x.shape, device_of(x))
    dropout.step += 1
    return y


def backward(dropout: Any, dy: Any) -> Any:
    drawn = vars(dropout).get("_saved")
    if isinstance(drawn, Drawn):
        dropout.check_dy(dy, drawn.shape)
        return dropout_backward(dy, drawn.draw, drawn.p)
    kept, shape = dropout.saved
    dropout.check_dy(dy, shape)
    if kept is None:
        return copy_of(dy)
    return dropout_backward(dy, kept, dropout.p) if type(dy) is np.ndarray else NotImplemented
