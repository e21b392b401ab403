"""One class of layers on trial: it is made, called and watched, and what goes wrong is raised as `Wrong`."""

import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet import random
from tinynet.inspect import diagnosis
from tinynet.inspect.examples import ROWS, Example
from tinynet.inspect.reference import reference_of
from tinynet.layers.layer import Layer

OWN = {kind.__name__: kind for kind in ROWS}
EXACT = 1e-9  # relative, of float64 beside a formula of another order of sums
COARSE = 1e-4  # relative, of float32


class Wrong(Exception):  # noqa: N818 - it is what was found, and no failure of the check
    """What is wrong in `method`, "forward" or "backward" or another, and at which line, if it is not known as a whole;
    `details` are further lines. `whole`: `what` is a sentence by itself, else it goes on after the method's name."""

    def __init__(self, method: str, what: str, details: Sequence[str] = (), line: int = 0, whole: bool = False):
        super().__init__(what)
        self.method, self.what, self.details, self.line, self.whole = method, what, list(details), line, whole


class Trial:
    """A class and the example that it is looked at with. `own`: it is one of tinynet's, or a copy of it by its name."""

    def __init__(self, kind: type[Layer], example: Example):
        self.kind, self.example = kind, example
        self.own = is_own(kind)
        self.formula = reference_of(kind) if self.own else None

    def make(self, dtype: Any = np.float64) -> Any:
        """A new layer at step 0. Its parameters are random, so that no term of a formula is 0 and no factor is 1; those
        of a user's layer stay near the values that it chose."""
        try:
            layer = self.example.build(self.kind)
        except (Exception, SystemExit) as error:
            raise self.failed("__init__", error, "fails") from None
        if not isinstance(layer, Layer):
            raise Wrong("__init__", f"gives {type(layer).__name__}, and no layer")
        for name, parameter in layer.named_parameters():
            noise = random.normal(parameter.shape, 1, f"check {name}")
            parameter.data = noise if self.own else parameter.data + 0.25 * noise
        return layer.astype(dtype).at_step(0)

    def x(self, fill: str = "apart", dtype: Any = np.float64) -> np.ndarray:
        return FILLS[fill](self.example.shape).astype(dtype)

    def dy(self, y: np.ndarray) -> np.ndarray:
        return random.normal(np.shape(y), 2, "check dy").astype(y.dtype)

    def forward(self, layer: Any, x: np.ndarray, what: str = "", step: int | None = 0) -> np.ndarray:
        """y, an array, of a layer at this step, or with None at the one where it is."""
        if step is not None:
            layer.at_step(step)
        before = x.copy()
        try:
            y = layer.forward(x, *(_of_type(one, x.dtype) for one in self.example.args))
        except (Exception, SystemExit) as error:
            raise self.failed("forward", error, f"fails for {what or 'an x'} of shape {x.shape}") from None
        if y is None:
            raise Wrong("forward", "returns nothing: does it end with `return y`?")
        if not hasattr(y, "dtype"):
            if isinstance(y, float) and self.example.args:
                y = np.float64(y)
            else:
                raise Wrong("forward", f"returns {type(y).__name__}, expected an array")
        if y.dtype.kind != "f":
            raise Wrong("forward", f"gives numbers of type {y.dtype}, expected floats as x has them")
        if not np.array_equal(before, x):
            raise Wrong("forward", "changes x in place; the layer before still needs it: work on a copy")
        return y

    def backward(self, layer: Any, dy: np.ndarray, what: str = "") -> np.ndarray:
        """dx, an array of x's shape."""
        before = np.copy(dy)
        try:
            if not inspect.signature(layer.backward).parameters:
                dx = layer.backward()
            else:
                dx = layer.backward(float(dy) if np.ndim(dy) == 0 else dy)
        except (Exception, SystemExit) as error:
            raise self.failed("backward", error, f"fails for {what or 'a dy'} of shape {np.shape(dy)}") from None
        if dx is None:
            raise Wrong("backward", "returns nothing: does it end with `return dx`?")
        if not isinstance(dx, np.ndarray):
            raise Wrong("backward", f"returns {type(dx).__name__}, expected dx as an array")
        if dx.dtype.kind != "f":
            raise Wrong("backward", f"gives numbers of type {dx.dtype}, expected floats as dy has them")
        if dx.shape != self.example.shape:
            raise Wrong("backward", f"gives dx of shape {dx.shape}, expected x's shape {self.example.shape}")
        if not np.array_equal(before, dy):
            raise Wrong("backward", "changes dy in place; work on a copy, for others still read it")
        return dx

    def failed(self, method: str, error: BaseException, what: str) -> Wrong:
        """What an exception says, with the line of the layer's file at which it came up."""
        if isinstance(error, Wrong):
            return error
        frames = traceback.extract_tb(error.__traceback__)
        files = {diagnosis.file_of(kind) for kind in self.kind.__mro__ if issubclass(kind, Layer) and kind is not Layer}
        lines = [frame for frame in frames if frame.filename in files]
        text = diagnosis.one_line(f"{type(error).__name__}: {error}")
        shown = [f"line {lines[-1].lineno}: {lines[-1].line}"] if lines and lines[-1].line else []
        return Wrong(method, f"{what}: {text}", shown, lines[-1].lineno or 0 if lines else 0)


def _of_type(value: Any, dtype: np.dtype) -> Any:
    """An argument of floats, such as a loss's target, in x's type; labels and the like as they are."""
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def is_own(kind: type[Layer]) -> bool:
    """Whether it is to be judged as one of tinynet's layers: by its name, unless it brings an example of its own."""
    return kind.__name__ in OWN and not hasattr(kind, "example")


def _apart(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers between -3 and 3 in random order, no two near each other or near 0."""
    order = random.permutation(math.prod(shape), 0, "check x")
    return ((order - order.size // 2 + 0.5) * (6 / order.size)).reshape(shape)


def _ties(shape: tuple[int, ...]) -> np.ndarray:
    """As after a ReLU: whole numbers, many of them equal, half of them 0."""
    return np.maximum(random.permutation(math.prod(shape), 0, "check ties") % 5 - 2, 0).astype(float).reshape(shape)


FILLS: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
    "apart": _apart,
    "ties": _ties,
    "negative": lambda shape: -0.5 - np.abs(_apart(shape)[..., ::-1]),
}
