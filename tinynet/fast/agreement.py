"""Do a layer's own lines and its fast twin give the same numbers? Each twin against the lines, on all examples.

The bounds are relative to an array's largest entry: rounding, for sums of a hundred terms or so, in another order, and
for Winograd's algorithm, whose constants make the rounding some ten times as large.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet import random
from tinynet.errors import BackwardBeforeForwardError
from tinynet.fast import single
from tinynet.inspect.examples import ROWS, Example
from tinynet.inspect.trial import FILLS, Trial
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter
from tinynet.mode import plain
from tinynet.ops.conv.choose import ALGORITHMS
from tinynet.ops.elementwise import sgd_step
from tinynet.optim.sgd import SGD

BOUNDS: dict[np.dtype, float] = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 1e-5}


def disagreement(kind: type[Layer]) -> str | None:
    """The first array in which a layer's lines and its twin differ, by how much, on which example; None if they agree.

    The lines are those of forward and backward as they stand now, the twin is called by itself: it does not matter
    whether a pass would take it.
    """
    for example in ROWS[kind]:
        for setting, made in _settings(kind, example):
            for dtype, bound in BOUNDS.items():
                for fill in FILLS:
                    text = _differs(made, example, fill, dtype, bound)
                    if text:
                        return f"{kind.__name__}: {text}, for {setting} and an x of {dtype}, shape {example.shape}"
    return None


def _settings(kind: type[Layer], example: Example) -> Iterator[tuple[str, Any]]:
    """(in words, a function that makes one for a dtype): in training and evaluation, by each algorithm that is."""
    for algorithm in ALGORITHMS if hasattr(single.TWINS[kind], "path") else ("auto",):
        for training in (True, False):

            def make(dtype: Any, algorithm: str = algorithm, training: bool = training) -> Any:
                layer = Trial(kind, example).make(dtype).train(training)
                layer.algorithm = algorithm
                return layer

            try:
                if algorithm != "auto":
                    single.TWINS[kind].path(make(np.float32), example.shape)
            except ValueError:  # not for this kernel
                continue
            yield f"{' '.join(repr(make(np.float32)).split())} in {'training' if training else 'evaluation'}", make


def _differs(make: Any, example: Example, fill: str, dtype: np.dtype, bound: float) -> str | None:
    x = FILLS[fill](example.shape).astype(dtype)
    try:
        with plain():
            expected = _results(make(dtype), x, example.args, fast=False)
    except (Exception, SystemExit) as error:
        return f"its own lines fail: {type(error).__name__}: {error}"
    try:
        got = _results(make(dtype), x, example.args, fast=True)
    except (Exception, SystemExit) as error:
        return f"its twin fails: {type(error).__name__}: {error}"
    for name, right in expected.items():
        if got[name].shape != right.shape:
            return f"{name} is of shape {right.shape} by its lines and {got[name].shape} by its twin"
        if got[name].dtype != right.dtype:
            return f"{name} is of {right.dtype} by its lines and {got[name].dtype} by its twin"
        off = float(np.max(np.abs(got[name] - right), initial=0))
        largest = max(1.0, float(np.max(np.abs(right), initial=0)))
        if not off <= bound * largest:
            return f"{name} differs by {off / largest:.2g} of its largest entry, more than {bound:g}"
    return None


def _results(layer: Any, x: np.ndarray, args: tuple[Any, ...], fast: bool) -> dict[str, np.ndarray]:
    """What a forward and a backward give, and whether backward waits for forward."""
    twin: Any = single.TWINS[type(layer)]
    waits = False
    try:
        _backward(layer, twin, np.ones((1, 1), x.dtype), args, fast)
    except BackwardBeforeForwardError:
        waits = True
    y = twin.forward(layer, x, *args) if fast else NotImplemented
    y = layer.forward(x, *args) if y is NotImplemented else y
    results = {"y": np.array(y)}
    dy = np.cos(np.arange(results["y"].size)).reshape(results["y"].shape).astype(x.dtype)
    dx = _backward(layer, twin, dy, args, fast)
    results |= {"dx": dx} | {f"{name}.grad": parameter.grad for name, parameter in layer.named_parameters()}
    return results | {"whether backward waits for forward": np.array(float(waits))}


def _backward(layer: Any, twin: Any, dy: np.ndarray, args: tuple[Any, ...], fast: bool) -> Any:
    given = float(dy.ravel()[0]) if args else dy  # a loss has a number
    dx = twin.backward(layer, given) if fast else NotImplemented
    return layer.backward(given) if dx is NotImplemented else dx


def update_disagreement() -> str | None:
    """Where SGD's own lines and `sgd_step` differ, after two steps with momentum and decay; None if they agree."""
    for dtype, unit in ((np.float32, 2.0**-24), (np.float64, 2.0**-53)):
        results = []
        for fast in (False, True):
            w, v, gradient = (random.normal((40,), 3, f"update {name}", dtype=dtype) for name in "wvg")
            optimizer = SGD([Parameter(w)], momentum=0.7)
            for lr in (0.3, 0.05):
                if fast:
                    sgd_step(w, v, gradient, 0.7, lr, 0.2)
                else:
                    optimizer.update(w, v, gradient, lr, 0.2)
            results.append(np.concatenate([w, v]))
        error = float(np.abs(results[0] - results[1]).max())
        if not error <= 32 * unit * float(np.abs(results[1]).max()):
            return f"SGD.update and its fast twin differ by {error:.1e} in {np.dtype(dtype)}"
    return None
