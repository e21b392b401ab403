"""The names of the data sets that can be loaded by name, and how people spell them."""

import re
from pathlib import Path

NAMES = ("shapes", "mnist", "fashion-mnist", "cifar-10")
PHOTOS = "photos"  # the kind of data that is a folder of class folders


def known_name(name: str) -> str | None:
    """The one of NAMES that `name` means in any usual spelling, such as "MNIST", "cifar10", "FashionMNIST" or
    "fashion_mnist"; None if it means none."""
    plain = re.sub(r"[\s._-]", "", name).casefold()
    return next((known for known in NAMES if known.replace("-", "") == plain), None)


def data_kind(name: str) -> tuple[str, str] | None:
    """(the set's name or the folder, the set's name or PHOTOS) of what somebody calls data, in any usual spelling of a
    set's name, or None. A folder of such a spelling is a folder, unless the spelling is a name itself."""
    if name in NAMES:
        return name, name
    if name and Path(name).is_dir():
        return name, PHOTOS
    known = known_name(name)
    return None if known is None else (known, known)
