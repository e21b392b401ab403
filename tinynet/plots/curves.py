"""Loss and error over a run."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tinynet.plots.page import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure


def learning_curves(records: Iterable[Mapping[str, Any]]) -> Figure:
    """Left: the loss of the training steps, and its mean over each epoch; right: top-1 and, of more than five classes,
    top-5 error after each epoch; dotted: chance.

    records: a run's, as in `Trainer.records` or the lines of log.jsonl; unknown kinds are passed over. Chance, ln K for
    the loss and 1 - 1/K for the top-1 error, is drawn if the "start" record has num_classes = K. Training error is
    measured with dropout, while the net still changes: it may lie above validation error. Losses beyond five times
    their median and chance do not press all others flat: the axis ends below them, and the title says how high they go.
    """
    records = list(records)
    steps = [record for record in records if record.get("event") == "step"]
    epochs = [record for record in records if record.get("event") == "epoch"]
    num_classes = next((record.get("num_classes") for record in records if record.get("event") == "start"), None)
    figure = new_figure(10.5, 4.2)
    loss, error = figure.subplots(1, 2)

    few = {"marker": "s"} if len(steps) < 10 else {}  # of one point a line shows nothing
    _line(loss, steps, "step", "train_loss", "training", color=BLUE, linestyle="-", **few)
    _line(loss, epochs, "step", "train_loss", "training, mean over the epoch", color=PURPLE, linestyle="-.", marker="D")
    _line(loss, epochs, "step", "val_loss", "validation", color=ORANGE, linestyle="--", marker="o")
    loss.set(xlabel="training step", ylabel="loss (cross-entropy, nats)", title="loss")

    _line(error, epochs, "epoch", "train_error", "training, top-1", color=BLUE, linestyle="-", marker="s")
    _line(error, epochs, "epoch", "val_top1_error", "validation, top-1", color=ORANGE, linestyle="--", marker="o")
    if not num_classes or num_classes > 5:  # else it is 0 by definition
        _line(error, epochs, "epoch", "val_top5_error", "validation, top-5", color=GREEN, linestyle="-.", marker="^")
    error.set(xlabel="epoch", ylabel="error", title="error")
    error.set_xlim(0.5, max((record["epoch"] for record in epochs), default=1) + 0.5)
    error.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    error.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))

    if num_classes:
        chance = {"color": GREY, "linestyle": ":"}
        loss.axhline(math.log(num_classes), label=f"chance, ln {num_classes}", **chance)
        error.axhline(1 - 1 / num_classes, label=f"chance, top-1: 1 - 1/{num_classes}", **chance)
    losses = [record[key] for record in steps + epochs for key in ("train_loss", "val_loss") if key in record]
    usual = 5 * max(float(np.median(losses)) if losses else 0.0, math.log(num_classes or 1))
    if above := [value for value in losses if value > usual]:
        loss.set_ylim(top=usual)
        loss.set_title(f"loss; {len(above)} of {len(losses)} values lie above, up to {max(above):.3g}")
    for axes in (loss, error):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.grid(color="#E4E4E4", linewidth=0.7)
        axes.set_axisbelow(True)
        if axes.get_lines():
            # curves fall; the chance line may pass behind it. loc="best" looks at every point, which is slow
            axes.legend(loc="upper right", framealpha=0.9, edgecolor="none", fontsize="small")
    return figure


def _line(axes: Axes, records: list, x: str, y: str, label: str, **style: Any) -> None:
    points = [(record[x], record[y]) for record in records if x in record and y in record]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, markersize=4, linewidth=1.5, **style)
