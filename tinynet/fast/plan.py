"""What a pass calls: a twin for each layer that is what its twin was written for, its own methods for any other.

Decided anew for each pass, so a method that is patched counts from the next pass on, and from the backward of this one.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tinynet.errors import RunsPlainWarning
from tinynet.fast import identity, neighbours, single
from tinynet.layers.flatten import Flatten
from tinynet.layers.layer import Layer
from tinynet.layers.passes import Steps, own_backward, own_forward
from tinynet.layers.sequential import Sequential
from tinynet.optim.sgd import SGD

KNOWN: tuple[Any, ...] = (*single.TWINS, Flatten, Sequential, SGD)  # classes that have a digest
Kinds = tuple[type[Layer] | None, ...]  # a layer's class if its twin may run, else None
_told: set[tuple[str, str]] = set()  # (class, reason): each is said once


def forward_steps(layers: Sequence[Layer]) -> Steps:
    """[(some of the layers, function)], in order: y = function(x, *those layers)."""
    layers = tuple(layers)
    return [(layers[a:b], step) for a, b, step in _forward_plan(_kinds(layers))]


def backward_steps(layers: Sequence[Layer]) -> Steps:
    """[(some of the layers, function)], the last layers first: dx = function(dy, *those layers)."""
    layers = tuple(layers)
    return [(layers[a:b], step) for a, b, step in _backward_plan(_kinds(layers))]


def backward_halves(layer: Layer) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Two functions of (dy, layer): dx, and the gradients of the weights, if the twin computes them one by one."""
    twin: Any = single.TWINS.get(type(layer))
    if not hasattr(twin, "backward_input") or not has_twin(layer):
        return None
    return (lambda dy, layer: twin.backward_input(layer, dy)), (lambda dy, layer: twin.backward_weight(layer, dy))


def has_twin(layer: Layer) -> bool:
    """Whether the layer's twin would run in the next pass."""
    return _kinds((layer,)) != (None,)


def runs_own_lines(net: Layer) -> Layer | None:
    """See `tinynet.layers.passes.runs_own_lines`. A Sequential runs its layers, and a Flatten computes nothing."""
    if type(net) in (Sequential, Flatten):
        if why_changed(net):
            return net
        inside = map(runs_own_lines, net.children().values())
        return next((layer for layer in inside if layer is not None), None)
    return None if has_twin(net) else net


def why_changed(layer: Layer) -> str | None:
    """What of a layer, whose class has a digest, is no longer as it was; None if all is."""
    known = identity.of(type(layer))
    return known.changed() or known.changed_in(layer)


def how(layer: Layer, shape: tuple[int, ...]) -> str:
    """See `tinynet.layers.passes.how`."""
    if why := why_plain(layer):
        return f"plain: {why}"
    if not has_twin(layer):
        return "plain"
    twin = single.TWINS[type(layer)]
    path = f": {twin.path(layer, shape)}" if hasattr(twin, "path") else ""
    return f"fast{path}" + ", its source was not there to look at" * identity.of(type(layer)).trusted


def _kinds(layers: Sequence[Layer]) -> Kinds:
    unchanged: dict[type[Layer], str | None] = {}  # asked once a pass
    return tuple(_kind(layer, unchanged) for layer in layers)


def _kind(layer: Layer, unchanged: dict[type[Layer], str | None]) -> type[Layer] | None:
    kind = type(layer)
    if kind not in single.TWINS:
        if why := identity.inherits(kind, single.TWINS):
            _tell(layer, why)
        return None
    if kind not in unchanged:
        unchanged[kind] = identity.of(kind).changed()
    if why := unchanged[kind] or identity.of(kind).changed_in(layer):
        _tell(layer, why)
        return None
    return kind


def _tell(layer: Layer, why: str) -> None:
    kind = type(layer)
    if (key := (f"{kind.__module__}.{kind.__qualname__}", why)) not in _told:
        _told.add(key)
        warnings.warn(f"{layer} runs as it is written, not by its fast twin: {why}", RunsPlainWarning, stacklevel=2)


def why_plain(layer: Layer) -> str:
    """Why a layer that has a twin, or inherits from one that has, runs plain; "" for any other."""
    kind = type(layer)
    if kind not in single.TWINS:
        return identity.inherits(kind, single.TWINS) or ""
    return why_changed(layer) or ""


@functools.lru_cache(maxsize=256)
def _forward_plan(kinds: Kinds) -> list[tuple[int, int, Callable[..., Any]]]:
    return _plan(kinds, neighbours.FORWARD, single.forward, own_forward)


@functools.lru_cache(maxsize=256)
def _backward_plan(kinds: Kinds) -> list[tuple[int, int, Callable[..., Any]]]:
    return _plan(kinds, neighbours.BACKWARD, single.backward, own_backward)[::-1]


def _plan(
    kinds: Kinds, together: neighbours.Table, twin: Callable[..., Any], own: Callable[..., Any]
) -> list[tuple[int, int, Callable[..., Any]]]:
    """[(first, end, function)]: the longest row of neighbours that the table has, else one layer."""
    plan, first = [], 0
    while first < len(kinds):
        rows = [row for row in together if kinds[first : first + len(row)] == row]
        if rows:
            row = max(rows, key=len)
            plan.append((first, first + len(row), together[row]))
        else:
            plan.append((first, first + 1, own if kinds[first] is None else twin))
        first = plan[-1][1]
    return plan
