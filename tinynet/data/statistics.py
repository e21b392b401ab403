"""Means and standard deviations of a set's pixels, in bounded memory: a set may be a memory-mapped file."""

from collections.abc import Iterator

import numpy as np

from tinynet.data.dataset import Dataset

CHUNK = 1 << 22  # values held at a time; np.bincount makes eight bytes of each


def channel_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels, (C,) float64, in units of the full scale, [0, 1].

    A channel that is one colour throughout gets the standard deviation 1, so that it can be divided by.
    """
    counts = np.zeros((dataset.channels, 256))
    for images in _chunks(dataset):
        counts += [np.bincount(channel.ravel(), minlength=256) for channel in images.swapaxes(0, 1)]
    shares = counts / counts[0].sum()  # (C, 256)
    values = np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return mean, np.where(std > 1e-6, std, 1.0)


def mean_picture(dataset: Dataset) -> np.ndarray:
    """(C, H, W) float64: the mean of each pixel over all pictures, in units of the full scale, [0, 1] (Krizhevsky et
    al. 2012, section 2: "subtracting the mean activity over the training set from each pixel")."""
    total = sum(images.sum(axis=0, dtype=np.int64) for images in _chunks(dataset))
    return total / (255 * len(dataset))


def _chunks(dataset: Dataset) -> Iterator[np.ndarray]:
    pictures = max(1, CHUNK // dataset.images[0].size)
    for start in range(0, len(dataset), pictures):
        yield dataset.images[start : start + pictures]
