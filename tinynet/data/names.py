"""The names of the data sets that can be loaded by name, and how people spell them."""

import re

NAMES = ("shapes", "mnist", "fashion-mnist", "cifar-10")


def known_name(name: str) -> str | None:
    """The one of NAMES that `name` means in any usual spelling, such as "MNIST", "cifar10", "FashionMNIST" or
    "fashion_mnist"; None if it means none."""
    plain = re.sub(r"[\s._-]", "", name).casefold()
    return next((known for known in NAMES if known.replace("-", "") == plain), None)
