"""Pictures of a data set on a page, and the checks that what comes with them fits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tinynet.plots.page import axes_of_page


def show(
    figure: Figure, picture: np.ndarray, left: float, top: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Draw `picture`, (C, H, W) with C = 1 or 3, uint8 or floats in [0, 1], as large as the place allows, at its lower
    edge. Returns where it stands: left, top, width, height. All in inches."""
    scale = min(width / picture.shape[2], height / picture.shape[1])
    w, h = picture.shape[2] * scale, picture.shape[1] * scale
    left, bottom = left + (width - w) / 2, top + height
    most = 255 if picture.dtype == np.uint8 else 1
    look: dict[str, Any] = {"vmin": 0, "vmax": most, "interpolation": "antialiased", "aspect": "auto"}
    axes_of_page(figure).imshow(rgb(picture), extent=(left, left + w, bottom, bottom - h), **look)
    return left, bottom - h, w, h


def rgb(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3): a single channel is grey, so it fills all three."""
    return np.broadcast_to(np.asarray(picture).transpose(1, 2, 0), (*picture.shape[1:], 3))


def check_pictures(where: str, pictures: np.ndarray, shape: str = "(N, C, H, W)", what: str = "pictures") -> None:
    """Raises ValueError unless `pictures` is uint8, has the axes of `shape` and C = 1 or 3, and is not empty."""
    pictures = np.asanyarray(pictures)
    if (
        pictures.dtype != np.uint8
        or pictures.ndim != shape.count(",") + 1
        or pictures.shape[-3] not in (1, 3)
        or 0 in pictures.shape
    ):
        raise ValueError(
            f"{where}: expected {what} as uint8 {shape}, C = 1 (grey) or 3 (RGB), no size 0; "
            f"got {pictures.dtype} {pictures.shape}"
        )


def check_labels(where: str, labels: ArrayLike, shape: tuple[int, ...], K: int, what: str = "labels") -> np.ndarray:
    """`labels` as an array; ValueError unless it holds whole numbers in [0, K) and has this `shape`."""
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer) or array.shape != shape:
        raise ValueError(f"{where}: expected {what} as whole numbers of shape {shape}, got {array.dtype} {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < K):
        raise ValueError(
            f"{where}: expected {what} in [0, {K}), for {K} classes; got from {array.min()} to {array.max()}"
        )
    return array


def check_answers(
    where: str, pictures: np.ndarray, probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, labels) as arrays; ValueError unless they belong to `pictures`, (N, C, H, W), and `classes`, K
    names: probabilities (N, K), each row in [0, 1] with the sum 1; labels (N,) in [0, K)."""
    check_pictures(where, pictures)
    N, K = len(pictures), len(classes)
    array = np.asarray(probabilities)
    if array.shape != (N, K):
        raise ValueError(
            f"{where}: expected probabilities of shape ({N}, {K}), for {N} pictures and {K} classes; got {array.shape}"
        )
    # written so that NaN fails
    if not (array.min() >= 0 and np.abs(array.sum(axis=1, dtype=np.float64) - 1).max() < 1e-3):
        raise ValueError(
            f"{where}: expected probabilities in [0, 1], each row with the sum 1, got others; take softmax of logits"
        )
    return array, check_labels(where, labels, (N,), K)
