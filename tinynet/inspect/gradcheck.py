"""Is backward() the derivative of forward()? Every gradient against central differences, in float64.

    gradcheck(Conv2d(2, 3, kernel_size=3), x)

For L = sum(y * dy) with a random dy, (L(x + eps) - L(x - eps)) / (2 * eps) must equal the dx that backward(dy) gives,
and the same for every parameter. dy is random because many errors vanish under dy = 1: a gradient that forgets dy, or
mixes up the outputs, is right there.

eps grows with the entry, 1e-5 * max(1, |entry|). Rounding of y leaves noise in the quotient; it is estimated for every
entry, and a gradient that is smaller than its noise is neither right nor wrong: the report lists it.
"""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tinynet import random
from tinynet.errors import GradcheckError
from tinynet.inspect.causes import complaint, nothing_checked
from tinynet.layers.layer import Layer

Index = tuple[int, ...]
STEPS = (1e-5, 1e-6, 1e-7)  # of the differences, times max(1, |entry|); the smaller ones step around a nearby kink
ROUNDING = 16  # a forward is trusted to this many units in the last place of y
BEND = 1e-3  # slopes to the left and right that differ by more than this share are a kink, if smaller steps agree
FLOOR = 1e-3  # an error counts relative to the entry, or to this share of the array's largest entry


@dataclass
class GradcheckReport:
    """What was checked: entries and worst relative error of each array; what could not be checked.

    `kinks` are entries where the slope does not exist, `too_small` those whose gradient drowns in rounding noise.
    """

    layer: str
    checked: dict[str, int] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    kinks: list[tuple[str, Index]] = field(default_factory=list)
    too_small: list[tuple[str, Index]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"gradcheck: {self.layer}: gradients agree"]
        lines += [
            f"  {name}: {n} entries, worst relative error {self.worst[name]:.1e}" for name, n in self.checked.items()
        ]
        for entries, what in (
            (self.kinks, "lie at a kink and were skipped"),
            (self.too_small, "have a gradient below the rounding noise and could not be checked"),
        ):
            if entries:
                name, index = entries[0]
                lines.append(f"  {len(entries)} entries {what}, the first {name}{list(index)}")
        return "\n".join(lines)


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, Layer):
        got = f"the class {layer.__name__}; make one: {layer.__name__}()" if isinstance(layer, type) else repr(layer)
        raise TypeError(f"gradcheck: expected a layer, got {got}")


class Slope(NamedTuple):
    """A quotient of differences, how far rounding may have moved it, its eps, and whether any output moved."""

    value: float
    noise: float
    eps: float
    moved: bool


