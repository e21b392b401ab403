"""What tinynet's own layers must give, once more and in another way: loops over single windows, pixels and rows.

`tinynet check` holds a layer's forward against these, since a gradient check proves only that backward fits forward.
All is float64, and slow. `SLIPS` are the same formulas with one usual mistake each: a forward that gives just these
numbers has its likely cause.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinynet.layers.layer import Layer

Pair = tuple[int, int]
Formula = Callable[..., np.ndarray]  # y of (layer, x, further arguments of forward)


def starts(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False) -> list[int]:
    """Where each window begins along one axis: slide it until it leaves the padded picture."""
    reach = (kernel - 1) * dilation
    found = [at for at in range(-padding, size + padding, stride) if at + reach < size + padding]
    following = found[-1] + stride if found else size
    if ceil and found and found[-1] + reach + 1 < size + padding and following < size:
        found.append(following)
    return found


def under(x: np.ndarray, top: int, left: int, window: Any) -> Iterator[tuple[int, int, np.ndarray]]:
    """(kh, kw, x[:, :, h, w]) of each tap of one window that lies in the picture."""
    (KH, KW), _, _, (DH, DW) = window
    for kh, kw in itertools.product(range(KH), range(KW)):
        h, w = top + kh * DH, left + kw * DW
        if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
            yield kh, kw, x[:, :, h, w]


def places(x: np.ndarray, window: Any, ceil: bool = False) -> list[list[int]]:
    """The tops and the lefts of all windows."""
    kernel, stride, padding, dilation = window
    return [starts(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], ceil) for i in (0, 1)]


def conv2d(layer: Any, x: np.ndarray, flipped: bool = False, groups: int = 0, bias: bool = True) -> np.ndarray:
    weight = layer.weight.data[..., ::-1, ::-1] if flipped else layer.weight.data
    tops, lefts = places(x, layer.window)
    y = np.zeros((len(x), len(weight), len(tops), len(lefts)))
    each, read = len(weight) // (groups or layer.groups), weight.shape[1]
    for (i, top), (j, left) in itertools.product(enumerate(tops), enumerate(lefts)):
        for kh, kw, pixel in under(x, top, left, layer.window):
            for o in range(len(weight)):
                first = o // each * read if groups == 0 else 0
                y[:, o, i, j] += pixel[:, first : first + read] @ weight[o, :, kh, kw]
    if bias and layer.bias is not None:
        for o in range(len(weight)):
            y[:, o] += layer.bias.data[o]
    return y


def max_pool(layer: Any, x: np.ndarray, border: float = -math.inf, of: Any = max) -> np.ndarray:
    tops, lefts = places(x, layer.window, layer.ceil_mode)
    y = np.zeros((*x.shape[:2], len(tops), len(lefts)))
    taps = math.prod(layer.window[0])
    for (i, top), (j, left) in itertools.product(enumerate(tops), enumerate(lefts)):
        pixels = [pixel for _, _, pixel in under(x, top, left, layer.window)]
        for n, c in np.ndindex(*x.shape[:2]):
            values = [float(pixel[n, c]) for pixel in pixels]
            y[n, c, i, j] = of(values + [border] * (len(values) < taps and math.isfinite(border)))
    return y


def lrn(layer: Any, x: np.ndarray, share: bool = False, groups: int = 0, left: int = -1, right: int = -1) -> np.ndarray:
    each = x.shape[1] // (groups or layer.groups)
    alpha = layer.alpha / layer.size if share else layer.alpha
    left, right = (layer.size // 2 if side < 0 else side for side in (left, right))
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        near = [j for j in range(c - left, c + right + 1) if 0 <= j < x.shape[1] and j // each == c // each]
        scale = layer.k + alpha * sum(x[:, j] ** 2 for j in near)
        y[:, c] = x[:, c] / scale**layer.beta
    return y


def linear(layer: Any, x: np.ndarray, bias: bool = True) -> np.ndarray:
    weight = layer.weight.data
    y = np.zeros((len(x), len(weight)))
    for n, o in np.ndindex(*y.shape):
        y[n, o] = math.fsum(float(a) * float(b) for a, b in zip(x[n], weight[o], strict=True))
        if bias and layer.bias is not None:
            y[n, o] += layer.bias.data[o]
    return y


def relu(layer: Any, x: np.ndarray, below: Callable[[float], float] = lambda value: 0.0) -> np.ndarray:
    return np.array([value if value > 0 else below(value) for value in map(float, x.ravel())]).reshape(x.shape)


def flatten(layer: Any, x: np.ndarray) -> np.ndarray:
    sizes = x.shape[1:]
    return np.array([[picture[index] for index in np.ndindex(*sizes)] for picture in x])


def sequential(layer: Any, x: np.ndarray, backwards: bool = False) -> np.ndarray:
    for one in reversed(list(layer)) if backwards else layer:
        x = one.forward(x)
    return x


def softmax_ce(
    layer: Any, x: np.ndarray, labels: Any, axis: int = 1, twice: bool = False, share: bool = True
) -> np.ndarray:
    rows = [[float(value) for value in row] for row in x]
    if axis == 0:
        columns = [softmax(list(column)) for column in zip(*rows, strict=True)]
        losses = [-math.log(columns[label][n]) for n, label in enumerate(labels)]
    else:
        rows = [softmax(row) for row in rows] if twice else rows
        losses = [log_of_sum(row) - row[label] for row, label in zip(rows, labels, strict=True)]
    return np.array(math.fsum(losses) / (len(losses) if share else 1))


def log_of_sum(row: list[float]) -> float:
    """ln of the sum of exp(value)."""
    return math.log(math.fsum(math.exp(value - max(row)) for value in row)) + max(row)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


REFERENCES: dict[str, Formula] = {
    "Conv2d": conv2d,
    "Flatten": flatten,
    "LRN": lrn,
    "Linear": linear,
    "MaxPool": max_pool,
    "ReLU": relu,
    "Sequential": sequential,
    "SoftmaxCE": softmax_ce,
}

# layer: [(likely cause, what is different)]
SLIPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Conv2d": [
        ("the kernel is flipped: here the window and the kernel go the same way", {"flipped": True}),
        ("the bias is left out", {"bias": False}),
        ("all groups read the first group's channels", {"groups": 1}),
    ],
    "LRN": [
        ("alpha is divided by size; it is not in the paper's formula", {"share": True}),
        ("groups are ignored: the window goes on beyond the end of a group", {"groups": 1}),
        ("the window reaches to one side only", {"right": 0}),
        ("the window reaches to one side only", {"left": 0}),
        ("the neighbours are left out: each channel sees itself alone", {"left": 0, "right": 0}),
    ],
    "Linear": [("the bias is left out", {"bias": False})],
    "MaxPool": [
        ("padding counts as 0, and wins over negative numbers; it must count as minus infinity", {"border": 0.0}),
        ("the minimum instead of the maximum", {"of": min}),
        ("the mean instead of the maximum", {"of": mean}),
    ],
    "ReLU": [
        ("the sign is the wrong way round: negative numbers should become 0", {"below": lambda value: -value}),
        ("negative numbers pass", {"below": lambda value: value}),
        ("negative numbers should become 0", {"below": lambda value: 0.01 * value}),
    ],
    "Sequential": [("the layers are walked in reverse order", {"backwards": True})],
    "SoftmaxCE": [
        ("softmax over axis 0, over the pictures; it goes over the classes", {"axis": 0}),
        ("softmax is taken twice", {"twice": True}),
        ("a sum over the batch instead of the mean", {"share": False}),
    ],
}


def reference_of(kind: type[Layer]) -> Formula | None:
    """The formula for one of tinynet's own layers, or for one of the same name."""
    return REFERENCES.get(kind.__name__)


def slip(kind: type[Layer], layer: Layer, x: np.ndarray, args: tuple[Any, ...], y: np.ndarray) -> str | None:
    """Which usual mistake gives just this y."""
    for cause, change in SLIPS.get(kind.__name__, []):
        try:
            wrong = REFERENCES[kind.__name__](layer, x, *args, **change)
        except Exception:  # what is no mistake for this x, such as layers that do not fit in reverse order
            continue
        if wrong.shape == y.shape and np.allclose(wrong, y, rtol=1e-6, atol=1e-9):
            return cause
    return None
