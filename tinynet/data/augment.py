"""Views of a picture: which part of it the net sees, mirrored or not, in which shade; and the colour statistics.

Every draw is a pure function of (seed, epoch, the picture's number in its set): it depends neither on the order of the
batches nor on their size, on workers or on a resume. `Loader` takes a view and makes the pictures by `crops`. A view of
one's own is a class with `views`, `output_size` and `draw`, as here.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tinynet import random
from tinynet.backend.device import device_of, on, to_device
from tinynet.checks import Pair
from tinynet.data.dataset import Dataset
from tinynet.mode import is_plain
from tinynet.ops import augment as compiled

MAX_PICTURES = 10_000  # that colour_components looks at
CHUNK = 1 << 17  # pixels it holds at a time
LEAST_STD = 1e-6  # below that a standard deviation is the rounding of 0


class Crops(NamedTuple):
    """V crops of each of M pictures. top, left: (V, M) whole numbers, the place of the crop's first pixel in the
    picture, below 0 if it lies in the padding; flip: (V, M) bool; shift: (V, M, C), added to the pixels' [0, 1]."""

    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    shift: np.ndarray


@runtime_checkable
class View(Protocol):
    """What Loader asks of a view; shape is the pictures' (M, C, H, W)."""

    views: int  # V, of each picture

    def output_size(self, shape: tuple[int, ...]) -> Pair:
        """(height, width) of what the net gets; ValueError if such pictures do not fit."""

    def draw(self, shape: tuple[int, ...], seed: int, epoch: int) -> Crops:
        """The crops of the whole set in this epoch."""


@dataclass(frozen=True)
class Whole:
    """The picture as it is."""

    views = 1

    def output_size(self, shape: tuple[int, ...]) -> Pair:
        return shape[2], shape[3]

    def draw(self, shape: tuple[int, ...], seed: int, epoch: int) -> Crops:
        return _still(shape, [(0, 0, False)])


@dataclass(frozen=True)
class CentreCrop:
    """The size x size crop from the middle: its top is (H - size) // 2, its left (W - size) // 2.

    Raises ValueError for a size below 1 or, in a Loader, above the pictures' height or width.
    """

    size: int
    views = 1

    def __post_init__(self) -> None:
        _check_count(self, "size", self.size, 1)

    def output_size(self, shape: tuple[int, ...]) -> Pair:
        return _fitting(self, self.size, shape)

    def draw(self, shape: tuple[int, ...], seed: int, epoch: int) -> Crops:
        return _still(shape, [_centre(shape, self.size)])


@dataclass(frozen=True)
class TenCrop:
    """Ten size x size crops of each picture, whose softmax outputs are averaged (Krizhevsky et al. 2012, section 4.1).

    View 0: top left; 1: top right; 2: bottom left; 3: bottom right; 4: centre, as CentreCrop's; 5 to 9: the same
    crops, mirrored. Raises as CentreCrop does.
    """

    size: int
    views = 10

    def __post_init__(self) -> None:
        _check_count(self, "size", self.size, 1)

    def output_size(self, shape: tuple[int, ...]) -> Pair:
        return _fitting(self, self.size, shape)

    def draw(self, shape: tuple[int, ...], seed: int, epoch: int) -> Crops:
        bottom, right = shape[2] - self.size, shape[3] - self.size
        five = [(0, 0), (0, right), (bottom, 0), (bottom, right), _centre(shape, self.size)[:2]]
        return _still(shape, [(top, left, flip) for flip in (False, True) for top, left in five])


