"""Is backward() the derivative of forward()? Every gradient against central differences, in float64.

    gradcheck(Conv2d(2, 3, kernel_size=3), x)

For L = sum(y * dy) with a random dy, (L(x + eps) - L(x - eps)) / (2 * eps) must equal the dx that backward(dy) gives,
and the same for every parameter. dy is random because many errors vanish under dy = 1: a gradient that forgets dy, or
mixes up the outputs, is right there.
"""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinynet import random
from tinynet.errors import GradcheckError
from tinynet.gradcheck_causes import likely_cause
from tinynet.layers.base import Layer

Index = tuple[int, ...]
STEPS = (1e-5, 1e-6, 1e-7)  # of the differences; the smaller ones step around a nearby kink
BEND = 1e-3  # slopes to the left and right that differ by more than this share are a kink, if smaller steps agree
FLOOR = 1e-3  # an error counts relative to the entry, or to this share of the array's largest entry


@dataclass
class GradcheckReport:
    """What was checked: entries and worst relative error of each array, and the entries skipped for lying at a kink."""

    layer: str
    checked: dict[str, int] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    kinks: list[tuple[str, Index]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"gradcheck: {self.layer}: gradients agree"]
        lines += [
            f"  {name}: {n} entries, worst relative error {self.worst[name]:.1e}" for name, n in self.checked.items()
        ]
        if self.kinks:
            name, index = self.kinks[0]
            lines.append(f"  {len(self.kinks)} entries lie at a kink and were skipped, the first {name}{list(index)}")
        return "\n".join(lines)


class Probe:
    """A float64 copy of the layer on a float64 copy of its input, and the scalar L = sum(y * dy)."""

    def __init__(self, layer: Layer, x: np.ndarray, args: tuple[Any, ...], seed: int):
        self.layer = copy.deepcopy(layer).astype(np.float64)
        self.layer.input_grad = True
        self.name = str(layer)
        self.x = np.array(x, np.float64)
        self.args = args
        self.arrays = {"x": self.x} | {key: parameter.data for key, parameter in self.layer.named_parameters()}
        self.y = self.forward()
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

    def moved(self, name: str, index: Index, eps: float) -> np.ndarray:
        """y with eps added to one entry of one array."""
        array = self.arrays[name]
        before = array[index]
        array[index] = before + eps
        try:
            return self.forward()
        finally:
            array[index] = before

    def slope(self, name: str, index: Index) -> float | None:
        """dL by d(entry) from central differences; None at a kink."""
        bends = []
        slopes = []
        for eps in STEPS:
            up, down = self.moved(name, index, eps), self.moved(name, index, -eps)
            right, left = (up - self.y) / eps, (self.y - down) / eps
            slopes.append(float(np.sum((up - down) * self.dy) / (2 * eps)))
            steep = float(np.sum(np.abs(right) + np.abs(left)))
            bends.append(float(np.sum(np.abs(right - left))))
            if bends[-1] <= BEND * steep:
                return slopes[-1]
            if len(bends) > 1 and bends[-1] < 0.3 * bends[-2]:  # shrinks with the step: curved, not bent
                return slopes[-2]
        return None


def gradcheck(
    layer: Layer, x: np.ndarray, *args: Any, rtol: float = 1e-6, max_checks: int = 100, seed: int = 0
) -> GradcheckReport:
    """Compare backward() of `layer` at `x` with central differences of its forward(x, *args), which it never changes.

    Works on a float64 copy of the layer. Checks x and every parameter, at most `max_checks` entries of each (drawn by
    `seed`). Entries where a slope does not exist, ReLU at 0 or a tie in MaxPool, are skipped and listed in the report.
    `args` go to forward, such as the labels of SoftmaxCE. A layer can be a whole Sequential.

    Raises GradcheckError, with a report of what is wrong where and the likely cause, if the relative error of an entry
    is above rtol, a shape is wrong, x or dy was changed, .grad was not added to, or no entry of an array could be
    checked.
    """
    probe = Probe(layer, x, args, seed)
    analytic = _analytic(probe)
    report = GradcheckReport(probe.name)
    for name, gradient in analytic.items():
        order = random.permutation(gradient.size, seed, f"gradcheck {name}")[:max_checks]
        indices: list[Index] = [tuple(int(i) for i in np.unravel_index(flat, gradient.shape)) for flat in order]
        numeric = {index: slope for index in indices if (slope := probe.slope(name, index)) is not None}
        report.kinks += [(name, index) for index in indices if index not in numeric]
        if not numeric:
            raise GradcheckError(
                f"gradcheck: {probe.name}: all {len(indices)} entries of {name} lie at a kink (ReLU at 0, a tie in "
                "MaxPool), so nothing could be checked; take an x whose values are apart from each other and from 0"
            )
        scale = max(abs(slope) for slope in numeric.values())
        errors = {index: _relative_error(gradient[index], slope, FLOOR * scale) for index, slope in numeric.items()}
        report.checked[name], report.worst[name] = len(numeric), max(errors.values())
        if not report.worst[name] <= rtol:
            raise GradcheckError(_complaint(probe, name, gradient, numeric, errors, rtol))
    return report


def _relative_error(analytic: float, numeric: float, floor: float) -> float:
    error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor, 1e-12)
    return error if error == error else float("inf")


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


def _complaint(probe, name, gradient, numeric, errors, rtol):
    wrong = sorted((index for index in errors if not errors[index] <= rtol), key=lambda index: -errors[index])
    what = "dx" if name == "x" else f"{name}.grad"
    lines = [
        f"gradcheck: {probe.name}: {what} is wrong at {len(wrong)} of {len(errors)} entries checked",
        f"  {'index':>20}  {'analytic':>13}  {'numeric':>13}  relative error",
    ]
    lines += [
        f"  {what + str(list(index)):>20}  {gradient[index]:13.6g}  {numeric[index]:13.6g}  {errors[index]:.2g}"
        for index in wrong[:5]
    ]
    cause = likely_cause(probe, name, gradient, numeric, wrong[0])
    lines.append(f"  likely cause: {cause}" if cause else "  no simple cause fits: check the formula term by term")
    return "\n".join(lines)
