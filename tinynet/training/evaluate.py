"""How wrong a network is on pictures that it does not learn from."""

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinynet.backend.device import to_cpu
from tinynet.errors import NonFiniteError
from tinynet.layers.layer import Layer
from tinynet.losses.softmax_ce import SoftmaxCE
from tinynet.ops.elementwise import finite_arrays

PART = 1 << 18  # logits whose softmax is averaged at a time: 2 MB


class Evaluation(NamedTuple):
    """Errors as fractions in [0, 1]: the share of pictures whose label is not among the 1, or 5, most likely classes.
    `loss` is the mean cross-entropy in nats: chance is ln K."""

    top1_error: float
    top5_error: float
    loss: float


def evaluate(model: Layer | Sequence[Layer], loader: Any) -> Evaluation:
    """Top-1 error, top-5 error and loss of `model` on all batches of `loader`, in evaluation mode.

    loader: a Loader, of which epoch 0 is read, or any iterable of (x, labels). Several models, or a loader that gives
    several views of each picture, answer together, by the mean of their softmax outputs; see `predict`. The loss is
    then the mean of -ln of the label's averaged probability. Every layer is back in its own mode afterwards. With fewer
    than 6 classes every label is among the five most likely: top-5 error is 0 by definition.

    Raises ValueError if there is no picture, and as `predict` does.
    """
    loss_sum, wrong1, wrong5, seen = 0.0, 0, 0, 0
    for losses, outputs, labels in _outputs("evaluate", model, loader):
        loss, answers = losses[0], outputs[0]
        if len(outputs) > 1:
            answers = _log_mean_softmax(outputs)
            loss = -float(answers[np.arange(len(labels)), labels].mean())
        ranks = label_ranks(answers, labels)
        loss_sum += loss * len(labels)
        wrong1 += int((ranks >= 1).sum())
        wrong5 += int((ranks >= 5).sum())
        seen += len(labels)
    return Evaluation(wrong1 / seen, wrong5 / seen, loss_sum / seen)


