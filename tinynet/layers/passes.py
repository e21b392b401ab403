"""How a pass goes through layers: by their own methods, or by the fast twins that `tinynet.fast` puts in their place.

Which it is, is decided anew for each pass: see `tinynet.fast.plan`. In plain mode (`tinynet.plain`) nothing of
tinynet.fast is imported. A method that somebody calls himself, `layer.backward(dy)`, runs its own lines always.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet.backend.device import computing
from tinynet.checks import device_of, is_on_a_gpu
from tinynet.mode import is_plain

if TYPE_CHECKING:
    from tinynet.layers.layer import Layer


class Several(tuple):
    """The arguments of a forward that takes more than x, or of a loss's backward, which takes none."""


Steps = list[tuple[tuple[Any, ...], Callable[..., Any]]]


def forward(layer: Layer, *args: Any) -> Any:
    """y of layer.forward(*args), or of its fast twin."""
    ((layers, step),) = forward_steps([layer])
    return step(args[0] if len(args) == 1 else Several(args), *layers)


def backward(layer: Layer, *dy: Any) -> Any:
    """dx of layer.backward(*dy), or of its fast twin."""
    ((layers, step),) = backward_steps([layer])
    return step(dy[0] if len(dy) == 1 else Several(dy), *layers)


def forward_steps(layers: Sequence[Layer]) -> Steps:
    """[(some of the layers, function)], in order: y = function(x, *those layers)."""
    if is_plain():
        return [((layer,), own_forward) for layer in layers]
    from tinynet.fast import plan

    return plan.forward_steps(layers)


def backward_steps(layers: Sequence[Layer]) -> Steps:
    """[(some of the layers, function)], the last layers first: dx = function(dy, *those layers)."""
    if is_plain():
        return [((layer,), own_backward) for layer in reversed(layers)]
    from tinynet.fast import plan

    return plan.backward_steps(layers)


def backward_halves(layer: Layer) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Two functions of (dy, layer): dx, and the gradients of the weights, where a twin computes them one by one."""
    if is_plain():
        return None
    from tinynet.fast import plan

    return plan.backward_halves(layer)


def runs_own_lines(net: Layer) -> Layer | None:
    """The first layer of the net, or the net itself, whose own lines the next pass runs, which may do anything, such as
    count or print; None if there is none."""
    if is_plain():
        return net
    from tinynet.fast import plan

    return plan.runs_own_lines(net)


def how(layer: Layer, shape: tuple[int, ...]) -> str:
    """Which lines a pass runs for an x of `shape`: "plain", those of the layer's own file, with the reason if it has a
    fast twin that may not run; "fast", its twin's, of a convolution with the algorithm: "fast: winograd"."""
    if is_plain():
        return "plain"
    from tinynet.fast import plan

    return plan.how(layer, shape)


def own_forward(x: Any, layer: Layer) -> Any:
    """layer.forward(x), or of `Several` arguments, on x's device."""
    args = x if isinstance(x, Several) else (x,)
    with at_home(layer, args), quiet():
        return layer.forward(*args)


def own_backward(dy: Any, layer: Layer) -> Any:
    """layer.backward(dy), or without dy for an empty `Several`, on dy's device, or else that of the last x."""
    args = dy if isinstance(dy, Several) else (dy,)
    with at_home(layer, args), quiet():
        return layer.backward(*args)


def at_home(layer: Layer, args: tuple[Any, ...]) -> Any:
    """A context for the layer's own lines: on the device of the first array, or of the last x if there is none."""
    array = next((arg for arg in args if hasattr(arg, "dtype") and hasattr(arg, "strides")), None)
    device = vars(layer).get("_where", "cpu")
    if array is not None:
        device = device_of(array) if is_on_a_gpu(array) else "cpu"
    return contextlib.nullcontext() if device == "cpu" else computing(device, str(layer))


def quiet() -> Any:
    """A context without NumPy's warnings of overflow: NaN and infinity are found by the next layer's check of its
    input, which names the layer that made them."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def all_finite(x: Any) -> bool:
    """Whether no element is NaN or infinite; True, unread, on a GPU, where an answer would make the host wait."""
    if not isinstance(x, np.ndarray):
        return True
    if is_plain():
        return bool(np.isfinite(x).all())
    from tinynet.ops import elementwise

    return elementwise.all_finite(x)
