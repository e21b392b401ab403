"""How wrong a network is on pictures that it does not learn from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinynet.errors import NonFiniteError
from tinynet.layers.base import Layer
from tinynet.layers.softmax_ce import SoftmaxCE


class Evaluation(NamedTuple):
    """Errors as fractions in [0, 1]: the share of pictures whose label is not among the 1, or 5, most likely classes.
    `loss` is the mean cross-entropy in nats: chance is ln K."""

    top1_error: float
    top5_error: float
    loss: float


def evaluate(model: Layer, loader: Any) -> Evaluation:
    """Top-1 error, top-5 error and loss of `model` on all batches of `loader`, in evaluation mode.

    loader: a Loader, of which epoch 0 is read, or any iterable of (x, labels). Every layer is back in its own mode
    afterwards. With fewer than 6 classes every label is among the five most likely: top-5 error is 0 by definition.

    Raises ValueError if there is no picture, NonFiniteError naming the layer whose output is NaN or infinite.
    """
    batches: Iterable = loader.epoch(0) if hasattr(loader, "epoch") else loader
    layers = [model, *(layer for _, layer in model.named_layers())]
    modes = [layer.training for layer in layers]
    loss_sum, wrong1, wrong5, seen = 0.0, 0, 0, 0
    model.eval()
    try:
        for x, labels in batches:
            loss, logits = checked_loss(model, SoftmaxCE(), x, labels)
            ranks = label_ranks(logits, labels)
            loss_sum += loss * len(labels)
            wrong1 += int((ranks >= 1).sum())
            wrong5 += int((ranks >= 5).sum())
            seen += len(labels)
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
    if not seen:
        raise ValueError("evaluate: expected at least one picture, got a loader without any batch")
    return Evaluation(wrong1 / seen, wrong5 / seen, loss_sum / seen)


def label_ranks(logits: np.ndarray, labels: ArrayLike) -> np.ndarray:
    """(N,) int: how many classes stand before the label's. 0 is a hit, below 5 a top-5 hit.

    logits: (N, K), labels: (N,). Among equal logits the lower class number comes first, as in np.argmax, so that a tie
    is decided in the same way on every machine.
    """
    labels = np.asarray(labels)  # a loader of one's own may give a list
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    return before.sum(axis=1)


def checked_loss(model: Layer, loss: SoftmaxCE, x: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """(loss, logits) of one batch. If only the loss meets NaN or infinity, the NonFiniteError names the last layer,
    whose doing it is. NumPy's own warnings about overflow, which name no layer, are not shown."""
    last = [model, *(layer for _, layer in model.named_layers())][-1]
    with np.errstate(over="ignore", invalid="ignore"):
        logits = model(x)
        try:
            value = loss(logits, labels)
        except NonFiniteError as error:
            raise NonFiniteError(str(last), f"gave NaN or infinity as its output (met by {error})") from error
    if not np.isfinite(value):
        raise NonFiniteError(
            str(last), f"gave an output so large, {np.abs(logits).max():.3g}, that the loss is {value}"
        )
    return value, logits


def weights_gone_bad(model: Layer) -> tuple[str, str] | None:
    """(layer, what) of the layer nearest to the loss that has NaN or infinity in a parameter; None if there is none.

    Nearest to the loss, because backward begins there: a bad gradient spoils that layer first, then all before it.
    """
    layers = dict(model.named_layers())
    for name, parameter in reversed(list(model.named_parameters())):
        if not np.isfinite(parameter.data).all():
            owner, _, attribute = name.rpartition(".")
            return str(layers.get(owner, model)), f"its {attribute} holds NaN or infinity"
    return None