class Probe:
    """A float64 copy of the layer on a float64 copy of its input, and the scalar L = sum(y * dy)."""

    def __init__(self, layer: Layer, x: np.ndarray, args: tuple[Any, ...], seed: int):
        _check_layer(layer)
        self.layer = copy.deepcopy(layer).astype(np.float64)
        self.layer.input_grad = True
        self.name = str(layer)
        self.x = np.array(x, np.float64)
        self.args = args
        self.arrays = {"x": self.x} | {key: parameter.data for key, parameter in self.layer.named_parameters()}
        self.y = self.forward()
        if not np.array_equal(self.x, np.array(x, np.float64)):
            raise GradcheckError(f"gradcheck: {self.name}: forward changed x in place; it must leave it")
        if not np.isfinite(self.y).all():
            raise GradcheckError(f"gradcheck: {self.name}: expected finite numbers from forward, got NaN or infinity")
        if not np.array_equal(self.y, self.forward()):
            raise GradcheckError(
                f"gradcheck: {self.name}: forward gave two results for one x; draw random numbers by tinynet.random "
                "with a step that at_step sets, as Dropout does"
            )
        self.dy = np.asarray(random.normal(self.y.shape, seed, "gradcheck dy"))

    def forward(self) -> np.ndarray:
        self.layer.at_step(0)  # the same dropout mask every time
        return np.array(self.layer.forward(self.x, *self.args), np.float64)

    def backward(self, dy: np.ndarray) -> dict[str, np.ndarray]:
        """The analytic gradients for `dy`, after a forward, from gradients of zero."""
        self.layer.zero_grad()
        self.forward()
        return self.backward_again(dy)

    def backward_again(self, dy: np.ndarray) -> dict[str, np.ndarray]:
        """As `backward`, on top of the gradients that are there, without a forward."""
        backward: Any = self.layer.backward
        if inspect.signature(backward).parameters:
            dx = backward(float(dy) if dy.ndim == 0 else dy)
        else:
            dx = backward()  # a loss, where the chain begins: dL/dloss = 1
            dx *= dy
        return {"x": dx} | {key: parameter.grad for key, parameter in self.layer.named_parameters()}

    def eps(self, name: str, index: Index, step: float = STEPS[0]) -> float:
        return step * max(1.0, abs(float(self.arrays[name][index])))

    def moved(self, name: str, index: Index, eps: float) -> tuple[np.ndarray, float]:
        """y with eps added to one entry of one array, and the entry as it then was: rounded."""
        array = self.arrays[name]
        before = array[index]
        array[index] = before + eps
        try:
            return self.forward(), float(array[index])
        finally:
            array[index] = before

    def slope(self, name: str, index: Index) -> Slope | None:
        """dL by d(entry) from central differences; None at a kink."""
        here = float(self.arrays[name][index])
        bends: list[float] = []
        slopes: list[Slope] = []
        for step in STEPS:
            eps = self.eps(name, index, step)
            (up, above), (down, below) = self.moved(name, index, eps), self.moved(name, index, -eps)
            right, left = (up - self.y) / (above - here), (self.y - down) / (here - below)
            value = float(np.sum((up - down) * self.dy)) / (above - below)
            slopes.append(Slope(value, self._rounding(up, down) / (above - below), eps, bool((up != down).any())))
            steep = float(np.sum(np.abs(right) + np.abs(left)))
            unsure = ROUNDING * np.spacing(np.maximum(np.abs(up), np.abs(down))) / eps
            bends.append(float(np.sum(np.maximum(np.abs(right - left) - unsure, 0))))
            if bends[-1] <= BEND * steep:
                return slopes[-1]
            # shrinks with the step and leaves the slope alone: curved, not bent
            if len(bends) > 1 and bends[-1] < 0.3 * bends[-2] and _alike(*slopes[-2:]):
                return slopes[-2]
        return None

    def _rounding(self, up: np.ndarray, down: np.ndarray) -> float:
        """How far rounding of the outputs may move L(up) - L(down): errors of random sign, since dy is random."""
        size = np.maximum(np.abs(up), np.abs(down))
        still = up == down
        # An output that stands still has no rounding error. But if all do, the entry is either without effect or lost
        # on the way: 1 + 1e-18 is 1, in tanh(18) or within a log(1 + ...) = 0, whose result shows nothing of the 1.
        size = np.maximum(size, 1) if still.all() else np.where(still, 0, size)
        return ROUNDING * float(np.linalg.norm(np.where(size > 0, np.spacing(size), 0) * self.dy))

    def measured_noise(self, name: str, index: Index, eps: float) -> float:
        """Noise of a slope that inner terms larger than y cause, as in log(1 + 1e-9).

        Third differences of L at nine points between -eps and eps: a smooth L has none to speak of, rounding does.
        """
        values = [
            float(np.sum((self.moved(name, index, at)[0] - self.y) * self.dy)) for at in np.linspace(-eps, eps, 9)
        ]
        return 4 * float(np.max(np.abs(np.diff(values, 3)))) / (2 * eps)


