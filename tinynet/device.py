"""Where an array lives. This is the only module that may import cupy, and it does so when first asked, never before."""

from typing import Any

import numpy as np


def device_of(array: Any) -> str:
    """ "cpu" for a NumPy array, "cuda:K" for a CuPy array on device K. The array's type decides: no GPU is probed.

    Raises TypeError for anything that is not an array.
    """
    kind = type(array).__module__.partition(".")[0]
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("expected a plain NumPy array, got a masked one, whose mask would be lost; use .filled(value)")
    if kind == "numpy" and hasattr(array, "dtype"):
        return "cpu"
    if kind == "cupy":
        return f"cuda:{array.device.id}"
    raise TypeError(f"expected a NumPy array, got {type(array).__name__}")


def require_cpu(array: Any) -> None:
    """Raises NotImplementedError for an array on a GPU, TypeError for what is no array."""
    device = device_of(array)
    if device != "cpu":
        raise NotImplementedError(
            f"expected an array on the cpu, got one on {device}: this version computes on the CPU; pass array.get()"
        )
