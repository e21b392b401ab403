"""The answers of a net, with the names of the classes and of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from tinynet.data.photo.album import Skipped

SHOWN, BEST = 10, 3  # pictures and classes in the text of repr
Answer = list[tuple[str, float]]  # (class, probability), likeliest first


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What `tinynet.predict` returns. probabilities: (N, K) float64, a row a picture, in their order. classes: the K
    names; outputs that have no class are called "output 7". paths: the files', None if none was asked for. skipped: the
    files that gave no picture, and why.

    As a sequence: predictions[i] is the answer to picture i, its five likeliest classes as (name, probability), a slice
    gives Predictions.
    """

    probabilities: np.ndarray
    classes: tuple[str, ...]
    paths: tuple[Path | None, ...] | None = None
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        names = (*self.classes, *(f"output {k}" for k in range(len(self.classes), self.probabilities.shape[1])))
        object.__setattr__(self, "classes", names)

    @property
    def indices(self) -> np.ndarray:
        """(N,) int64: the number of each picture's likeliest class; of equal ones the first."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @property
    def labels(self) -> list[str]:
        """The names of the likeliest classes."""
        return [self.classes[k] for k in self.indices]

    def top(self, k: int = 5) -> list[Answer]:
        """For each picture its k likeliest classes, or all if there are fewer, as (name, probability); of equally
        likely ones the first comes first."""
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"Predictions.top: expected k as a whole number of at least 1, got {k!r}")
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.classes[c], float(row[c])) for c in own] for own, row in zip(best, self.probabilities, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.top())

    @overload
    def __getitem__(self, i: int) -> Answer: ...
    @overload
    def __getitem__(self, i: slice) -> Predictions: ...
    def __getitem__(self, i: int | slice) -> Answer | Predictions:
        if isinstance(i, slice):
            paths = None if self.paths is None else self.paths[i]
            return Predictions(self.probabilities[i], self.classes, paths, self.skipped)
        if not -len(self) <= i < len(self):
            raise IndexError(f"Predictions: expected a picture's number in [0, {len(self)}), got {i}")
        i = int(i) % len(self)
        return self[i : i + 1].top()[0]

    def __repr__(self) -> str:
        files = [None] * len(self) if self.paths is None else self.paths
        names = [f"picture {i}" if file is None else str(file) for i, file in enumerate(files[:SHOWN])]
        width = max(map(len, names), default=0)
        rows = [
            f"  {name:<{width}}  " + ", ".join(f"{text} {value:.1%}" for text, value in answer)
            for name, answer in zip(names, self[:SHOWN].top(BEST), strict=True)
        ]
        more = [f"  and {len(self) - SHOWN:,} more"] if len(self) > SHOWN else []
        skipped = [f"  skipped {entry.path}: {entry.reason}" for entry in self.skipped[:BEST]]
        skipped += [f"  skipped {len(self.skipped) - BEST:,} more"] if len(self.skipped) > BEST else []
        pictures = f"{len(self):,} picture{'s' * (len(self) != 1)}"
        return "\n".join([f"Predictions of {pictures}, {len(self.classes)} classes", *rows, *more, *skipped])
