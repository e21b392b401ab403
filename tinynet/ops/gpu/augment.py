"""Crops on a GPU: launches of kernels/augment.cu. CPU twin: tinynet/ops/augment.py, whose bits these are."""

from typing import Any

import numpy as np

from tinynet.backend import device
from tinynet.backend.launch import launch
from tinynet.backend.layout import batch_first
from tinynet.checks import Pair
from tinynet.ops.augment import check_crops
from tinynet.ops.gpu import same_place

TILE = 32  # pictures and columns of a block, as the kernel wants it
BLOCK = TILE, 8


def crops(
    images: Any,
    index: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    flip: np.ndarray,
    shift: np.ndarray,
    size: Pair,
    gain: Any,
    centre: Any,
    *,
    one_thread: bool = False,
) -> Any:
    """images are on the GPU; gain and centre may be, as float32, and the other arrays, on the CPU, are copied there."""
    check_crops(images, index, top, left, flip, shift, size, gain, centre)
    (OH, OW), N, C = size, len(index), images.shape[1]
    places = {"index": index, "top": top, "left": left}
    numbers = {"gain": gain, "shift": shift.T, "centre": centre}
    args = {name: _there(array, np.int64, images) for name, array in places.items()}
    args |= {name: _there(array, np.float32, images) for name, array in numbers.items()}
    x = same_place(images, (C, OH, OW, N), np.float32)
    grid = -(-OW // TILE), -(-N // TILE), C * OH
    launch("augment", "crops", grid, BLOCK, images=images, flip=_there(flip, np.uint8, images), x=x, **args)
    return batch_first(x)


def _there(array: Any, dtype: Any, like: Any) -> Any:
    if isinstance(array, np.ndarray):
        array = np.ascontiguousarray(array, dtype)
    return device.to_device(array, device.device_of(like))
