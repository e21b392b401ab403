"""Batches of a data set, in an order that is a function of the seed and the epoch alone."""

from collections.abc import Iterator, Sequence

import numpy as np

from tinynet import random
from tinynet.data.dataset import Dataset


def channel_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels, (C,) float64, in units of the full scale, [0, 1].

    A channel that is one colour throughout gets the standard deviation 1, so that it can be divided by.
    """
    counts = [np.bincount(dataset.images[:, c].ravel(), minlength=256) for c in range(dataset.channels)]
    shares = np.array(counts) / dataset.images[:, 0].size  # (C, 256)
    values = np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return mean, np.where(std > 1e-6, std, 1.0)


class Loader:
    """Batches (x, labels): x = (pixel / 255 - mean) / std, float32 (N, C, H, W); labels int64 (N,).

    mean and std: one number a channel, as `channel_statistics` gives, so that x has mean 0 and variance 1; None leaves
    x in [0, 1]. With shuffle, the order is a pure function of (seed, epoch); without, the set's own. The last batch
    may be smaller; drop_last leaves it out. In memory x has the batch innermost, the layers' fast order.

    Raises ValueError for a batch_size below 1, a wrong number of means, or a std that is not above 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
        drop_last: bool = False,
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"Loader: expected batch_size to be a whole number of at least 1, got {batch_size!r}")
        C = dataset.channels
        self.mean, self.std = _per_channel("mean", mean, 0.0, C), _per_channel("std", std, 1.0, C)
        if not (self.std > 0).all():
            raise ValueError(f"Loader: expected std above 0 for every channel, got {self.std.tolist()}")
        self.dataset, self.batch_size = dataset, batch_size
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator:
        raise TypeError("Loader: the order of its batches belongs to an epoch; write: for x, labels in loader.epoch(0)")

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of epoch `number`, from 0."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = random.permutation(len(self.dataset), self.seed, "shuffle", step=number)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._pixels(chosen), self.dataset.labels[chosen]

    def _pixels(self, chosen: np.ndarray) -> np.ndarray:
        pictures = self.dataset.images[chosen].transpose(1, 2, 3, 0)  # (C, H, W, N)
        x = np.empty(pictures.shape, np.float32)
        for c in range(len(x)):
            np.multiply(pictures[c], np.float32(1 / (255 * self.std[c])), out=x[c])
            x[c] -= np.float32(self.mean[c] / self.std[c])
        return x.transpose(3, 0, 1, 2)


def _per_channel(what: str, values: Sequence[float] | np.ndarray | None, default: float, C: int) -> np.ndarray:
    array = np.full(C, default) if values is None else np.asarray(values, np.float64)
    if array.shape != (C,) or not np.isfinite(array).all():
        raise ValueError(f"Loader: expected {what} to be {C} finite numbers, one a channel, got {values!r}")
    return array
