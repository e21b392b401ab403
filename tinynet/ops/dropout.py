"""Dropout as a function of its place and time alone: no mask is kept. CUDA twin: `kernels/dropout.cu`."""

import numpy as np

from tinynet.ops.philox import philox_bits


def dropout(x: np.ndarray, p: float, seed: int, stream: int, step: int) -> np.ndarray:
    """x / (1 - p) where an element's 32 random bits are at least p * 2**32, else 0; forward for x, backward for dy.

    x of any shape; the bits of element i, in C order, are word i of (seed, stream, step).
    """
    keep = philox_bits(x.size, seed, stream, step).reshape(x.shape) >= round(p * 2**32)
    return x * (keep * x.dtype.type(1 / (1 - p)))
