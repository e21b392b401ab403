"""The ops on a GPU: each module has the functions of its namesake in tinynet.ops, and launches kernels/<name>.cu.

Only launches are here: sizes of grids and blocks, and memory for results. What a kernel computes, and which launch
suits it, stands at the top of its source. Memory order is that of the CPU, the batch innermost
(`tinynet.backend.layout`).
"""

from typing import Any

from tinynet.backend import device
from tinynet.backend.buffers import axes_in_memory
from tinynet.backend.launch import C_TYPE
from tinynet.checks import Pair

THREADS = 256  # of a block
LARGEST_GRID = 65535  # blocks along y and z
FULL = 2048  # blocks, more or less, that keep any GPU of today busy; where fewer would do, fewer are launched


def t(array: Any) -> str:
    """The kernel's T for this array: "float" or "double"."""
    return C_TYPE[array.dtype]


def blocks(count: int, threads: int = THREADS, most: int = FULL) -> int:
    """Blocks that together have a thread for each of `count` things, but no more than `most`, and at least one."""
    return max(1, min(-(-count // threads), most))


def pictures_first(N: int, threads: int = THREADS) -> tuple[int, int]:
    """A block of `threads`: neighbours take neighbouring pictures, up to 32, and then pixels."""
    across = 32 if N >= 32 else 1 << (N - 1).bit_length()
    return across, threads // across


def window_numbers(kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair | None = None) -> dict[str, int]:
    """A sliding window's sizes by the names that they have in the kernels."""
    pairs = {"stride": stride, "padding": padding} | ({"dilation": dilation} if dilation else {})
    numbers = {f"{name}_{side}": pair[i] for name, pair in pairs.items() for i, side in enumerate("hw")}
    return {"KH": kernel_size[0], "KW": kernel_size[1], **numbers}


def empty_like(array: Any, dtype: Any = None) -> Any:
    """An array of the same shape, order in memory and device, with undefined values."""
    order = axes_in_memory(array)
    dtype = array.dtype if dtype is None else dtype
    stored = device.empty([array.shape[axis] for axis in order], dtype, device.device_of(array))
    return stored.transpose(sorted(range(array.ndim), key=order.__getitem__))


def same_place(array: Any, shape: Any, dtype: Any = None) -> Any:
    """A new C-contiguous array of this shape on the device of `array`, with undefined values."""
    return device.empty(shape, array.dtype if dtype is None else dtype, device.device_of(array))