@dataclass(frozen=True, eq=False)
class Augment:
    """A random size x size crop of the picture padded by `padding` pixels on each side, mirrored with probability 1/2
    if `mirror`, with colour noise if colour_noise > 0 (Krizhevsky et al. 2012, section 4.1). All crops are equally
    likely. The net gets zeros where a crop reaches into the padding, which is the mean, whatever the noise.

    Colour noise adds directions @ (a * std) to the picture's every pixel, in units of the full scale [0, 1], one
    a ~ N(0, colour_noise**2) a direction, picture and epoch; the sum may leave [0, 1]. The paper's colour_noise is 0.1.
    `colour` = (std, directions) is what `colour_components(training set)` gives.

    The paper calls the factors of a eigenvalues of the pixels' covariance. We take their square roots, the standard
    deviations, as the paper's original code did: eigenvalues of pixels in 0-255 would make noise of over a thousand
    grey levels. That code (cuda-convnet2) also divides the noise by 1.1; colour_noise=0.1 / 1.1 does the same.

    Raises ValueError for a size below 1, a padding below 0, noise that is not a finite number of at least 0, noise
    without `colour`, or a `colour` of the wrong shape; in a Loader, for a size above the padded picture's.
    """

    size: int
    _: KW_ONLY
    padding: int = 0
    mirror: bool = True
    colour_noise: float = 0.0
    colour: tuple[np.ndarray, np.ndarray] | None = None
    views = 1

    def __post_init__(self) -> None:
        _check_count(self, "size", self.size, 1)
        _check_count(self, "padding", self.padding, 0)
        if not 0 <= self.colour_noise < math.inf:
            raise ValueError(
                f"Augment: expected colour_noise as a finite number of at least 0, got {self.colour_noise}"
            )
        if self.colour_noise and self.colour is None:
            raise ValueError(
                "Augment: expected colour for the noise, got none; use colour=colour_components(train_set)"
            )
        if self.colour is not None:
            std, directions = map(np.asarray, self.colour)
            C = std.size
            if std.shape != (C,) or directions.shape != (C, C) or not np.isfinite([*std, *directions.ravel()]).all():
                raise ValueError(
                    "Augment: expected colour as (std (C,), directions (C, C)), all finite, got the shapes "
                    f"{std.shape} and {directions.shape}; use colour_components(train_set)"
                )

    def output_size(self, shape: tuple[int, ...]) -> Pair:
        if self.colour_noise and self.colour is not None and len(self.colour[0]) != shape[1]:
            raise ValueError(
                f"Augment: expected pictures of {len(self.colour[0])} channels, as `colour` has, got {shape[1]}; "
                "use colour_components of the same set"
            )
        return _fitting(self, self.size, shape, self.padding)

    def draw(self, shape: tuple[int, ...], seed: int, epoch: int) -> Crops:
        M, C, H, W = shape
        room = np.array([H, W]) + 2 * self.padding - self.size + 1
        # the high half of a 64-bit product: no remainder, so each of `room` places has its share within 2**-32
        words = random.bits((M, 2), seed, "crop", epoch).astype(np.uint64)
        top, left = ((words * room.astype(np.uint64)) >> np.uint64(32)).astype(np.int64).T - self.padding
        flip = np.zeros(M, bool)
        if self.mirror:
            flip = random.bits(M, seed, "mirror", epoch) >> 31 == 1
        shift = np.zeros((M, C))
        if self.colour_noise and self.colour is not None:
            std, directions = map(np.asarray, self.colour)
            amounts = random.normal((M, C), seed, "colour", epoch) * self.colour_noise * std
            for k in range(C):  # a sum in this order, not BLAS's, whose order is the machine's
                shift += amounts[:, k, None] * directions[:, k]
        return Crops(top[None], left[None], flip[None], shift[None])


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
    """x[n, c, h, w] = gain[c] * images[index[n], c, top[n] + h, left[n] + w'] + shift[n, c] - centre[c, h, w], where
    w' = w, or size[1] - 1 - w if flip[n]; 0 where that lies outside of the picture. x: (N, C, *size) float32.

    The lines here run in plain mode; otherwise `tinynet.ops.augment.crops`, which gives the same bits and says more
    about the arguments. images, and then gain and centre, may be on a GPU, where x then is.
    """
    if not is_plain():
        return compiled.crops(images, index, top, left, flip, shift, size, gain, centre, one_thread=one_thread)
    compiled.check_crops(images, index, top, left, flip, shift, size, gain, centre)
    (C, H, W), (OH, OW) = images.shape[1:], size
    rows = top[:, None] + np.arange(OH)  # (N, OH): of the picture
    columns = left[:, None] + np.where(flip[:, None], np.arange(OW)[::-1], np.arange(OW))  # (N, OW)
    inside = ((rows >= 0) & (rows < H))[:, None, :, None] & ((columns >= 0) & (columns < W))[:, None, None, :]
    places = index[:, None, None, None], np.arange(C)[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    allowed = (len(images), C, H, W)  # what lies outside is read at the edge, and then left out
    places = tuple(np.clip(place, 0, end - 1) for place, end in zip(places, allowed, strict=True))
    where = device_of(images)
    with on(where):
        gain, shift, centre = (to_device(array, where).astype(np.float32) for array in (gain, shift, centre))
        pixels = images[tuple(to_device(place, where) for place in places)]  # (N, C, OH, OW)
        x = pixels.astype(np.float32) * gain[:, None, None] + shift[:, :, None, None] - centre
        return np.where(to_device(inside, where), x, np.float32(0))


def colour_components(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(std (C,), directions (C, C)) of the colours, for `Augment`: the square roots of the eigenvalues of the
    covariance of all pixels, in units of the full scale, [0, 1], largest first, and column k of `directions` the unit
    vector of std[k]. Of its entries of at least 0.9 times the largest magnitude the first is positive, so that the
    signs are the same on every machine.

    Of more than 10,000 pictures, 10,000 are looked at, spread evenly over the set; some thousand pixels at a time are
    held in memory, so the set may be a memory-mapped file.
    """
    M, C = len(dataset), dataset.channels
    looked_at, at_a_time = min(M, MAX_PICTURES), max(1, CHUNK // dataset.images[0, 0].size)
    count, total, products = 0, np.zeros(C), np.zeros((C, C))
    for start in range(0, looked_at, at_a_time):
        chosen = np.arange(start, min(start + at_a_time, looked_at)) * M // looked_at
        pixels = dataset.images[chosen].transpose(1, 0, 2, 3).reshape(C, -1).astype(np.float64)
        # whole numbers below 2**53: exact, whatever the order of the sums
        count, total, products = count + pixels.shape[1], total + pixels.sum(axis=1), products + pixels @ pixels.T
    mean = total / count
    variances, directions = np.linalg.eigh((products / count - np.outer(mean, mean)) / 255**2)
    std = np.sqrt(np.maximum(variances[::-1], 0))
    directions = directions[:, ::-1]
    large = np.abs(directions) >= 0.9 * np.abs(directions).max(axis=0)
    signs = np.sign(directions[large.argmax(axis=0), np.arange(C)])
    return np.where(std > LEAST_STD, std, 0.0), directions * signs


def _still(shape: tuple[int, ...], places: list[tuple[int, int, bool]]) -> Crops:
    """The same (top, left, flip), one a view, for all pictures of the set, without noise."""
    M, C = shape[:2]
    top, left, flip = (
        np.broadcast_to(np.array(values)[:, None], (len(places), M)) for values in zip(*places, strict=True)
    )
    return Crops(top, left, flip, np.broadcast_to(0.0, (len(places), M, C)))


def _centre(shape: tuple[int, ...], size: int) -> tuple[int, int, bool]:
    return (shape[2] - size) // 2, (shape[3] - size) // 2, False


def _check_count(view: View, what: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{type(view).__name__}: expected {what} as a whole number of at least {least}, got {value!r}")


def _fitting(view: View, size: int, shape: tuple[int, ...], padding: int = 0) -> Pair:
    H, W = shape[2:]
    if size > min(H, W) + 2 * padding:
        raise ValueError(
            f"{type(view).__name__}: expected a size of at most {min(H, W) + 2 * padding} for pictures of {H} x {W} "
            f"with padding {padding}, got {size}; take a smaller size or larger pictures"
        )
    return size, size
