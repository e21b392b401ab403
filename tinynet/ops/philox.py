"""Philox4x32-10: random bits that are a pure function of a counter and a key.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section 3.3. `tinynet.random` says
the same in array code. CUDA twin: `kernels/philox.cu`. Four 32-bit words come out of each counter, so word i of a
stream lies in block i // 4.
"""

import math

import numpy as np
from numpy.typing import DTypeLike

from tinynet.backend.threads import kernel, parallel_for

BLOCK_GRAIN = 1024  # 4096 numbers: below that, waking a thread costs more than it saves


# numba's cache on disk does not notice a change here for the loops of other files that call it, `dropout.py`'s: after
# one, remove __pycache__
@kernel
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds on the counter words c0..c3 (uint32 values held in uint64) with the key words k0, k1."""
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ k0,
            product1 & mask,
            (product0 >> np.uint64(32)) ^ c3 ^ k1,
            product0 & mask,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2, c3


@kernel
def _fill_bits(out, k0, k1, stream, step, start, stop):
    for i in range(start, stop):
        low, high = np.uint64(i) & np.uint64(0xFFFFFFFF), np.uint64(i) >> np.uint64(32)
        words = philox4x32(low, high, step, stream, k0, k1)
        for j in range(4):
            if 4 * i + j < out.size:
                out[4 * i + j] = words[j]


@kernel
def _fill_normal(out, k0, k1, stream, step, start, stop):
    for i in range(start, stop):
        low, high = np.uint64(i) & np.uint64(0xFFFFFFFF), np.uint64(i) >> np.uint64(32)
        words = philox4x32(low, high, step, stream, k0, k1)
        for j in range(0, 4, 2):
            radius = math.sqrt(
                -2.0 * math.log((np.float64(words[j]) + 1.0) * 2.0**-32)
            )  # the log's argument lies in (0, 1]
            angle = 2.0 * math.pi * (np.float64(words[j + 1]) * 2.0**-32)
            if 4 * i + j < out.size:
                out[4 * i + j] = radius * math.cos(angle)
            if 4 * i + j + 1 < out.size:
                out[4 * i + j + 1] = radius * math.sin(angle)


def philox_bits(count: int, seed: int, stream: int, step: int) -> np.ndarray:
    """(count,) uint32: the words of the stream (seed, stream, step).

    Counter words: block low, block high, step, stream. Key words: seed low, seed high.
    """
    return _filled(_fill_bits, np.empty(count, np.uint32), seed, stream, step)


def philox_normal(count: int, seed: int, stream: int, step: int, dtype: DTypeLike = np.float64) -> np.ndarray:
    """(count,) standard normal values: words 2i and 2i + 1 give sqrt(-2 ln u) cos(2π v) and its sin (Box and Muller
    1958)."""
    return _filled(_fill_normal, np.empty(count, dtype), seed, stream, step)


def _filled(fill, out, seed, stream, step):
    blocks = (out.size + 3) // 4
    parallel_for(fill, blocks, out, *key_words(seed), np.uint64(stream), np.uint64(step), grain=BLOCK_GRAIN)
    return out


def key_words(seed: int) -> tuple[np.uint64, np.uint64]:
    """The two 32-bit words of the key."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
