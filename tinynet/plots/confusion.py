"""Which classes a net takes for which."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from tinynet.plots.page import MARGIN, axes_at, new_figure, write
from tinynet.plots.pictures import check_labels
from tinynet.plots.text import class_name, fit, percent, text_width

MOST_WITH_NUMBERS = 20
MOST_ROWS = 200  # more classes are summed into blocks; so many have some three pixels each
MOST_COUNTED = 1_000  # K * K counts of more would take more than 8 MB
DARK = 0.68  # from this share on white on blue has more contrast than black
# inches
ROW_NAMES, COLUMN_NAMES, HEADER, AXIS_TITLE, TICK = 1.75, 1.15, 0.65, 0.28, 0.08
LINE = 0.17  # between two names
SIDE = 6.0  # of a matrix without numbers
LEAST_WIDTH = 4.2  # for the header
SCALE, SCALE_TICKS = 0.9, (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


def count_confusion(labels: ArrayLike, predicted: ArrayLike, K: int) -> np.ndarray:
    """counts (K, K) int64: counts[i, j] pictures of class i were taken for class j.

    labels, predicted: (N,) whole numbers in [0, K). Raises ValueError for others, or for K above 1,000.
    """
    if K > MOST_COUNTED:
        raise ValueError(
            f"count_confusion: expected at most {MOST_COUNTED:,} classes, for a table of K x K, got {K:,}; sum "
            f"neighbouring classes, by labels // {-(-K // MOST_COUNTED)} and the same of predicted, as the picture of "
            "confusion_matrix does"
        )
    labels, predicted = _checked("count_confusion", labels, predicted, K)
    pairs = labels.astype(np.int64) * K + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=K * K).reshape(K, K)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> Figure:
    """A row a true class, a column an answer; the shade is the share of the row. Up to 20 classes each cell says how
    many pictures it holds and what percentage of its row that is, an empty cell nothing; with more classes the shade
    alone is left, on a scale that lifts small shares (square root), and names stand where there is room. Of more than
    200 classes, a row and a column are several that follow each other, named by the first: their sums, which need no
    table of K * K.

    labels, predicted: (N,) whole numbers in [0, K); classes: K names. Raises ValueError for others.
    """
    labels, predicted = _checked("confusion_matrix", labels, predicted, len(classes))
    if not len(labels):
        raise ValueError("confusion_matrix: expected at least one picture, got none")
    right = int((labels == predicted).sum())
    block = -(-len(classes) // MOST_ROWS)  # classes in a row
    K = -(-len(classes) // block)
    counts = count_confusion(labels.astype(np.int64) // block, predicted.astype(np.int64) // block, K)
    rows = counts.sum(axis=1)
    numbers = K <= MOST_WITH_NUMBERS
    side = max(K * (0.7 if K <= 10 else 0.54), 1.5) if numbers else SIDE
    shown = range(0, K, max(1, math.ceil(K * LINE / side)))
    names = [class_name(classes, k * block) for k in shown]
    beside = [fit(name, ROW_NAMES, 8, after=f" ({_short(rows[k])})") for k, name in zip(shown, names, strict=True)]
    below = [fit(name, COLUMN_NAMES, 8) for name in names]
    flat = all(text_width(name, 8) < side / K - 0.08 for name in below)
    foot = 0.2 if flat else max(text_width(name, 8) for name in below)
    left = MARGIN + AXIS_TITLE + max(text_width(name, 8) for name in beside) + 2 * TICK
    height = HEADER + side + TICK + foot + AXIS_TITLE + MARGIN
    figure = new_figure(max(left + side + (0 if numbers else SCALE), LEAST_WIDTH) + MARGIN, height, layout=None)
    axes = axes_at(figure, left, HEADER, side, side)
    norm = PowerNorm(1.0 if numbers else 0.5, 0, 1)
    shares = counts / np.maximum(rows, 1)[:, None]
    shades = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest", aspect="auto")
    write(figure, MARGIN, MARGIN, f"{right:,} of {len(labels):,} pictures right", 10, weight="bold")
    if numbers:
        write(figure, MARGIN, MARGIN + 0.22, "a cell: pictures, and percent of its row", 8)
        _numbers(axes, counts, shares)
    else:
        write(figure, MARGIN, MARGIN + 0.22, "shade: percent of the row", 8)
        scale = axes_at(figure, left + side + 0.15, HEADER, 0.18, side)
        figure.colorbar(shades, cax=scale, ticks=SCALE_TICKS, format=PercentFormatter(1.0, symbol=" %"))
        scale.tick_params(labelsize=8)

    axes.set_xticks(shown, [""] * len(shown))
    axes.set_yticks(shown, [""] * len(shown))
    axes.tick_params(length=2)
    for k, row, column in zip(shown, beside, below, strict=True):
        middle = (k + 0.5) * side / K
        write(figure, left - TICK, HEADER + middle, row, ha="right", va="center")
        write(figure, left + middle, HEADER + side + TICK, column, ha="center", rotation=0 if flat else 90)
    answer, truth = "the net's answer", "true class (pictures)"
    if block > 1:
        answer += f": {block} classes a column, named by the first"
        truth += f": {block} classes a row, named by the first"
    write(figure, left + side / 2, height - MARGIN, answer, 9, ha="center", va="bottom")
    write(figure, MARGIN, HEADER + side / 2, truth, 9, rotation=90, va="center")
    return figure


def _checked(where: str, labels: ArrayLike, predicted: ArrayLike, K: int) -> tuple[np.ndarray, np.ndarray]:
    labels = check_labels(where, labels, np.shape(labels)[:1], K)
    return labels, check_labels(where, predicted, labels.shape, K, "predicted")


def _numbers(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 8 if len(counts) <= 10 else 6.5
    for i, j in np.argwhere(counts):
        colour = "white" if shares[i, j] > DARK else "black"
        text = f"{_short(counts[i, j])}\n{percent(shares[i, j])}"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour, linespacing=1.15)


def _short(count: int) -> str:
    """A count in at most six letters: 12,345, from a hundred thousand on 123 k, 12 M."""
    if count < 100_000:
        return f"{count:,}"
    return f"{count / 1e3:.0f} k" if count < 999_500 else f"{count / 1e6:.0f} M"
