"""The fast layout: batch innermost, as in cuda-convnet.

Users see (N, C, H, W) everywhere. What is free is how memory holds it: a loop over pictures is fastest when the
pictures of a batch stand side by side, memory order (C, H, W, N), because every inner loop is then one long vector. So
the ops work on that order and return their result as an (N, C, H, W) *view* of it. The next op finds its input as it
wants it, `batch_last` copies nothing, and no layer has to know.
"""

from typing import Any

from tinynet.backend.device import device_of, on


def batch_last(x: Any) -> Any:
    """(N, C, H, W) with any strides -> (C, H, W, N), C-contiguous; a view where memory is in that order already."""
    moved = x.transpose(*range(1, x.ndim), 0)  # methods, which NumPy's and CuPy's arrays have alike
    if moved.flags.c_contiguous:
        return moved
    with on(device_of(x)):
        return moved.copy()


def batch_first(x: Any) -> Any:
    """(C, H, W, N) -> (N, C, H, W), always a view."""
    return x.transpose(x.ndim - 1, *range(x.ndim - 1))
