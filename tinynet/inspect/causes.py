"""What gradcheck says of a gradient that is not the derivative: where, and which of the usual mistakes it may be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tinynet.inspect.gradcheck import Index, Probe, Slope

CLOSE = 1e-4  # relative: two arrays that differ by less are the same for a diagnosis
MAX_NUMERIC = 2000  # entries of an array that a diagnosis differentiates, for mistakes that mix entries


def complaint(
    probe: Probe,
    name: str,
    gradient: np.ndarray,
    numeric: dict[Index, Slope],
    errors: dict[Index, float],
    rtol: float,
) -> str:
    """What is wrong where, the five worst entries, and why."""
    wrong = sorted((index for index in errors if not errors[index] <= rtol), key=lambda index: -errors[index])
    what = "dx" if name == "x" else f"{name}.grad"
    lines = [
        f"gradcheck: {probe.name}: {what} is wrong at {len(wrong)} of {len(errors)} entries checked",
        f"  {'index':>20}  {'analytic':>13}  {'numeric':>13}  relative error",
    ]
    lines += [
        f"  {what + str(list(index)):>20}  {gradient[index]:13.6g}  {numeric[index].value:13.6g}  {errors[index]:.2g}"
        for index in wrong[:5]
    ]
    cause = likely_cause(probe, name, gradient, numeric, wrong[0])
    lines.append(f"  likely cause: {cause}" if cause else "  no simple cause fits: check the formula term by term")
    return "\n".join(lines)


def nothing_checked(probe: Probe, name: str, n: int, n_slopes: int) -> str:
    """Why none of the n entries of an array could be checked, `n_slopes` of which have a slope, and what to do."""
    if n_slopes == 0:
        why = f"all {n} entries of {name} lie at a kink (ReLU at 0, a tie in MaxPool)"
        remedy = "take an x whose values are apart from each other and from 0"
    else:
        at_kinks = f", and the other {n - n_slopes} lie at a kink" if n > n_slopes else ""
        why = f"the gradient of {n_slopes} of {n} entries of {name} is below the rounding noise{at_kinks}"
        remedy = "take an x where the outputs move with the entries: nearer to 0 if the layer is saturated there"
    return f"gradcheck: {probe.name}: {why}, so nothing could be checked; {remedy}"


def likely_cause(
    probe: Probe, name: str, analytic: np.ndarray, numeric: dict[Index, Slope], worst: Index
) -> str | None:
    """One sentence, or None if no usual mistake explains the difference."""
    at = tuple(np.array(list(numeric)).T)
    sampled = analytic[at], np.array([slope.value for slope in numeric.values()])
    noise = np.array([slope.noise for slope in numeric.values()])
    cause = _not_finite(analytic) or _all_zero(*sampled) or _constant_ratio(probe, *sampled, noise)
    if cause:
        return cause
    if analytic.size <= MAX_NUMERIC:
        full = _slopes(probe, name, np.ndindex(analytic.shape)).reshape(analytic.shape)
        cause = _other_order(analytic, full)
    return (
        cause
        or _bias_not_summed(probe, analytic)
        or _kernel_not_flipped(probe, name, *sampled, at)
        or _lost_term(probe, name, worst)
    )


def _slopes(probe: Probe, name: str, indices: Iterable[Index]) -> np.ndarray:
    """The numeric gradient at `indices`, 0 at a kink."""
    return np.array([slope.value if (slope := probe.slope(name, index)) else 0.0 for index in indices])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.linalg.norm(a - b)) <= CLOSE * float(np.linalg.norm(b))


def _not_finite(analytic: np.ndarray) -> str | None:
    return (
        None
        if np.isfinite(analytic).all()
        else "the gradient holds NaN or infinity: a division by zero, or an empty array"
    )


def _all_zero(analytic: np.ndarray, numeric: np.ndarray) -> str | None:
    return "the gradient is zero everywhere: backward never writes it" if not analytic.any() and numeric.any() else None


def _constant_ratio(probe: Probe, analytic: np.ndarray, numeric: np.ndarray, noise: np.ndarray) -> str | None:
    """A factor other than 1, by more than a diagnosis can tell and rounding can make."""
    if not numeric.any():
        return None
    ratio = float(analytic @ numeric / (numeric @ numeric))
    if not _same(analytic, ratio * numeric) or len(numeric) < 2:
        return None
    if abs(ratio - 1) < CLOSE + float(np.linalg.norm(noise) / np.linalg.norm(numeric)):
        return None
    if abs(ratio + 1) < CLOSE:
        return "wrong sign: analytic = -1 x numeric everywhere"
    N = len(probe.x)
    found = f"a constant factor: analytic = {ratio:.6g} x numeric everywhere"
    for factor, why in (
        (N, "the batch size: is a mean's 1/N missing?"),
        (1 / N, "one over the batch size: is 1/N once too often?"),
    ):
        if N > 1 and abs(abs(ratio) / factor - 1) < CLOSE:
            return f"{found}; {abs(ratio):.6g} is {why}"
    return f"{found}: a factor of the formula is missing or stands there twice"


def _other_order(analytic: np.ndarray, numeric: np.ndarray) -> str | None:
    """The right numbers in the wrong places: axes swapped, or an axis walked backwards."""
    for i, j in itertools.combinations(range(analytic.ndim), 2):
        swapped = list(analytic.shape)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        if _same(analytic.reshape(swapped).swapaxes(i, j), numeric):
            return f"transposed: right with axes {i} and {j} swapped"
    for count in range(1, analytic.ndim + 1):
        for axes in itertools.combinations(range(analytic.ndim), count):
            if _same(np.flip(analytic, axes), numeric):
                return (
                    f"flipped: right when read backwards along axes {list(axes)}; is the kernel flipped once too often?"
                )
    return None


def _bias_not_summed(probe: Probe, analytic: np.ndarray) -> str | None:
    """A bias gets the sum of dy over all axes but its own; here some were left out."""
    dy = probe.dy
    if analytic.ndim != 1 or dy.ndim < 2 or dy.shape[1] != analytic.size:
        return None
    others = [axis for axis in range(dy.ndim) if axis != 1]
    for count in range(len(others)):
        for axes in itertools.combinations(others, count):
            part = dy.sum(axis=axes, keepdims=True)
            left_out = [axis for axis in others if axis not in axes]
            for end, where in ((0, "first"), (-1, "last")):
                if _same(part.take(end, left_out[0]).reshape(-1)[: analytic.size], analytic) or _same(
                    part[tuple(slice(None) if axis == 1 or axis in axes else end for axis in range(dy.ndim))].reshape(
                        -1
                    ),
                    analytic,
                ):
                    return (
                        f"bias not summed: it has dy of the {where} entry only along axes {left_out}; "
                        f"sum dy over axes {others}"
                    )
    return None


def _kernel_not_flipped(probe: Probe, name: str, analytic: np.ndarray, numeric: np.ndarray, at) -> str | None:
    """dx of a convolution runs the kernel backwards; without, it is the dx of the layer with the kernel flipped."""
    kernels = [array for key, array in probe.arrays.items() if key != name and array.ndim == 4 and key != "x"]
    if name != "x" or not kernels:
        return None
    y = probe.y
    try:
        for kernel in kernels:
            kernel[...] = kernel[..., ::-1, ::-1].copy()
        probe.y = probe.forward()
        flipped = _slopes(probe, name, (tuple(int(i) for i in index) for index in zip(*at, strict=True)))
    finally:
        for kernel in kernels:
            kernel[...] = kernel[..., ::-1, ::-1].copy()
        probe.y = y
    return "kernel not flipped: dx is right for a kernel turned by 180 degrees" if _same(analytic, flipped) else None


def _lost_term(probe: Probe, name: str, worst: Index) -> str | None:
    """Some output moves with the entry, but nothing of that output's dy arrives there."""
    eps = probe.eps(name, worst)
    (up, above), (down, below) = probe.moved(name, worst, eps), probe.moved(name, worst, -eps)
    moves = (up - down) / (above - below)
    reached = [tuple(int(i) for i in index) for index in np.argwhere(np.abs(moves) > 1e-6 * np.abs(moves).max())][:64]
    for output in reached:
        one = np.zeros_like(probe.dy)
        one[output] = 1.0
        arrived = float(probe.backward(one)[name][worst])
        if abs(arrived) < 1e-9 * abs(moves[output]):
            return (
                f"term dropped: {name}{list(worst)} moves y{list(output)} (dy/d{name} = {moves[output]:.6g}), but "
                f"nothing of dy{list(output)} reaches its gradient"
            )
    return None
