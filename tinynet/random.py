"""Random numbers without state: every draw is a pure function of (seed, stream, step, index).

Nothing here reads or changes a global generator. `stream` says what the numbers are for (a name such as "drop6" or
"shuffle", or a number), `step` when (a training step, a sample), and the position in the returned array is the index.
So numbers depend neither on the order of calls nor on threads, workers or devices, and a resumed run draws the
same ones. The generator is Philox4x32-10 (`tinynet.ops.philox`); its CUDA twin gives the same bits.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinynet.ops.philox import philox_bits, philox_normal

Shape = int | Sequence[int]


def stream_id(name: int | str) -> int:
    """The 32-bit number of a stream: the number itself, or the CRC-32 of the name."""
    if isinstance(name, str):
        return zlib.crc32(name.encode())
    return whole_number("stream", name, 32)


def bits(shape: Shape, seed: int, stream: int | str, step: int = 0) -> np.ndarray:
    """uint32 array of `shape`, uniform over all 2**32 values.

    Raises ValueError for a size below 0, a seed that is not in [0, 2**64), or a stream or step number not in
    [0, 2**32).
    """
    sizes = _sizes(shape)
    seed, step = whole_number("seed", seed, 64), whole_number("step", step, 32)
    return philox_bits(math.prod(sizes), seed, stream_id(stream), step).reshape(sizes)


def uniform(
    shape: Shape, seed: int, stream: int | str, step: int = 0, low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """float64 array of `shape`, uniform on [low, high), in 2**32 steps; all are low if high is low too.

    Raises ValueError unless low <= high, both finite; and as `bits` does.
    """
    if not 0 <= float(high) - float(low) < math.inf:
        raise ValueError(f"uniform: expected finite numbers low <= high, got low={low!r}, high={high!r}")
    return low + (high - low) * (bits(shape, seed, stream, step) * 2.0**-32)


def normal(shape: Shape, seed: int, stream: int | str, step: int = 0, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Array of `shape`, standard normal. Raises as `bits` does."""
    sizes = _sizes(shape)
    seed, step = whole_number("seed", seed, 64), whole_number("step", step, 32)
    return philox_normal(math.prod(sizes), seed, stream_id(stream), step, dtype).reshape(sizes)


def permutation(n: int, seed: int, stream: int | str, step: int = 0) -> np.ndarray:
    """(n,) int64: a random order of range(n). Raises ValueError unless n is in [0, 2**62); and as `bits` does."""
    words = bits(2 * whole_number("n", n, 62), seed, stream, step).astype(np.uint64)
    keys = words[0::2] | words[1::2] << np.uint64(32)  # by arithmetic: a view would depend on the machine's byte order
    return np.argsort(keys, kind="stable")


def whole_number(what: str, value: int, width: int) -> int:
    """`value`; ValueError, which says `what` it was meant for, unless it is a whole number in [0, 2**width)."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 1 << width:
        raise ValueError(f"{what}: expected a whole number in [0, 2**{width}), got {value!r}")
    return int(value)


def _sizes(shape: Any) -> tuple[int, ...]:
    sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    if any(isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0 for size in sizes):
        raise ValueError(f"shape: expected whole numbers of at least 0, or one such number, got {shape!r}")
    return tuple(map(int, sizes))
