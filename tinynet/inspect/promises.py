"""What every layer promises: a check each, which raises `Wrong`. `special` has what a few of them promise besides.

Each makes its own layer, so that none depends on what another left. Their order is that in which a mistake shows
itself best: whatever is wrong with forward comes before backward.
"""

from typing import Any

import numpy as np

from tinynet.errors import BackwardBeforeForwardError
from tinynet.inspect import diagnosis
from tinynet.inspect.gradcheck import gradcheck
from tinynet.inspect.reference import slip
from tinynet.inspect.special import SPECIAL, Check
from tinynet.inspect.trial import COARSE, EXACT, FILLS, Trial, Wrong
from tinynet.layers.layer import Layer

MAX_CHECKS = 100  # entries of an array that are differentiated


# forward


def forward_gives_numbers(trial: Trial) -> None:
    y = trial.forward(trial.make(), trial.x())
    if not np.isfinite(y).all():
        raise Wrong("forward", f"gives {diagnosis.worst_not_finite(y)}, expected finite numbers")


def forward_is_the_formula(trial: Trial) -> None:
    if trial.formula is None:
        return
    for fill in FILLS:
        layer, x = trial.make(), trial.x(fill)
        y, right = trial.forward(layer, x), trial.formula(layer, x, *trial.example.args)
        if (found := diagnosis.difference("y", y, right, EXACT)) is None:
            continue
        what, details = found
        cause = slip(trial.kind, layer, x, trial.example.args, y) or diagnosis.cause_of_forward(y, right)
        raise Wrong("forward", what + (f"; likely cause: {cause}" if cause else ""), details)


def output_shape_agrees(trial: Trial) -> None:
    shape = trial.example.shape
    y = trial.forward(trial.make(), trial.x())
    try:
        said = trial.make().output_shape(shape)
    except Exception as error:
        raise trial.failed("output_shape", error, f"fails for {shape}") from None
    if said is None or tuple(said) != np.shape(y):
        raise Wrong("output_shape", f"says {said} for x of shape {shape}, but forward gives {np.shape(y)}")


def forward_is_the_same_again(trial: Trial) -> None:
    layer, x = trial.make(), trial.x()
    first = trial.forward(layer, x).copy()
    if not np.array_equal(first, trial.forward(layer, x)):
        raise Wrong(
            "forward",
            "gives two results for one x; random numbers come from tinynet.random with a step that at_step sets, "
            "as in Dropout",
        )


def evaluation_is_steady(trial: Trial) -> None:
    """In evaluation an answer depends on x alone."""
    layer, x = trial.make().eval(), trial.x()
    first = trial.forward(layer, x).copy()
    again = trial.forward(layer, x, step=None)
    if not np.array_equal(first, again):
        raise Wrong("forward", "gives two results for one x in evaluation: what is random acts in training only")
    if np.ndim(first) > 0 and len(first) == len(x) and not trial.example.args:
        one = trial.forward(layer, x[:1].copy(), "a batch of one")
        if diagnosis.difference("y", one, first[:1], EXACT):
            raise Wrong("forward", "gives a picture another answer, in evaluation, if it comes without its batch")


# backward


def backward_waits_for_forward(trial: Trial) -> None:
    dy = trial.dy(trial.forward(trial.make(), trial.x()))
    try:
        trial.make().backward(dy)
    except BackwardBeforeForwardError:
        return
    except Exception as error:
        got = diagnosis.one_line(f"{type(error).__name__}: {error}")
    else:
        got = "numbers"
    raise Wrong(
        "backward",
        f"before any forward should raise BackwardBeforeForwardError, which reading self.saved does; got {got}",
    )


def backward_gives_numbers(trial: Trial) -> None:
    layer = trial.make()
    dx = trial.backward(layer, trial.dy(trial.forward(layer, trial.x())))
    if not np.isfinite(dx).all():
        raise Wrong("backward", f"gives {diagnosis.worst_not_finite(dx, 'dx')}, expected finite numbers")


def backward_leaves_all_as_it_was(trial: Trial) -> None:
    layer, x = trial.make(), trial.x()
    y = trial.forward(layer, x)
    before, y_before = x.copy(), np.copy(y)
    weights = {name: parameter.data.copy() for name, parameter in layer.named_parameters()}
    trial.backward(layer, trial.dy(y))
    for name, array, old in (("x", x, before), ("y", y, y_before)):
        if not np.array_equal(array, old):
            raise Wrong("backward", f"changes {name} in place, which others still read: work on a copy")
    for name, parameter in layer.named_parameters():
        if not np.array_equal(parameter.data, weights[name]):
            raise Wrong("backward", f"changes {name}.data; it only adds to {name}.grad, the optimiser does the rest")


