"""What to look at when training goes wrong: numbers that became NaN or infinite, and a loss that does not fall."""

import math
from typing import Any

import numpy as np

from tinynet.errors import NonFiniteError
from tinynet.layers.layer import Layer
from tinynet.training.evaluate import weights_gone_bad

REMEDY = (
    "Try a learning rate ten times smaller; then look at the scale of the input (mean 0, standard deviation 1) and at "
    "the initial values."
)
AFTER_A_STEP = " A wrong backward in one of the layers after it does this too."
FIRST_LAYER = "It is the first layer: look at the pictures that the loader gives."


def explain_non_finite(model: Layer, error: NonFiniteError, when: str) -> NonFiniteError:
    """The error with when it came ("epoch 1, after step 3") and what to try; weights that are bad already are named
    rather than the layer that met their output."""
    bad = weights_gone_bad(model)
    layer, what = bad or (error.layer, str(error).removeprefix(f"{error.layer}: "))
    first = next((layer for _, layer in model.named_layers() if not layer.children()), model)
    remedy = REMEDY
    if bad:
        remedy += AFTER_A_STEP
    elif layer == str(first) and "expected finite" in what:
        remedy = FIRST_LAYER
    return NonFiniteError(layer, f"{what}. Training stopped in {when}. {remedy}")


def chance(num_classes: int, dataset: Any = None) -> float:
    """The loss of guessing, in nats: the entropy of the dataset's labels; without one ln K."""
    if dataset is None:
        return math.log(num_classes)
    shares = np.unique(dataset.labels, return_counts=True)[1] / len(dataset.labels)
    return float(-(shares * np.log(shares)).sum())


def not_learning(loss: float, chance: float, step: int, lr: float, x: np.ndarray) -> str | None:
    """What to look at if the loss (nats) is still what guessing gives, `chance`, or worse; None if it is 2 % below.

    chance: as `chance` gives it. x: a batch of the input, whose scale is told.
    """
    if loss < 0.98 * chance:
        return None
    return (
        f"loss still {loss:.3f} after {step} steps; guessing gives {chance:.3f} = ln {math.exp(chance):.3g}. If it "
        "stays there, look at the initial values (does the signal die out or blow up from layer to layer? then take "
        f"He's, init.he_normal), the learning rate ({lr:g}: try ten times more and ten times less) and the input's "
        f"scale (this batch has mean {x.mean():.3g} and standard deviation {x.std():.3g})"
    )
