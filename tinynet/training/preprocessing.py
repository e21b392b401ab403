"""What lies between a picture file and the net's x, in one object that training's files tell of: evaluation and
prediction use the very same, so their answers cannot differ."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tinynet.data.augment import CentreCrop, TenCrop
from tinynet.data.dataset import Dataset
from tinynet.data.loader import Loader
from tinynet.data.names import PHOTOS
from tinynet.data.photo.decode import read_square, square_of

NATIVE = {"mnist": 28, "fashion-mnist": 28, "cifar-10": 32}  # pixels a side of the sets whose files hold squares
NEEDED = ("image_size", "in_channels", "mean", "std", "classes")


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From a picture to x, for the nets of one run.

    A picture is turned upright as its EXIF data say, scaled so that its shorter side has `stored_size` pixels, and cut
    to the central square, as the cache of photographs keeps it; of that the net sees the central image_size x
    image_size, or ten crops. x = (pixel / 255 - mean) / std. mean: one number a channel, or a picture (in_channels,
    stored_size, stored_size); std: one number a channel. `classes` names the outputs.

    Nets of one channel get grey = 0.299 R + 0.587 G + 0.114 B, rounded (ITU-R 601, Pillow's mode "L"). They see the
    picture as it is: digits of MNIST are white on black, so dark ink on white paper has to be inverted before.

    Raises ValueError for values that do not fit each other.
    """

    image_size: int
    stored_size: int
    in_channels: int
    mean: np.ndarray
    std: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("image_size", "stored_size", "in_channels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"Preprocessing: expected {name} as a whole number of at least 1, got {value!r}")
            object.__setattr__(self, name, int(value))
        C, S = self.in_channels, self.stored_size
        if C not in (1, 3):
            raise ValueError(f"Preprocessing: expected in_channels as 1, grey, or 3, colour; got {C}")
        if self.image_size > S:
            raise ValueError(f"Preprocessing: expected stored_size of at least image_size, {self.image_size}; got {S}")
        for name, shapes in (("mean", [(C,), (C, S, S)]), ("std", [(C,)])):
            array = np.asarray(getattr(self, name), np.float64)
            if array.shape not in shapes or not np.isfinite(array).all() or (name == "std" and not (array > 0).all()):
                wanted = "above 0" if name == "std" else f"or a picture {(C, S, S)}"
                raise ValueError(f"Preprocessing: expected {name} as {C} numbers, {wanted}; got shape {array.shape}")
            object.__setattr__(self, name, array)
        names = self.classes if isinstance(self.classes, (tuple, list)) else ()
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(
                f"Preprocessing: expected classes as a tuple of names, each once, got {self.classes!r:.80}"
            )
        object.__setattr__(self, "classes", tuple(names))

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Preprocessing:
        """That of the run whose weights file has the metadata (`tinynet.io.checkpoints.load_metadata`).

        Files that do not tell stored_size, as those of earlier versions, tell the kind of data, from which it follows.
        Raises ValueError, which says what is missing, for weights of another program.
        """
        missing = [name for name in NEEDED if name not in metadata]
        if missing:
            raise ValueError(
                f"expected weights that say what their net's input is, got no {', '.join(missing)} in their metadata: "
                "were they written by another program? Preprocessing(...) takes these values, and tinynet.predict(net, "
                "images, preprocessing=...) takes it"
            )
        try:
            size, channels, mean = metadata["image_size"], metadata["in_channels"], unpack_mean(metadata["mean"])
            stored = _stored_size(metadata, mean)
            return cls(size, stored, channels, mean, np.array(metadata["std"], np.float64), metadata["classes"])
        except (TypeError, KeyError) as error:
            raise ValueError(f"expected the metadata of a run's weights, got some that are odd: {error!r}") from error

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """uint8 (in_channels, stored_size, stored_size): the picture in the file. Raises PictureError, a ValueError
        that names the file, if there is none."""
        return self._in_channels(read_square(path, self.stored_size))

    def picture(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """The same of a Pillow image, or of an array, uint8 (1, H, W) or (3, H, W); one of the stored shape stays as it
        is.

        Raises TypeError for another dtype, ValueError for another shape, and as `read` does.
        """
        if isinstance(image, Image.Image):
            return self._in_channels(square_of(image, self.stored_size))
        if image.dtype != np.uint8:
            raise TypeError(f"expected a picture's pixels as uint8, got {image.dtype}")
        if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.size:
            hint = "; .transpose(2, 0, 1) puts the channels first" if image.shape[2:] in ((1,), (3,)) else ""
            raise ValueError(f"expected a picture of shape (1, H, W) or (3, H, W), got {image.shape}{hint}")
        if image.shape == self.stored_shape:
            return image
        rgb = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
        return self._in_channels(square_of(Image.fromarray(rgb), self.stored_size))

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        return self.in_channels, self.stored_size, self.stored_size

    def _in_channels(self, square: np.ndarray) -> np.ndarray:
        if self.in_channels == 3:
            return square
        return np.asarray(Image.fromarray(square.transpose(1, 2, 0)).convert("L"))[None]

    def prepared(self, dataset: Dataset) -> Dataset:
        """The set as it is if its pictures have the stored shape; else with each made as `picture` does."""
        if dataset.images.shape[1:] == self.stored_shape:
            return dataset
        return Dataset(np.stack([self.picture(image) for image in dataset.images]), dataset.labels, dataset.classes)

    def view(self, ten_crop: bool = False) -> CentreCrop | TenCrop:
        """What the net sees of a picture."""
        return TenCrop(self.image_size) if ten_crop else CentreCrop(self.image_size)

    def loader(
        self, dataset: Dataset, batch_size: int = 64, *, ten_crop: bool = False, workers: int = 0, device: str = "cpu"
    ) -> Loader:
        """The batches of the set, in its order, as the net wants them. batch_size: crops in a batch at the most, of ten
        a picture with ten_crop, but at least those of one picture."""
        return Loader(
            self.prepared(dataset),
            self.pictures_a_batch(batch_size, ten_crop),
            shuffle=False,
            mean=self.mean,
            std=self.std,
            view=self.view(ten_crop),
            workers=workers,
            device=device,
        )

    def pictures_a_batch(self, batch_size: int, ten_crop: bool) -> int:
        """Of batches of at most batch_size crops."""
        return max(1, batch_size // self.view(ten_crop).views)

    def differences(self, other: Preprocessing) -> list[str]:
        """The names of the fields in which the other differs."""
        names = ("image_size", "classes", "in_channels", "stored_size", "mean", "std")
        return [name for name in names if not np.array_equal(getattr(self, name), getattr(other, name))]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Preprocessing) and not self.differences(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        C, S = self.in_channels, self.image_size
        mean = "a mean picture" if self.mean.ndim == 3 else f"mean {np.round(self.mean, 3).tolist()}"
        return (
            f"Preprocessing(shorter side {self.stored_size}, crops {C} x {S} x {S}, {mean}, "
            f"std {np.round(self.std, 3).tolist()}, {len(self.classes)} classes)"
        )


def stored_size(image_size: int) -> int:
    """Photographs are kept a little larger than the net's input, which crops are cut from: 256 for the paper's 224 (and
    for 227, see `alexnet`), and in that proportion."""
    return 256 if image_size == 227 else round(image_size * 256 / 224)


def _stored_size(metadata: Mapping[str, Any], mean: np.ndarray) -> int:
    if "stored_size" in metadata:
        return metadata["stored_size"]
    if mean.ndim == 3:
        return mean.shape[2]
    kind, size = metadata.get("data_kind"), metadata["image_size"]
    if kind in NATIVE:
        return NATIVE[kind]
    if kind not in ("shapes", PHOTOS):
        known = ", ".join(("shapes", *NATIVE, PHOTOS))
        raise ValueError(f"expected weights whose data_kind is one of {known}, or that tell stored_size; got {kind!r}")
    return size if kind == "shapes" else stored_size(size)


def pack_mean(mean: np.ndarray) -> Any:
    """What JSON can hold: a number for each channel, or a mean picture's float32 values."""
    if mean.ndim == 1:
        return mean.tolist()
    return {"shape": list(mean.shape), "float32": base64.b64encode(mean.astype("<f4").tobytes()).decode()}


def unpack_mean(packed: Any) -> np.ndarray:
    """The array of which `pack_mean` made `packed`."""
    if isinstance(packed, list):
        return np.array(packed)
    values = np.frombuffer(base64.b64decode(packed["float32"]), "<f4")
    return values.reshape(packed["shape"]).astype(np.float64)
