"""Memory that is used again: `empty` is numpy.empty for large arrays without the price of fresh pages.

The operating system hands out memory page by page and clears each; for the arrays of one training step that costs as
much as computing them. So memory goes back to a list of free blocks when the last array that looks at it is gone, and
serves the next request of the same size, rounded up to a power of two. Who owns an array is thus plain Python: whoever
holds a reference, to the array or to any view of it, can count on its values, and nobody has to give anything back.
"""

import contextlib
import ctypes
import math
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

SMALL = 1 << 16  # bytes; below, malloc is as good
CACHE_LINE = 64  # bytes
MAX_IDLE = 1 << 31  # bytes that may wait in the list; past that, blocks go back to the system

_idle: deque[np.ndarray] = deque()  # free blocks of bytes


def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """A C-contiguous array with undefined values."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    if count * dtype.itemsize < SMALL:
        return np.empty(shape, dtype)
    # a power of two: arrays of different sizes use the same memory in turn, and pages never touched cost nothing
    block = _take(1 << (count * dtype.itemsize - 1).bit_length())
    # arrays made from `lease` keep it alive, however they are sliced; when it dies, the block is free
    lease: Any = (ctypes.c_char * block.size).from_buffer(block.data)
    weakref.finalize(lease, _give_back, block).atexit = False
    return np.frombuffer(lease, dtype, count).reshape(shape)


def empty_like(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """An array of the same shape and order in memory, and dtype unless given, with undefined values."""
    order = axes_in_memory(array)
    stored = empty([array.shape[axis] for axis in order], array.dtype if dtype is None else dtype)
    return stored.transpose(np.argsort(order))


def axes_in_memory(array: Any) -> list[int]:
    """The axes of an array, the outermost in memory first; of a CuPy array, too."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """A C-contiguous array of zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def _take(size: int) -> np.ndarray:
    # the deque's own operations are atomic, and no lock is held while another thread, or a finalizer, changes the list
    for _ in range(len(_idle)):
        try:
            block = _idle.pop()
        except IndexError:
            break
        if block.size == size:
            return block
        _idle.appendleft(block)
    space = np.empty(size + CACHE_LINE, np.uint8)
    return space[-space.ctypes.data % CACHE_LINE :][:size]  # a vector then lies in one line, not in halves of two


def _give_back(block: np.ndarray) -> None:
    _idle.append(block)
    with contextlib.suppress(IndexError, RuntimeError):  # the list changed meanwhile; whoever changed it looks as well
        while sum(block.size for block in tuple(_idle)) > MAX_IDLE:
            _idle.popleft()
