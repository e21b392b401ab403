"""What is probably wrong with a gradient that is not the derivative: the usual mistakes, tried one by one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tinynet.gradcheck import Index, Probe

CLOSE = 1e-4  # relative: two arrays that differ by less are the same for a diagnosis
MAX_NUMERIC = 2000  # entries of an array that a diagnosis differentiates, for mistakes that mix entries


def likely_cause(
    probe: Probe, name: str, analytic: np.ndarray, numeric: dict[Index, float], worst: Index
) -> str | None:
    """One sentence, or None if no usual mistake explains the difference."""
    at = tuple(np.array(list(numeric)).T)
    sampled = analytic[at], np.array(list(numeric.values()))
    cause = _not_finite(analytic) or _all_zero(*sampled) or _constant_ratio(probe, *sampled)
    if cause:
        return cause
    if analytic.size <= MAX_NUMERIC:
        full = np.array([probe.slope(name, index) or 0.0 for index in np.ndindex(analytic.shape)]).reshape(
            analytic.shape
        )
        cause = _other_order(analytic, full)
    return (
        cause
        or _bias_not_summed(probe, analytic)
        or _kernel_not_flipped(probe, name, *sampled, at)
        or _lost_term(probe, name, worst)
    )


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


def _constant_ratio(probe: Probe, analytic: np.ndarray, numeric: np.ndarray) -> str | None:
    if not numeric.any():
        return None
    ratio = float(analytic @ numeric / (numeric @ numeric))
    if not _same(analytic, ratio * numeric) or len(numeric) < 2:
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
        flipped = np.array([probe.slope(name, tuple(int(i) for i in index)) or 0.0 for index in zip(*at, strict=True)])
    finally:
        for kernel in kernels:
            kernel[...] = kernel[..., ::-1, ::-1].copy()
        probe.y = y
    return "kernel not flipped: dx is right for a kernel turned by 180 degrees" if _same(analytic, flipped) else None


def _lost_term(probe: Probe, name: str, worst: Index) -> str | None:
    """Some output moves with the entry, but nothing of that output's dy arrives there."""
    eps = 1e-5
    moves = (probe.moved(name, worst, eps) - probe.moved(name, worst, -eps)) / (2 * eps)
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