def backward_is_the_derivative(trial: Trial) -> None:
    try:
        gradcheck(trial.make(), trial.x(), *trial.example.args, max_checks=MAX_CHECKS)
    except Exception as error:
        method, what, details = diagnosis.of_gradcheck(error)
        if "no usual cause" in what and (cause := _of_dy(trial)):
            what = f"{what.partition('; no usual cause')[0]}; likely cause: {cause}"
        if method:
            raise Wrong(method, what, details) from None
        raise trial.failed("backward", error, "fails in gradcheck") from None


def _of_dy(trial: Trial) -> str | None:
    """What is wrong with how dx depends on dy: it must grow in proportion."""
    layer = trial.make()
    dy = trial.dy(trial.forward(layer, trial.x()))
    once, other = trial.backward(layer, dy).copy(), trial.backward(layer, -3 * dy)
    if np.array_equal(once, other):
        return "backward does not use dy: the chain rule multiplies the layer's own derivative by it"
    if diagnosis.difference("dx", other, -3 * once, EXACT):
        return "dx does not grow in proportion to dy: dy stands in a condition or a power"
    return None


def backward_adds(trial: Trial) -> None:
    """A value that is used twice gets the sum of two gradients."""
    layer, x = trial.make(), trial.x()
    dy = trial.dy(trial.forward(layer, x))
    dx = trial.backward(layer, dy).copy()
    once = {name: parameter.grad.copy() for name, parameter in layer.named_parameters()}
    again = trial.backward(layer, dy)
    if found := diagnosis.difference("dx", again, dx, EXACT):
        raise Wrong("backward", f"called twice after one forward gives another dx: {found[0]}", found[1])
    for name, parameter in layer.named_parameters():
        if found := diagnosis.difference(f"{name}.grad", parameter.grad, 2 * once[name], EXACT):
            raise Wrong(
                "backward",
                f"called twice must add to {name}.grad twice (+= and not =): {found[0]}",
                found[1],
            )


def backward_belongs_to_the_last_forward(trial: Trial) -> None:
    alone, layer = trial.make(), trial.make()
    x, other = trial.x(), trial.x("negative")
    dy = trial.dy(trial.forward(alone, x))
    right = trial.backward(alone, dy)
    trial.forward(layer, other)
    trial.forward(layer, x)
    if found := diagnosis.difference("dx", trial.backward(layer, dy), right, EXACT):
        raise Wrong("backward", f"after two forwards does not belong to the last one: {found[0]}", found[1])


def any_layout_of_memory_will_do(trial: Trial) -> None:
    layer, x = trial.make(), trial.x()
    y = trial.forward(layer, x)
    dy = trial.dy(y)
    dx = trial.backward(layer, dy)
    for order in (diagnosis.axes_reversed_in_memory, diagnosis.with_gaps):
        layer, what = trial.make(), "an x that is not contiguous in memory,"
        got = trial.forward(layer, order(x), what)
        if found := diagnosis.difference("y", got, y, EXACT):
            raise Wrong("forward", f"depends on how memory holds x: {found[0]}", found[1])
        got = trial.backward(layer, order(dy), "a dy that is not contiguous in memory,")
        if found := diagnosis.difference("dx", got, dx, EXACT):
            raise Wrong("backward", f"depends on how memory holds dy: {found[0]}", found[1])


def float32_will_do(trial: Trial) -> None:
    results: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
    for dtype in (np.float64, np.float32):
        layer, x = trial.make(dtype), trial.x(dtype=dtype)
        y = trial.forward(layer, x)
        if y.dtype != dtype and np.ndim(y) > 0:
            raise Wrong("forward", f"gives {y.dtype} for an x of {np.dtype(dtype)}; it has to keep the type")
        dx = trial.backward(layer, trial.dy(np.asarray(y)))
        if dx.dtype != dtype:
            raise Wrong("backward", f"gives dx of {dx.dtype} for an x and dy of {np.dtype(dtype)}")
        results[dtype] = y, dx
    for name, got, right in zip(("y", "dx"), results[np.float32], results[np.float64], strict=True):
        if found := diagnosis.difference(name, got, right, COARSE):
            raise Wrong("forward" if name == "y" else "backward", f"in float32: {found[0]}", found[1])


def promises(trial: Trial) -> list[Check]:
    """Those that are to be checked, in order."""
    checks: list[Check] = [forward_gives_numbers]
    checks += [forward_is_the_formula] if trial.formula else []
    checks += [output_shape_agrees] if trial.kind.output_shape is not Layer.output_shape else []
    checks += [forward_is_the_same_again, evaluation_is_steady]
    checks += [backward_waits_for_forward] if trial.own else []
    checks += [
        backward_gives_numbers,
        backward_leaves_all_as_it_was,
        backward_is_the_derivative,
        backward_adds,
        backward_belongs_to_the_last_forward,
        any_layout_of_memory_will_do,
        float32_will_do,
    ]
    return checks + (SPECIAL.get(trial.kind.__name__, []) if trial.own else [])
