"""How many pictures a second does the Loader give? Against plain NumPy, and with workers; medians of alternating runs.

Before anything is timed, every way must give the plain NumPy batches.
"""

import argparse
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import tinynet
from tinynet import random
from tinynet.data import Dataset, Loader
from tinynet.data.augment import Augment

# what: pictures (M, C, H, W), size of the crop, padding
CASES = {"cifar": ((20_000, 3, 32, 32), 32, 4), "paper": ((1_024, 3, 256, 256), 227, 0)}
BATCH_SIZE = 128
MEAN, STD = [0.47, 0.44, 0.41], [0.25, 0.24, 0.26]
TOLERANCE = 1e-5
COLOUR = np.array([0.4, 0.15, 0.08]), np.linalg.qr(np.array([[1.0, 2, 2], [1, 0, -1], [1, -2, 1]]))[0]

Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, metavar="W", help="threads of the loader that has some")
    parser.add_argument(
        "--repeat", type=int, default=5, metavar="R", help="rounds that are timed, after one that is not"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as one object in the last line")
    args = parser.parse_args()

    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for what, (shape, size, padding) in CASES.items():
            train = pictures(shape, Path(folder) / what)
            view = Augment(size, padding=padding, colour_noise=0.1, colour=COLOUR)
            ways: dict[str, Batches] = {
                f"{w} workers": Loader(train, BATCH_SIZE, mean=MEAN, std=STD, view=view, workers=w).epoch
                for w in (0, args.workers)
            }
            ways["numpy"] = functools.partial(plain_numpy, train, view)
            validate(what, ways)
            results[what] = images_per_second(ways, args.repeat, limit=len(train) // BATCH_SIZE)
            report(what, results[what])
    if args.json:
        facts = {"batch_size": BATCH_SIZE, "threads": tinynet.get_num_threads(), "repeat": args.repeat}
        print(json.dumps({**facts, "images_per_second": results}))


def pictures(shape: tuple[int, ...], file: Path) -> Dataset:
    """A set in a memory-mapped file, of noise: what a picture shows makes no difference to the time."""
    images = np.memmap(file, np.uint8, "w+", shape=shape)
    for start in range(0, len(images), 256):
        part = images[start : start + 256]
        part[...] = random.bits(part.shape, 0, "pictures", start).astype(np.uint8)
    images.flush()
    return Dataset(np.memmap(file, np.uint8, "r", shape=shape), np.arange(len(images)) % 10, tuple("0123456789"))


def plain_numpy(train: Dataset, view: Augment, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same batches without compiled code: one crop after another into x, then arithmetic on all of x."""
    order = random.permutation(len(train), 0, "shuffle", step=epoch)
    crops = view.draw(train.images.shape, 0, epoch)
    mean, std = np.array(MEAN)[:, None, None, None], np.array(STD)[:, None, None, None]
    gain, p = (1 / (255 * std)).astype(np.float32), view.padding
    for start in range(0, len(train), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        pixels = np.empty((3, view.size, view.size, len(chosen)), np.uint8)
        inside = np.empty(pixels.shape[1:], bool)
        there = np.pad(np.ones(train.image_size, bool), p)
        for n, i in enumerate(chosen):
            picture = np.pad(train.images[i], ((0, 0), (p, p), (p, p))) if p else train.images[i]
            top, left = crops.top[0, i] + p, crops.left[0, i] + p
            part = np.s_[top : top + view.size, left : left + view.size]
            way = -1 if crops.flip[0, i] else 1
            pixels[..., n], inside[..., n] = picture[:, *part][..., ::way], there[part][:, ::way]
        x = pixels * gain
        x += ((crops.shift[0, chosen].T[:, None, None] - mean) / std).astype(np.float32)
        x *= inside
        yield x.transpose(3, 0, 1, 2), train.labels[chosen]


def validate(what: str, ways: dict[str, Batches]) -> None:
    worst = 0.0
    expected = list(itertools.islice(ways["numpy"](3), 3))
    for name, epoch in ways.items():
        batches = epoch(3)
        for (x, labels), (right, right_labels) in zip(batches, expected, strict=False):
            worst = max(worst, float(np.abs(x - right).max()))
            if not worst < TOLERANCE or not np.array_equal(labels, right_labels):
                raise SystemExit(f"{what}, {name}: a batch differs from NumPy's by {worst:.1e}")
    print(f"{what}: valid: three batches of each way within {worst:.1e} of NumPy's")


def images_per_second(ways: dict[str, Batches], repeat: int, limit: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = defaultdict(list)
    count = min(limit, 24)
    for epoch in range(repeat + 1):
        for name, batches in ways.items():
            began = time.perf_counter()
            seen = sum(len(labels) for _, labels in itertools.islice(batches(epoch), count))
            seconds[name].append((time.perf_counter() - began) / seen)
    return {name: 1 / statistics.median(values[1:]) for name, values in seconds.items()}


def report(what: str, rates: dict[str, float]) -> None:
    for name, rate in rates.items():
        print(f"{what:6} {name:10} {rate:10,.0f} images/s, {rate / rates['numpy']:5.1f} x NumPy")


if __name__ == "__main__":
    main()
