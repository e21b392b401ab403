"""LRN's twin: blocks of columns that stay in the cache (`tinynet.ops.lrn`)."""

from typing import Any

from tinynet.checks import is_on_a_gpu
from tinynet.fast.inputs import check_input
from tinynet.ops.lrn import LARGEST_SIZE_ON_A_GPU, lrn_backward, lrn_forward


def settings(lrn: Any) -> tuple:
    """(size, alpha, beta, k, groups), as the ops take them."""
    return lrn.size, lrn.alpha, lrn.beta, lrn.k, lrn.groups


def forward(lrn: Any, x: Any) -> Any:
    if not fits(lrn, x):
        return NotImplemented
    check_input(lrn, x)
    lrn.output_shape(x.shape)  # raises unless groups divides the channels
    lrn.saved = (x,)
    return lrn_forward(x, *settings(lrn))


def backward(lrn: Any, dy: Any) -> Any:
    (x,) = lrn.saved
    lrn.check_dy(dy, x.shape)
    if dy.dtype != x.dtype or not fits(lrn, x):
        return NotImplemented
    return lrn_backward(x, dy, *settings(lrn))


def fits(lrn: Any, x: Any) -> bool:
    """Whether the kernels have so wide a window."""
    if not is_on_a_gpu(x) or x.ndim != 4 or x.shape[1] % lrn.groups:
        return True
    return min(lrn.size, 2 * (x.shape[1] // lrn.groups) - 1) <= LARGEST_SIZE_ON_A_GPU
