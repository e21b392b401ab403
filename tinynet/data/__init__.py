"""Pictures to learn from: the built-in `shapes`; MNIST, Fashion-MNIST and CIFAR-10; folders of photographs; and batches
of them, augmented or not."""

from typing import TYPE_CHECKING

from tinynet.backend.lazy import attach
from tinynet.data.names import NAMES, known_name

if TYPE_CHECKING:
    from tinynet.data.augment import Augment, CentreCrop, TenCrop, colour_components
    from tinynet.data.cifar import cifar10
    from tinynet.data.dataset import Dataset
    from tinynet.data.download import fetch
    from tinynet.data.folders import cache_folder
    from tinynet.data.idx import fashion_mnist, mnist, read_idx
    from tinynet.data.load import load
    from tinynet.data.loader import Loader
    from tinynet.data.photo.album import all_photos, photos
    from tinynet.data.shapes import shapes
    from tinynet.data.statistics import channel_statistics, mean_picture

__all__ = [
    "NAMES",
    "Augment",
    "CentreCrop",
    "Dataset",
    "Loader",
    "TenCrop",
    "all_photos",
    "cache_folder",
    "channel_statistics",
    "cifar10",
    "colour_components",
    "fashion_mnist",
    "fetch",
    "known_name",
    "load",
    "mean_picture",
    "mnist",
    "photos",
    "read_idx",
    "shapes",
]
attach(
    __name__,
    {
        "Augment": "augment",
        "CentreCrop": "augment",
        "Dataset": "dataset",
        "Loader": "loader",
        "TenCrop": "augment",
        "all_photos": "photo.album",
        "cache_folder": "folders",
        "channel_statistics": "statistics",
        "cifar10": "cifar",
        "colour_components": "augment",
        "fashion_mnist": "idx",
        "fetch": "download",
        "load": "load",
        "mean_picture": "statistics",
        "mnist": "idx",
        "photos": "photo.album",
        "read_idx": "idx",
        "shapes": "shapes",
    },
)
