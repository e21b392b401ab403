"""Batches of a data set, in an order and with views that are functions of the seed and the epoch alone."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from tinynet import random
from tinynet.backend.device import checked_device, to_device
from tinynet.checks import Pair
from tinynet.data.augment import View, Whole, crops
from tinynet.data.dataset import Dataset

Batch = tuple[np.ndarray, np.ndarray]
Numbers = Sequence[float] | np.ndarray


class Loader:
    """Batches (x, labels): x = (pixel / 255 - mean) / std, float32 (N, C, H, W); labels int64 (N,).

    mean and std: one number a channel, as `channel_statistics` gives, so that x has mean 0 and variance 1; None leaves
    x in [0, 1]. mean may be a picture (C, H, W), as `mean_picture` gives: what is subtracted is the part of it that
    CentreCrop would see, wherever the crop lies, as in Krizhevsky's code. With shuffle, the order is a pure function
    of (seed, epoch); without, the set's own. The last batch may be smaller; drop_last leaves it out.

    view: what the net sees of a picture, `Augment`, `CentreCrop` or `TenCrop`; None: all of it. A view that gives V
    crops of each picture makes x (V * N, C, size, size), x[v * N + n] the view v of picture n; there are N labels.
    workers: threads that make batches ahead, at most workers + 1 of them, while the caller computes; 0: each batch is
    made when it is asked for. The batches are the same to the bit. In memory x has the batch innermost, the fast order
    of the layers, except in plain mode.

    device: where x is wanted. For a GPU, the pictures of a batch go there as they are, a byte a pixel, and are cropped,
    mirrored, coloured and scaled there: a quarter of the bytes, or less, and the same bits. Labels are on the CPU.

    Raises ValueError for a batch_size below 1, workers below 0, a mean or std of the wrong shape, a std that is not
    above 0, or pictures that the view does not fit; TypeError for a view that is none; DeviceError for a GPU that
    cannot be used.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        drop_last: bool = False,
        view: View | None = None,
        workers: int = 0,
        device: str = "cpu",
    ):
        for what, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Loader: expected {what} to be a whole number of at least {least}, got {value!r}")
        self.dataset, self.batch_size, self.workers = dataset, batch_size, workers
        self.shuffle, self.seed, self.drop_last = shuffle, random.whole_number("Loader: seed", seed, 64), drop_last
        if view is not None and (isinstance(view, type) or not isinstance(view, View)):
            raise TypeError(f"Loader: expected view as an Augment(...), CentreCrop(...) or TenCrop(...), got {view!r}")
        self.device = checked_device(device)
        self.view = Whole() if view is None else view
        self.size = self.view.output_size(dataset.images.shape)
        self.std = _checked("std", std, 1.0, dataset)
        if not (self.std > 0).all():
            raise ValueError(f"Loader: expected std above 0 for every channel, got {self.std.tolist()}")
        self.mean = _checked("mean", mean, 0.0, dataset)
        self._gain = (1 / (255 * self.std)).astype(np.float32)
        self._centre = (_central(self.mean, self.size) / self.std[:, None, None]).astype(np.float32)
        self._scale_there: tuple[Any, Any] | None = None  # the two on the GPU

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator:
        raise TypeError("Loader: the order of its batches belongs to an epoch; write: for x, labels in loader.epoch(0)")

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0, without the first `start`: what is left of an epoch after a resume.

        Raises ValueError unless start is in [0, len(loader)].
        """
        number = random.whole_number("Loader.epoch", number, 32)
        if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start <= len(self):
            raise ValueError(f"Loader.epoch: expected start as a whole number in [0, {len(self)}], got {start!r}")
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = random.permutation(len(self.dataset), self.seed, "shuffle", step=number)
        drawn = self.view.draw(self.dataset.images.shape, self.seed, number)

        def arguments(k: int) -> tuple[np.ndarray, tuple[Any, ...]]:
            """The numbers of the pictures, and what `crops` takes between images and size."""
            chosen = order[k * self.batch_size : (k + 1) * self.batch_size]
            top, left, flip = (values[:, chosen].reshape(-1) for values in drawn[:3])
            shift = (drawn.shift[:, chosen] / self.std).reshape(-1, len(self.std))
            return chosen, (np.tile(chosen, self.view.views), top, left, flip, shift)

        def batch(k: int) -> Batch:
            chosen, (index, *rest) = arguments(k)
            given: tuple[Any, ...] = (index, *rest, self.size, self._gain, self._centre)
            x = crops(self.dataset.images, *given, one_thread=self.workers > 0)
            return x, self.dataset.labels[chosen]

        def pieces(k: int) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
            chosen, (index, *rest) = arguments(k)
            place = np.tile(np.arange(len(chosen)), self.view.views)  # among the pictures that go to the GPU
            return np.asarray(self.dataset.images[chosen]), (place, *rest), self.dataset.labels[chosen]

        numbers = range(start, len(self))
        make: Callable[[int], Any] = batch if self.device == "cpu" else pieces
        made = ahead(make, numbers, self.workers) if self.workers else (make(k) for k in numbers)
        return made if self.device == "cpu" else self._cut_there(made)

    def _cut_there(self, batches: Generator) -> Iterator[Batch]:
        """The batches, cut on the GPU by the thread that trains: workers only gather the pictures."""
        if self._scale_there is None:
            self._scale_there = to_device(self._gain, self.device), to_device(self._centre, self.device)
        with contextlib.closing(batches):
            for images, arguments, labels in batches:
                given: tuple[Any, ...] = (*arguments, self.size, *self._scale_there)
                yield crops(to_device(images, self.device), *given), labels


def ahead(make: Callable[[int], Any], numbers: range, workers: int) -> Generator:
    """make(k) for k in numbers, in order, made by threads; at most workers + 1 wait or are under way."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tinynet loader")
    pending: deque[Future] = deque()
    try:
        for k in numbers:
            pending.append(pool.submit(make, k))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # at the end, after an error, or when the caller wants no more: no thread outlives the epoch
        pool.shutdown(wait=True)


def _checked(what: str, values: Numbers | None, default: float, dataset: Dataset) -> np.ndarray:
    """(C,), or a mean picture (C, H, W), float64."""
    C, picture = dataset.channels, dataset.images.shape[1:]
    array = np.full(C, default) if values is None else np.asarray(values, np.float64)
    allowed = [(C,), picture] if what == "mean" else [(C,)]
    if array.shape not in allowed or not np.isfinite(array).all():
        wanted = f"{C} finite numbers, one a channel" + (f", or a picture {picture}" if what == "mean" else "")
        got = repr(values) if array.ndim < 2 else f"shape {array.shape}"
        if array.shape in allowed and array.ndim > 1:
            got += " with NaN or infinity in it"
        raise ValueError(f"Loader: expected {what} to be {wanted}; got {got}")
    return array


def _central(mean: np.ndarray, size: Pair) -> np.ndarray:
    """(C, *size): the middle of a mean picture, or one number a channel everywhere."""
    if mean.ndim == 1:
        return np.broadcast_to(mean[:, None, None], (len(mean), *size))
    H, W = mean.shape[1:]
    if size[0] > H or size[1] > W:
        raise ValueError(
            f"Loader: expected crops within the mean picture of {H} x {W}, got {size[0]} x {size[1]}; "
            "take one mean a channel, or a smaller size"
        )
    top, left = (H - size[0]) // 2, (W - size[1]) // 2
    return mean[:, top : top + size[0], left : left + size[1]]
