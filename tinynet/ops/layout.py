"""The fast layout: batch innermost, as in cuda-convnet.

Users see (N, C, H, W) everywhere. What is free is how memory holds it: a loop over pictures is fastest when the
pictures of a batch stand side by side, memory order (C, H, W, N), because every inner loop is then one long vector. So
the ops work on that order and return their result as an (N, C, H, W) *view* of it. The next op finds its input as it
wants it, `batch_last` copies nothing, and no layer has to know.
"""

import numpy as np


def batch_last(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) with any strides -> (C, H, W, N), C-contiguous; a view where memory is in that order already."""
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))


def batch_first(x: np.ndarray) -> np.ndarray:
    """(C, H, W, N) -> (N, C, H, W), always a view."""
    return np.moveaxis(x, -1, 0)
