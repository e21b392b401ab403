"""Pictures and their labels, in memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WHOLE = 1 << 28  # bytes


@dataclass(frozen=True, eq=False)
class Dataset:
    """images (N, C, H, W) uint8; labels (N,) int64, each an index into `classes`, the classes' names.

    Raises TypeError for another dtype or kind, ValueError for another shape, an empty set, or a label that is no class.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for what, array, dtype in (("images", self.images, np.uint8), ("labels", self.labels, np.int64)):
            got = getattr(array, "dtype", type(array).__name__)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"Dataset: expected {what} as a NumPy array of {np.dtype(dtype)}, got {got}")
        if self.images.ndim != 4 or 0 in self.images.shape:
            raise ValueError(f"Dataset: expected images of shape (N, C, H, W), no size 0, got {self.images.shape}")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"Dataset: expected labels of shape ({len(self.images)},), one an image, got {self.labels.shape}"
            )
        if not isinstance(self.classes, tuple) or not all(isinstance(name, str) for name in self.classes):
            raise TypeError(f"Dataset: expected classes as a tuple of names, got {self.classes!r}")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(wrong):
            raise ValueError(
                f"Dataset: expected labels in [0, {len(self.classes)}), for {len(self.classes)} classes, "
                f"got {self.labels[wrong[0]]} at index {wrong[0]}"
            )

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        return f"Dataset({len(self):,} pictures of {size}, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """C: 1 for grey pictures, 3 for RGB."""
        return self.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.images.shape[2], self.images.shape[3]

    def subset(self, indices: slice | Sequence[int] | np.ndarray) -> Dataset:
        """The pictures at `indices`: a slice, whole numbers, or a mask of N booleans; with a slice, a view.

        Raises IndexError for an index outside of the set.
        """
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
        return Dataset(self.images[indices], self.labels[indices], self.classes)

    def in_classes(self, classes: Sequence[str]) -> Dataset:
        """The same pictures, their labels as indices into `classes`, by name: those that a net knows, which may be more
        than the set has, or stand in another order. Raises ValueError, which names them, for pictures of others."""
        if self.classes == tuple(classes):
            return self
        number = {name: i for i, name in enumerate(classes)}
        unknown = [name for i, name in enumerate(self.classes) if name not in number and (self.labels == i).any()]
        if unknown:
            some = ", ".join(map(repr, unknown[:10])) + (f" and {len(unknown) - 10:,} more" if unknown[10:] else "")
            known = ", ".join(map(repr, classes[:10])) + (", ..." if classes[10:] else "")
            raise ValueError(f"expected pictures of the classes {known}, got some of {some}")
        numbers = np.array([number.get(name, -1) for name in self.classes], np.int64)
        return Dataset(self.images, numbers[self.labels], tuple(classes))

    def fingerprint(self) -> list[int]:
        """[number of pictures, CRC-32 of labels and classes, CRC-32 of the pictures]: other numbers are other data.
        Of a set of more than 256 MB the last looks at 64 pictures spread over it, so that none is read whole."""
        some = slice(None) if self.images.nbytes <= WHOLE else np.arange(64) * len(self) // 64
        names = "\n".join(self.classes).encode()
        pictures = np.ascontiguousarray(self.images[some])
        return [len(self), zlib.crc32(names, zlib.crc32(self.labels.tobytes())), zlib.crc32(pictures.data)]
