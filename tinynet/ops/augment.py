"""Crop, mirror, shift the colours of and normalise the pictures of a batch in one pass: uint8 in, the net's x out.

CUDA twin: `kernels/augment.cu`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.layout import batch_first
from tinynet.backend.threads import kernel, parallel_for
from tinynet.checks import Pair

PADDED = -1  # no pixel's value: stands where a crop reaches over the edge
ODD = 32  # without it, rows of a power of two of bytes would all meet in a few lines of the cache


@kernel
def _crop(images, index, top, left, flip, gain, shift, centre, x, start, stop):
    H, W = images.shape[2:]
    OH, OW, N = x.shape[1:]
    u = np.uint64  # a signed index would be looked at for "below 0, so from the end"
    # one row of every crop, pictures side by side: source rows are read along, x is written along
    pixels = np.empty((OW, N + ODD), np.int16)
    for row in range(start, stop):
        c, h = row // OH, row % OH
        for n in range(N):
            # kept in variables: for all the compiler knows, writing a pixel could change an array's element
            picture, source, begin = u(index[n]), top[n] + h, left[n]
            first, last = max(0, -begin), min(OW, W - begin)  # of the crop's columns, those in the picture
            if flip[n]:
                first, last = OW - last, OW - first
            if not 0 <= source < H or first >= last:
                first, last = OW, OW
            for w in range(first):
                pixels[w, n] = PADDED
            if flip[n]:
                for w in range(first, last):
                    pixels[w, n] = images[picture, u(c), u(source), u(begin + OW - 1 - w)]
            else:
                for w in range(first, last):
                    pixels[w, n] = images[picture, u(c), u(source), u(begin + w)]
            for w in range(last, OW):
                pixels[w, n] = PADDED
        for w in range(OW):
            mean = centre[c, h, w]
            for n in range(N):
                value = np.float32(pixels[w, n]) * gain[c] + shift[c, n] - mean
                x[c, h, w, n] = value if pixels[w, n] >= 0 else np.float32(0)


@with_gpu_twin
def crops(
    images: np.ndarray,
    index: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    flip: np.ndarray,
    shift: np.ndarray,
    size: Pair,
    gain: np.ndarray,
    centre: np.ndarray,
    *,
    one_thread: bool = False,
) -> np.ndarray:
    """x[n, c, h, w] = gain[c] * images[index[n], c, top[n] + h, left[n] + w'] + shift[n, c] - centre[c, h, w], where
    w' = w, or size[1] - 1 - w if flip[n]; 0 where that lies outside of the picture.

    images (M, C, H, W) uint8, read in place, so a memory-mapped file will do; index, top, left (N,) whole numbers; flip
    (N,) bool; shift (N, C), gain (C,) and centre (C, *size) floats. x: (N, C, *size) float32, the batch innermost in
    memory, its own. one_thread: no help from the pool of threads, for callers that are threads themselves.

    images may be on a GPU, and then x is. Raises IndexError for an index that is no picture's, ValueError for a wrong
    shape, TypeError for a wrong dtype.
    """
    check_crops(images, index, top, left, flip, shift, size, gain, centre)
    x = buffers.empty((images.shape[1], *size, len(index)), np.float32)
    places = (_plain(array, np.int64) for array in (index, top, left))
    numbers = (_plain(array, np.float32) for array in (gain, shift.T, centre))
    args: tuple[Any, ...] = (np.asarray(images), *places, _plain(flip, np.bool_), *numbers, x)
    (_alone if one_thread else parallel_for)(_crop, images.shape[1] * size[0], *args)
    return batch_first(x)


def check_crops(
    images: Any, index: Any, top: Any, left: Any, flip: Any, shift: Any, size: Pair, gain: Any, centre: Any
) -> None:
    """Raises what `crops` does."""
    if images.dtype != np.uint8:
        raise TypeError(f"crops: expected images of dtype uint8, got {images.dtype}")
    M, C = images.shape[:2]
    N = len(index)
    shapes = {"top": top.shape, "left": left.shape, "flip": flip.shape, "shift": shift.shape, "gain": gain.shape}
    expected = {"top": (N,), "left": (N,), "flip": (N,), "shift": (N, C), "gain": (C,), "centre": (C, *size)}
    if (shapes := shapes | {"centre": centre.shape}) != expected:
        raise ValueError(f"crops: expected the shapes {expected} for {N} crops of {C} channels, got {shapes}")
    if N and (index.min() < 0 or index.max() >= M):
        raise IndexError(f"crops: expected every index in [0, {M}), got {index.min()} to {index.max()}")


def _plain(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    return np.ascontiguousarray(array.astype(dtype, casting="same_kind", copy=False))


def _alone(loop: Callable[..., None], length: int, *args: Any) -> None:
    loop(*args, 0, length)
