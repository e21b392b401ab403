"""What may stand behind an option: types for click, whose errors say what was expected and what came."""

import difflib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean --epochs?", or nothing if no known word is near."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""


class Number(click.ParamType):
    """A number of `kind` that `fits`."""

    name = "number"

    def __init__(self, kind: type, expected: str, fits: Callable[[Any], bool]):
        self.kind, self.expected, self.fits = kind, expected, fits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = self.kind(value)
        except ValueError:
            number = None
        if number is None or not self.fits(number):
            self.fail(f"expected {self.expected}, got {value!r}", param, ctx)
        return number


class Choice(click.Choice):
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            near = did_you_mean(str(value), self.choices)
            self.fail(f"expected one of {', '.join(self.choices)}, got {value!r}{near}", param, ctx)
        return value


class LayerList(click.ParamType):
    """The items of a list with commas, each a name or NAME=FACTOR."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        items = [item.strip() for item in value.split(",")]
        names = [item.partition("=")[0].strip() for item in items]
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"expected names with commas between them, each once, got {value!r}", param, ctx)
        for item in items:
            if "=" in item:
                FACTOR.convert(item.partition("=")[2], param, ctx)
        return items


class Place(click.Path):
    """A path. "" is none: it would mean the folder where one stands, for a variable of the shell that was not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected a path, got ''", param, ctx)
        return super().convert(value, param, ctx)


def slowed(item: str) -> tuple[str, float]:
    """(name, factor of the learning rate) of "conv2=0.1"; of "conv2" alone the factor is 0."""
    name, given, factor = item.partition("=")
    return name.strip(), float(factor) if given else 0.0


class Shape(click.ParamType):
    """Sizes with commas between them."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        sizes = [size.strip() for size in value.split(",")] if isinstance(value, str) else value
        if not all(str(size).isdecimal() and int(size) > 0 for size in sizes):
            self.fail(
                f"expected sizes of at least 1 with commas between them, such as 2,3,4,5; got {value!r}", param, ctx
            )
        return tuple(map(int, sizes))


COUNT = Number(int, "a whole number of at least 1", lambda n: n >= 1)
WORKERS = Number(int, "a whole number in [0, 64]", lambda n: 0 <= n <= 64)
CLASSES = Number(int, "a whole number in [2, 100000]", lambda n: 2 <= n <= 100_000)
CHANNELS = Number(int, "1 or 3", lambda n: n in (1, 3))
SIZE = Number(int, "a whole number in [28, 512]", lambda n: 28 <= n <= 512)
SEED = Number(int, "a whole number in [0, 2**64)", lambda n: 0 <= n < 2**64)
ABOVE_0 = Number(float, "a finite number above 0", lambda x: 0 < x < math.inf)
BELOW_1 = Number(float, "a number of at least 0 and below 1", lambda x: 0 <= x < 1)
AT_LEAST_0 = Number(float, "a finite number of at least 0", lambda x: 0 <= x < math.inf)
FACTOR = Number(float, "a factor of at least 0 and below 1 behind =", lambda x: 0 <= x < 1)
LAYERS = LayerList()
SHAPE = Shape()
PATH = Place(path_type=Path)
