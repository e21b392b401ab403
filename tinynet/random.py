"""Random numbers without state: every draw is a pure function of (seed, stream, step, index).

Nothing here reads or changes a global generator. `stream` says what the numbers are for (a name such as "drop6" or
"shuffle", or a number), `step` when (a training step, a sample), and the position in the returned array is the index.
So numbers depend neither on the order of calls nor on threads, workers or devices, and a resumed run draws the
same ones.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011,
section 3.3). It scrambles a counter: four 32-bit words come out of each value of it, and word i of a stream is word
i % 4 of block i // 4. The array code here gives the same bits as the compiled loops (`tinynet.ops.philox`), which draw
in its place except in plain mode, and as `kernels/philox.cu`.
"""

import math
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinynet.mode import is_plain

Shape = int | Sequence[int]

WORD = 0xFFFFFFFF  # the lowest 32 bits of a number
BLOCKS = 1 << 14  # whose rounds are computed at a time: few enough for the processor's cache


def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds on the counter words c0 to c3 with the key words k0 and k1.

    Each is a number in [0, 2**32) or a uint64 array of such numbers, and so are the four random words that come out.
    A round multiplies two of the words to 64 bits, and mixes the high halves with the other two words and the key.
    """
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & WORD,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def stream_id(name: int | str) -> int:
    """The 32-bit number of a stream: the number itself, or the CRC-32 of the name."""
    if isinstance(name, str):
        return zlib.crc32(name.encode())
    return whole_number("stream", name, 32)


def bits(
    shape: Shape, seed: int, stream: int | str, step: int = 0, part: tuple[int, int] = (0, 1), xp: Any = np
) -> Any:
    """uint32 array of `shape`, uniform over all 2**32 values.

    part=(t, T): the array (N, C, ...) is part number t of T equal parts of a whole array (N, T * C, ...), cut along
    axis 1, and gets the words of its elements' places there. xp: the module of the array, NumPy, or CuPy, which
    computes it on the current GPU.

    Raises ValueError for a size below 0, a seed that is not in [0, 2**64), a stream or step number not in [0, 2**32),
    or a part that is none.
    """
    sizes = _sizes(shape)
    key, name, step = whole_number("seed", seed, 64), stream_id(stream), whole_number("step", step, 32)
    t, T = part
    if not 0 <= t < T or (T > 1 and len(sizes) < 2):
        raise ValueError(f"bits: expected part (t, T) with 0 <= t < T, and two axes if T > 1; got {part}, {sizes}")
    if xp is np and T == 1 and _has_loops():
        from tinynet.ops.philox import philox_bits  # the compiled loop

        return philox_bits(math.prod(sizes), key, name, step).reshape(sizes)
    rows = 1 if T == 1 else sizes[0]  # each of words that follow each other
    columns = math.prod(sizes) // max(rows, 1)
    first = (xp.arange(rows, dtype=xp.uint64) * T + t) * columns  # (rows,): the place of a row's first word
    blocks = (first // 4)[:, None] + xp.arange((columns + 6) // 4, dtype=xp.uint64)  # up to 3 words before it come too
    words = _words(blocks.reshape(-1), key, name, step, xp).reshape(rows, 4 * blocks.shape[1])
    if T == 1:
        return words[0, :columns].reshape(sizes)
    place = (first % 4)[:, None] + xp.arange(columns, dtype=xp.uint64)
    return xp.take_along_axis(words, place.astype(xp.int64), axis=1).reshape(sizes)


def _has_loops() -> bool:
    """Whether the compiled loops may stand for these lines: not in plain mode, nor where the lines were changed."""
    if is_plain():
        return False
    from tinynet.fast import identity

    return identity.of(sys.modules[__name__]).changed() is None


def _words(blocks: Any, seed: int, stream: int, step: int, xp: Any) -> Any:
    """(4 * B,) uint32: the four words of each of `blocks` (B,) uint64, which are the counter's low 64 bits."""
    words = xp.empty((len(blocks), 4), xp.uint32)
    at_a_time = BLOCKS if xp is np else max(1, len(blocks))
    for start in range(0, len(blocks), at_a_time):
        block = blocks[start : start + at_a_time]
        four = philox4x32(block & WORD, block >> 32, step, stream, seed & WORD, seed >> 32)
        for i in range(4):
            words[start : start + at_a_time, i] = four[i]
    return words.reshape(-1)


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
    """Array of `shape`, standard normal (Box and Muller 1958): each two words, as u in (0, 1] and v in [0, 1), give

    sqrt(-2 ln u) cos(2 pi v)  and  sqrt(-2 ln u) sin(2 pi v),  computed in float64 and rounded to dtype.

    The compiled loop takes ln, cos and sin from another library than NumPy does: a float64 differs from this array
    code's by at most 8 units in the last place, a float32 by at most one. Raises as `bits` does.
    """
    sizes = _sizes(shape)
    count = math.prod(sizes)
    if _has_loops():
        from tinynet.ops.philox import philox_normal  # the compiled loop

        seed, step = whole_number("seed", seed, 64), whole_number("step", step, 32)
        return philox_normal(count, seed, stream_id(stream), step, dtype).reshape(sizes)
    words = bits((-(-count // 2), 2), seed, stream, step)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 1.0) * 2.0**-32))
    angle = 2 * np.pi * (words[:, 1] * 2.0**-32)
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return values.reshape(-1)[:count].astype(dtype).reshape(sizes)


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