def gradcheck(
    layer: Layer, x: np.ndarray, *args: Any, rtol: float = 1e-6, max_checks: int = 100, seed: int = 0
) -> GradcheckReport:
    """Compare backward() of `layer` at `x` with central differences of its forward(x, *args), which it never changes.

    Works on a float64 copy of the layer. Checks x and every parameter, at most `max_checks` entries of each (drawn by
    `seed`). Skipped and listed in the report are entries where a slope does not exist, ReLU at 0 or a tie in MaxPool,
    and entries where backward and differences both give less than the rounding noise, as for tanh(18).
    `args` go to forward, such as the labels of SoftmaxCE. A layer can be a whole Sequential.

    Raises GradcheckError, with a report of what is wrong where and the likely cause, if an entry is off by more than
    rtol (relative) and its rounding noise together, a shape is wrong, x or dy was changed, .grad was not added to, or
    no entry of an array could be checked.
    """
    probe = Probe(layer, x, args, seed)
    analytic = _analytic(probe)
    report = GradcheckReport(probe.name)
    for name, gradient in analytic.items():
        order = random.permutation(gradient.size, seed, f"gradcheck {name}")[:max_checks]
        indices: list[Index] = [tuple(int(i) for i in np.unravel_index(flat, gradient.shape)) for flat in order]
        slopes = {index: slope for index in indices if (slope := probe.slope(name, index)) is not None}
        scale = max((abs(slope.value) for slope in slopes.values()), default=0.0)
        for index, slope in slopes.items():
            if slope.moved and not _error(gradient[index], slope, scale, rtol) <= rtol:
                noise = max(slope.noise, probe.measured_noise(name, index, slope.eps))
                slopes[index] = slope._replace(noise=noise)
        numeric = {index: slope for index, slope in slopes.items() if not _too_small(gradient[index], slope)}
        report.kinks += [(name, index) for index in indices if index not in slopes]
        report.too_small += [(name, index) for index in slopes if index not in numeric]
        if not numeric:
            raise GradcheckError(nothing_checked(probe, name, len(indices), len(slopes)))
        errors = {index: _error(gradient[index], slope, scale, rtol) for index, slope in numeric.items()}
        report.checked[name], report.worst[name] = len(numeric), max(errors.values())
        if not report.worst[name] <= rtol:
            raise GradcheckError(complaint(probe, name, gradient, numeric, errors, rtol))
    return report


def _alike(a: Slope, b: Slope) -> bool:
    return abs(a.value - b.value) <= BEND * abs(a.value) + a.noise + b.noise


def _error(analytic: float, slope: Slope, scale: float, rtol: float) -> float:
    """Relative to the entry, or to FLOOR of the array's largest; above rtol, only what rounding does not explain."""
    if analytic == slope.value:
        return 0.0
    difference, size = abs(analytic - slope.value), max(abs(analytic), abs(slope.value), FLOOR * scale)
    if difference > rtol * size:
        difference = max(difference - slope.noise, 0.0)
    error = difference / size
    return error if error == error else float("inf")


def _too_small(analytic: float, slope: Slope) -> bool:
    """Whether both values are below the noise; 0 where nothing moves, as behind a dead ReLU, is simply right."""
    without_effect = analytic == 0 and not slope.moved
    return not without_effect and abs(analytic) < slope.noise and abs(slope.value) < slope.noise


def _analytic(probe: Probe) -> dict[str, np.ndarray]:
    """What backward gives, after checks of all that can be seen without a derivative."""
    x, dy = probe.x.copy(), probe.dy.copy()
    first = {key: None if g is None else np.array(g) for key, g in probe.backward(dy).items()}
    for key, array in probe.arrays.items():
        gradient = first[key]
        what = "dx" if key == "x" else f"{key}.grad"
        if gradient is None:
            raise GradcheckError(f"gradcheck: {probe.name}: backward returned None, expected dx of shape {array.shape}")
        if gradient.shape != array.shape:
            raise GradcheckError(
                f"gradcheck: {probe.name}: expected {what} of shape {array.shape}, got {gradient.shape}; likely cause: "
                "an axis is not summed, or axes are in another order"
            )
    if not np.array_equal(x, probe.x) or not np.array_equal(dy, probe.dy):
        changed = "x" if not np.array_equal(x, probe.x) else "dy"
        raise GradcheckError(
            f"gradcheck: {probe.name}: {changed} was changed in place; forward and backward must leave it"
        )
    probe.forward()
    for key, twice in probe.backward_again(dy).items():
        once = first[key]
        if key != "x" and once.any() and np.allclose(twice, once, rtol=1e-9, atol=0):
            raise GradcheckError(
                f"gradcheck: {probe.name}: {key}.grad is overwritten, expected that backward adds to it: a second "
                "backward must give twice the gradient (write .grad += ..., not .grad = ...)"
            )
    return {key: gradient for key, gradient in first.items() if gradient is not None}
