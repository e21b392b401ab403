"""What single layers of tinynet promise beside what all do, and what no gradient check can see: a check each."""

import math
from collections.abc import Callable

import numpy as np

from tinynet.inspect import diagnosis
from tinynet.inspect.trial import EXACT, Trial, Wrong

Check = Callable[[Trial], None]


def ties_are_fair(trial: Trial) -> None:
    """At equal maxima and at 0 there are several right answers, and wrong ones."""
    layer, x = trial.make(), trial.x("ties")
    y = trial.forward(layer, x)
    if trial.kind.__name__ == "ReLU":
        dy = np.abs(trial.dy(y)) + 0.1
        dx = trial.backward(layer, dy)
        share = dx[x == 0] / dy[x == 0]
        if ((share < 0) | (share > 1)).any():
            raise Wrong("backward", "at x = 0 gives dx that is not between 0 and dy")
        return
    for index in np.ndindex(*y.shape):
        one = np.zeros_like(y)
        one[index] = 1.0
        dx = trial.backward(layer, one)
        on_maxima = x[index[:2]] == y[index]
        if not math.isclose(dx.sum(), 1) or (dx < 0).any() or (dx[index[:2]][~on_maxima] != 0).any():
            raise Wrong(
                "backward",
                f"gives all equal maxima of a window {dx.sum():g} times dy together; they must share one dy, or the "
                "first of them gets it; likely cause: dy goes to every x that equals the maximum",
                [f"dy is 1 at {list(index)} and else 0; dx is not 0 at {np.argwhere(dx).tolist()}"],
            )


def dropout_drops(trial: Trial) -> None:
    """Its numbers are random: shares and means, the mask again in backward, and evaluation."""
    layer, x = trial.make(), 1 + np.abs(trial.x())
    y = trial.forward(layer, x)
    if problem := diagnosis.dropped_wrongly(layer.p, x, y):
        raise Wrong("forward", problem)
    dx = trial.backward(layer, np.ones_like(x))
    if found := diagnosis.difference("dx", dx, y / x, EXACT):
        raise Wrong("backward", f"does not use forward's mask and factor: {found[0]}", found[1])
    first = y.copy()
    following = trial.forward(layer, x, step=None)
    if layer.p > 0 and np.array_equal(first, following):
        raise Wrong("forward", "drops the same elements in each step: count self.step up")
    layer.eval()
    if found := diagnosis.difference("y", trial.forward(layer, x), x, EXACT):
        raise Wrong("forward", f"in evaluation must give x itself: {found[0]}", found[1])
    if found := diagnosis.difference("dx", trial.backward(layer, x), x, EXACT):
        raise Wrong("backward", f"in evaluation must give dy itself: {found[0]}", found[1])


def large_numbers_will_do(trial: Trial) -> None:
    """Of softmax: its row's largest number has to be subtracted first."""
    assert trial.formula is not None
    layer, x = trial.make(), 1e4 * trial.x()
    y, right = trial.forward(layer, x), trial.formula(layer, x, *trial.example.args)
    if found := diagnosis.difference("y", np.asarray(y), right, EXACT):
        cause = "likely cause: exp overflows: subtract each row's largest logit first"
        raise Wrong("forward", f"with logits of 1e4: {found[0]}; {cause}", found[1])
    dx = trial.backward(layer, trial.dy(np.asarray(y)))
    if not np.isfinite(dx).all():
        raise Wrong("backward", f"with logits of 1e4 gives {diagnosis.worst_not_finite(dx, 'dx')}")


def wrong_labels_are_refused(trial: Trial) -> None:
    """Else labels (N, 1) beside (N,) would be broadcast to (N, N), and -1 would be the last class."""
    (labels,) = trial.example.args
    classes = trial.example.shape[1]
    for wrong, what in (
        ([[label] for label in labels], "labels of shape (N, 1)"),
        ([-1, *labels[1:]], "the label -1"),
        ([classes, *labels[1:]], f"the label {classes} of {classes} classes"),
    ):
        try:
            trial.make().forward(trial.x(), wrong)
        except ValueError:
            continue
        except Exception as error:
            raise trial.failed("forward", error, f"should raise ValueError for {what}, got another error") from None
        raise Wrong("forward", f"takes {what}; it should raise ValueError")


SPECIAL: dict[str, list[Check]] = {
    "Dropout": [dropout_drops],
    "MaxPool": [ties_are_fair],
    "ReLU": [ties_are_fair],
    "SoftmaxCE": [large_numbers_will_do, wrong_labels_are_refused],
}