def predict(model: Layer | Sequence[Layer], loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (N, K) float64, labels (N,)) of all pictures of `loader`, in its order: the softmax of the logits,
    averaged over the models and over the views of each picture (Krizhevsky et al. 2012, section 4.1 and table 2).

    loader: as for `evaluate`. A batch of N labels and x of V * N pictures has V views of each, x[v * N + n] those of
    picture n. Where N * K numbers are too many, `predict_parts` gives a few rows at a time.

    Raises ValueError for no model or no picture, models or batches of different numbers of classes, or an x whose
    length is no multiple of the number of labels, TypeError for a model that is no Layer, NonFiniteError naming the
    layer whose output is NaN or infinite.
    """
    pictures = operator.length_hint(getattr(loader, "dataset", ()))
    probabilities: np.ndarray = np.empty((0, 0))
    labels: list[np.ndarray] = []
    seen = 0
    for rows, own in predict_parts(model, loader):
        if not seen:
            probabilities = np.empty((pictures, rows.shape[1]))
        if seen + len(rows) > len(probabilities):  # a loader of one's own, which does not say how many come
            # refcheck=False: nobody else has seen this array
            probabilities.resize((max(seen + len(rows), 9 * seen // 8), rows.shape[1]), refcheck=False)
        probabilities[seen : seen + len(rows)] = rows
        labels.append(own)
        seen += len(rows)
    probabilities.resize((seen, probabilities.shape[1]), refcheck=False)
    return probabilities, np.concatenate(labels)


def predict_parts(model: Layer | Sequence[Layer], loader: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(probabilities (n, K) float64, labels (n,)) of the pictures of `loader`, a few at a time, at most a batch: what
    `predict` gives, in memory that does not grow with the number of pictures. Raises what `predict` does."""
    K = None
    for _, logits, labels in _outputs("predict", model, loader):
        if K not in (None, logits[0].shape[1]):
            raise ValueError(f"predict: expected {K} classes in every batch, as in the first, got {logits[0].shape[1]}")
        K = logits[0].shape[1]
        rows = max(1, PART // (len(logits) * K))
        for start in range(0, len(labels), rows):
            part = slice(start, start + rows)
            yield np.exp(_log_mean_softmax([one[part] for one in logits])), labels[part]


@contextlib.contextmanager
def evaluation_mode(*models: Layer) -> Iterator[None]:
    """Inside, all layers of the models are in evaluation mode; afterwards, also after an error, each is in its own."""
    layers = [layer for model in models for layer in (model, *(inner for _, inner in model.named_layers()))]
    modes = [layer.training for layer in layers]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


def _outputs(
    where: str, model: Layer | Sequence[Layer], loader: Any
) -> Iterator[tuple[list[float], list[np.ndarray], np.ndarray]]:
    """(loss of each model, logits (N, K) of each model and view, labels (N,)) of each batch, in evaluation mode."""
    models = [model] if isinstance(model, Layer) else list(model)
    if not models:
        raise ValueError(f"{where}: expected a model or a list of at least one, got an empty list")
    for each in models:
        if not isinstance(each, Layer):
            raise TypeError(f"{where}: expected models that are a tinynet Layer, got {type(each).__name__}")
    seen = 0
    with evaluation_mode(*models):
        # held by no variable: after an error it is closed at once, and its workers end, whoever keeps the traceback
        for x, labels in loader.epoch(0) if hasattr(loader, "epoch") else loader:
            yield *_logits(where, models, x, labels), np.asarray(labels)
            seen += len(labels)
    if not seen:
        raise ValueError(f"{where}: expected at least one picture, got a loader without any batch")


def _logits(where: str, models: list[Layer], x: np.ndarray, labels: ArrayLike) -> tuple[list[float], list[np.ndarray]]:
    N = np.size(labels)
    views, rest = divmod(len(x), N) if N else (0, 0)
    if views == 0 or rest:
        raise ValueError(
            f"{where}: expected x of V * {N} pictures, for {N} labels and V views of each picture, got {len(x)}; "
            "give one label a picture"
        )
    each = np.tile(np.asarray(labels), views)
    found = [checked_loss(model, SoftmaxCE(), x, each) for model in models]
    classes = [logits.shape[1] for _, logits in found]
    if len(set(classes)) > 1:
        raise ValueError(f"{where}: expected models of the same number of classes, got {classes}")
    return [loss for loss, _ in found], [one for _, logits in found for one in logits.reshape(views, N, -1)]


def _log_mean_softmax(outputs: list[np.ndarray]) -> np.ndarray:
    """(N, K) float64: ln of the mean of the softmax of each (N, K) of `outputs`, without overflow or ln 0."""
    logits = np.array(outputs, np.float64)
    logits -= logits.max(axis=2, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=2, keepdims=True))
    best = logits.max(axis=0)
    return best + np.log(np.exp(logits - best).mean(axis=0))


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
    """(loss, logits) of one batch, computed where the model is; x and the logits are on the CPU.

    If only the loss meets NaN or infinity, the NonFiniteError names the last layer, whose doing it is. NumPy's own
    warnings about overflow, which name no layer, are not shown.
    """
    last = [model, *(layer for _, layer in model.named_layers())][-1]
    with np.errstate(over="ignore", invalid="ignore"):
        logits = model(model.placed(x))
        try:
            value = float(loss(logits, labels))
        except NonFiniteError as error:
            raise NonFiniteError(str(last), f"gave NaN or infinity as its output (met by {error})") from error
    logits = to_cpu(logits)
    if model.device not in (None, "cpu") and not np.isfinite(logits).all():
        where = f"met NaN or infinity, on {model.device}, where layers are not looked at one by one"
        raise NonFiniteError(str(loss), f"{where}; the same batch on the CPU names the layer")
    if not np.isfinite(value):
        raise NonFiniteError(
            str(last), f"gave an output so large, {np.abs(logits).max():.3g}, that the loss is {value}"
        )
    return value, logits


def weights_gone_bad(model: Layer) -> tuple[str, str] | None:
    """(layer, what) of the layer nearest to the loss that has NaN or infinity in a parameter; None if there is none.

    Nearest to the loss, because backward begins there: a bad gradient spoils that layer first, then all before it.
    """
    parts = [part for parameter in model.parameters() for part in parameter.parts]
    places = dict.fromkeys(part.device for part in parts)
    if all(finite_arrays([part.data for part in parts if part.device == place]) for place in places):
        return None
    layers = dict(model.named_layers())
    for name, parameter in reversed(list(model.named_parameters())):
        if not finite_arrays([parameter.data]):
            owner, _, attribute = name.rpartition(".")
            return str(layers.get(owner, model)), f"its {attribute} holds NaN or infinity"
    return None
