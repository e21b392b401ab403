"""What happens inside a net: the outputs of its layers, the features of pictures, and which pictures are alike."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinynet.backend.device import to_cpu, to_device
from tinynet.layers.layer import Layer
from tinynet.layers.sequential import Sequential
from tinynet.parallel import Split
from tinynet.training.evaluate import evaluation_mode

BLOCK = 1 << 20  # numbers of `features` that `nearest` works on at a time: 8 MB


def layer_names(model: Layer) -> list[str]:
    """The names of all layers that compute, in order: "conv1", and inside of a nested Sequential "top.fc7".

    Raises TypeError for a model that is no Sequential: in which order another calls its layers only it knows.
    """
    return [name for name, _ in _leaves(model.net if isinstance(model, Split) else model)]


def activations(model: Layer, x: np.ndarray, layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """{name: output} of the named `layers` of `model` for the batch x, in the net's order; of all of them by default.

    x: (N, ...), what the model takes; an output is (N, ...) too, in any memory order, on the CPU wherever the model is.
    The net computes in evaluation mode, and no further than to the last of these layers; afterwards every layer is back
    in its own mode.

    Raises KeyError for a name that the net does not have, TypeError for a model that is no Sequential.
    """
    model = model.whole()
    names = layer_names(model)
    wanted = set(names if layers is None else [layers] if isinstance(layers, str) else layers)
    if unknown := sorted(wanted.difference(names)):
        raise KeyError(f"activations: expected layers out of {', '.join(names)}; got {', '.join(map(repr, unknown))}")
    kept: dict[str, np.ndarray] = {}
    x = to_device(x, model.device or "cpu")
    with evaluation_mode(model):
        for name, layer in _leaves(model):
            if len(kept) == len(wanted):
                break
            x = layer(x)
            if name in wanted:
                kept[name] = to_cpu(x)
    return kept


def features(model: Layer, loader: Any, layer: str, limit: int | None = None) -> np.ndarray:
    """(N, F): the outputs of `layer`, each flattened to F numbers, for the pictures of `loader`, or the first `limit`.

    loader: a Loader, of which epoch 0 is read, or any iterable of (x, labels). If it gives several views of a picture,
    x (V*N, ...), view after view, the features are their mean. Raises ValueError for a loader without any picture, a
    limit below 1, or an x that does not go with its labels; and what `activations` raises.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"features: expected limit to be at least 1, got {limit!r}")
    model = model.whole()  # once, of a split net
    batches: Iterable = loader.epoch(0) if hasattr(loader, "epoch") else loader
    found: list[np.ndarray] = []
    seen = 0
    for x, labels in batches:
        N = len(labels)
        if N == 0 or len(x) % N:
            raise ValueError(f"features: expected x of V views of each picture, got {len(x)} for {N} labels")
        output = activations(model, x, [layer])[layer]
        views = np.ascontiguousarray(output).reshape(len(x) // N, N, -1)
        found.append(views[0] if len(views) == 1 else views.mean(axis=0))
        seen += N
        if limit is not None and seen >= limit:
            break
    if not found:
        raise ValueError("features: expected at least one picture, got a loader without any batch")
    return np.concatenate(found)[:limit]


def nearest(query_features: np.ndarray, features: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) int64: for each query the k rows of `features` at the smallest Euclidean distance, the nearest first; of
    equally near ones the lower index first.

    query_features: (Q, F), features: (N, F), a memory-mapped file too. The differences themselves are squared and
    summed, in float64: |q|**2 - 2 q f + |f|**2 would lose the digits in which near ones differ. Takes memory for a
    few million numbers beyond arguments and result.

    Raises ValueError for other shapes, k outside of [1, N], NaN, infinity or numbers too large to square.
    """
    queries, table = np.asarray(query_features, np.float64), np.asarray(features)
    if queries.ndim != 2 or table.ndim != 2 or queries.shape[1] != table.shape[1]:
        raise ValueError(
            "nearest: expected query_features (Q, F) and features (N, F) of the same F, got "
            f"{queries.shape} and {table.shape}"
        )
    N, F = table.shape
    if not 1 <= k <= N:
        raise ValueError(f"nearest: expected k in [1, {N}], for {N} features, got {k!r}")
    rows = max(1, BLOCK // max(1, F, len(queries)))
    best: np.ndarray = np.zeros((len(queries), 0), np.int64)
    distances: np.ndarray = np.zeros((len(queries), 0))
    for start in range(0, N, rows):
        block = table[start : start + rows]
        squares = np.empty((len(queries), len(block)))
        with np.errstate(over="ignore", invalid="ignore"):  # the error below says more
            for query, row in zip(queries, squares, strict=True):
                np.sum((block - query) ** 2, axis=1, out=row)
        if not np.isfinite(squares).all():
            raise ValueError("nearest: expected finite features, got NaN, infinity or numbers too large to square")
        # what was found before has the lower indices and stands first, so that a stable sort prefers it
        distances = np.hstack([distances, squares])
        best = np.hstack([best, np.tile(np.arange(start, start + len(block)), (len(queries), 1))])
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances, best = (np.take_along_axis(array, order, axis=1) for array in (distances, best))
    return best


def _leaves(model: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """(dotted name, layer) in the order of computing; what is no Sequential computes as a whole."""
    if not isinstance(model, Sequential):
        raise TypeError(f"activations: expected a Sequential, got {type(model).__name__}; put it into one")
    for name, layer in model.children().items():
        if isinstance(layer, Sequential):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield prefix + name, layer
