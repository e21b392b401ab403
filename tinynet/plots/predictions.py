"""What a net says to a few pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tinynet.plots.page import BLUE, MARGIN, ORANGE, axes_at, new_figure, write
from tinynet.plots.pictures import check_answers, show
from tinynet.plots.text import class_name, fit, percent

COLUMNS, SHOWN = 4, 5
# inches
CELL, PICTURE, NAME, BAR, ROW = 3.05, 1.5, 1.35, 0.95, 0.2
HEADER, CAPTION, GAP = 0.3, 0.3, 0.25


def predictions(pictures: np.ndarray, probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> Figure:
    """Each picture with its true label below, and its five most likely classes as bars: Krizhevsky et al. 2012,
    figure 4, left. The true class's bar is orange and hatched, its name bold.

    pictures: (N, C, H, W) uint8, C = 1 or 3, N up to about 8; probabilities: (N, K), rows with the sum 1; labels: (N,)
    in [0, K); classes: K names. Among equal probabilities the lower class comes first. Raises ValueError for others.
    """
    probabilities, labels = check_answers("predictions", pictures, probabilities, labels, classes)
    N, K = probabilities.shape
    bars, columns = min(SHOWN, K), min(COLUMNS, N)
    height = PICTURE + CAPTION + bars * ROW + GAP
    figure = new_figure(
        max(columns, 2) * CELL + 2 * MARGIN - 0.2, HEADER + -(-N // columns) * height + MARGIN, layout=None
    )
    write(figure, MARGIN, MARGIN, "below each picture its class; its bar, if it is here, is orange and hatched", 9)
    for n in range(N):
        left, top = MARGIN + n % columns * CELL, HEADER + MARGIN + n // columns * height
        width = CELL - 0.2
        show(figure, pictures[n], left, top, width, PICTURE)
        truth = fit(class_name(classes, labels[n]), width, 9, weight="bold")
        write(figure, left + width / 2, top + PICTURE + 0.06, truth, 9, weight="bold", ha="center")
        likely = np.argsort(-probabilities[n], kind="stable")[:bars]
        _bars(figure, left, top + PICTURE + CAPTION, probabilities[n, likely], likely == labels[n])
        for row, k in enumerate(likely):
            middle, weight = top + PICTURE + CAPTION + (row + 0.5) * ROW, "bold" if k == labels[n] else "normal"
            name = fit(class_name(classes, k), NAME - 0.08, 8, weight=weight)
            write(figure, left + NAME - 0.08, middle, name, ha="right", va="center", weight=weight)
            write(figure, left + width, middle, percent(probabilities[n, k]), ha="right", va="center", weight=weight)
    return figure


def _bars(figure: Figure, left: float, top: float, shares: np.ndarray, true: np.ndarray) -> None:
    axes = axes_at(figure, left + NAME, top, BAR, len(shares) * ROW)
    for row, (share, own) in enumerate(zip(shares, true, strict=True)):
        axes.barh(row, share, 0.72, color=ORANGE if own else BLUE, hatch="////" if own else None, edgecolor="white")
    axes.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
