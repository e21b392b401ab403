"""Pictures of a run. Each function returns a matplotlib Figure and touches no global state: no display is needed, and
several threads may draw at once."""

import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tinynet.checkpoint import atomic_write

# Okabe and Ito's colours: told apart with any kind of colour vision; the line styles tell them apart in print
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E"
TILE_INCHES = 0.55  # of one kernel on paper
GAP = 1  # kernel pixels between two kernels
SHEET = (0.79, 0.85, 0.93)  # what shows in the gaps: no grey, so that black and white kernels keep their outline
DPI = 120


def learning_curves(records: Iterable[Mapping[str, Any]]) -> Figure:
    """Left: the loss after each training step; right: top-1 and top-5 error after each epoch; dotted: chance.

    records: a run's, as in `Trainer.records` or the lines of log.jsonl; unknown kinds are passed over. Chance, ln K for
    the loss and 1 - 1/K for the top-1 error, is drawn if the "start" record has num_classes = K. Training error is
    measured with dropout, while the net still changes: it may lie above validation error.
    """
    records = list(records)
    steps = [record for record in records if record.get("event") == "step"]
    epochs = [record for record in records if record.get("event") == "epoch"]
    num_classes = next((record.get("num_classes") for record in records if record.get("event") == "start"), None)
    figure = _new_figure(10.5, 4.2)
    loss, error = figure.subplots(1, 2)

    few = {"marker": "s"} if len(steps) < 10 else {}  # of one point a line shows nothing
    _line(loss, steps, "step", "train_loss", "training", color=BLUE, linestyle="-", **few)
    _line(loss, epochs, "step", "val_loss", "validation", color=ORANGE, linestyle="--", marker="o")
    loss.set(xlabel="training step", ylabel="loss (cross-entropy, nats)", title="loss")

    _line(error, epochs, "epoch", "train_error", "training, top-1", color=BLUE, linestyle="-", marker="s")
    _line(error, epochs, "epoch", "val_top1_error", "validation, top-1", color=ORANGE, linestyle="--", marker="o")
    _line(error, epochs, "epoch", "val_top5_error", "validation, top-5", color=GREEN, linestyle="-.", marker="^")
    error.set(xlabel="epoch", ylabel="error", title="error")
    error.set_xlim(0.5, max((record["epoch"] for record in epochs), default=1) + 0.5)
    error.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    error.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))

    if num_classes:
        chance = {"color": GREY, "linestyle": ":"}
        loss.axhline(math.log(num_classes), label=f"chance, ln {num_classes}", **chance)
        error.axhline(1 - 1 / num_classes, label=f"chance, top-1: 1 - 1/{num_classes}", **chance)
    for axes in (loss, error):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.grid(color="#E4E4E4", linewidth=0.7)
        axes.set_axisbelow(True)
        if axes.get_lines():
            axes.legend(frameon=False, fontsize="small")
    return figure


def first_layer_kernels(weight: np.ndarray, towers: int = 2) -> Figure:
    """The kernels of a first layer as pictures, the towers apart, as in Krizhevsky et al. 2012, figure 3.

    weight: (O, C, KH, KW) with C = 1 (drawn grey) or 3 (RGB); the first O/towers kernels are tower 1's. Each kernel is
    scaled by itself to fill [0, 1]: its darkest weight is black, its brightest 1; a constant kernel is grey.

    Raises ValueError for another shape, NaN or infinity, or if `towers` does not divide O.
    """
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 4 or weight.shape[1] not in (1, 3) or 0 in weight.shape:
        raise ValueError(
            "first_layer_kernels: expected weight of shape (O, C, KH, KW) with C = 1 (grey) or 3 (RGB), got "
            f"{weight.shape}"
        )
    if towers < 1 or len(weight) % towers:
        raise ValueError(f"first_layer_kernels: expected towers to divide {len(weight)} kernels, got towers={towers}")
    if not np.isfinite(weight).all():
        raise ValueError("first_layer_kernels: expected finite weights, got NaN or infinity among them")
    each = len(weight) // towers
    columns = min(each, 8 if each <= 16 else 16)  # 48 kernels a tower in 3 rows of 16, as in the paper
    rows = -(-each // columns)
    KH, KW = weight.shape[2:]
    tile_height = TILE_INCHES * (KH + GAP) / (KW + GAP)
    figure = _new_figure(max(columns * TILE_INCHES, 3.2) + 0.3, towers * (rows * tile_height + 0.4) + 0.1)
    for tower, axes in enumerate(figure.subplots(towers, 1, squeeze=False).ravel()):
        sheet = _tile(weight[tower * each : (tower + 1) * each], columns)
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        name = f"tower {tower + 1}: " if towers > 1 else ""
        axes.set_title(f"{name}kernels {tower * each + 1} to {(tower + 1) * each}", fontsize="medium")
    return figure


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write `figure` to `path` as what its suffix says (.png, .pdf, .svg), whole or not at all.

    Raises ValueError for a suffix that matplotlib does not know, OSError naming the file if it cannot be written.
    """
    suffix = Path(path).suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"save_figure: expected a suffix out of {', '.join(sorted(known))}, got {str(path)!r}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix)
    atomic_write(path, buffer.getvalue())


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(axes: Axes, records: list, x: str, y: str, label: str, **style: Any) -> None:
    points = [(record[x], record[y]) for record in records if x in record and y in record]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, markersize=4, linewidth=1.5, **style)


def _tile(kernels: np.ndarray, columns: int) -> np.ndarray:
    """(rows*(KH+GAP)+GAP, columns*(KW+GAP)+GAP, 3): the kernels on one sheet, with a gap around each."""
    N, _, KH, KW = kernels.shape
    low, high = (bound(kernels, axis=(1, 2, 3), keepdims=True) for bound in (np.min, np.max))
    pictures = np.where(high > low, (kernels - low) / np.where(high > low, high - low, 1), 0.5)
    sheet = np.tile(SHEET, (-(-N // columns) * (KH + GAP) + GAP, columns * (KW + GAP) + GAP, 1))
    for i, picture in enumerate(pictures):
        top, left = GAP + i // columns * (KH + GAP), GAP + i % columns * (KW + GAP)
        sheet[top : top + KH, left : left + KW] = picture.transpose(1, 2, 0)  # one grey channel fills all three
    return sheet
