"""The losses: a number out of the net's outputs and the labels, and its gradient."""

from tinynet.losses.softmax_ce import SoftmaxCE

__all__ = ["SoftmaxCE"]
