"""Pictures that a net finds alike."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from tinynet.plots.page import GREY, MARGIN, ORANGE, axes_of_page, new_figure, write
from tinynet.plots.pictures import check_labels, check_pictures, show
from tinynet.plots.text import class_name, fit

CELL, PICTURE, ROW, APART, HEADER = 1.2, 1.0, 1.35, 0.3, 0.55  # inches
WRONG = "✗ "


def nearest_neighbours(
    queries: np.ndarray,
    neighbours: np.ndarray,
    query_labels: ArrayLike,
    neighbour_labels: ArrayLike,
    classes: Sequence[str],
) -> Figure:
    """A row a test picture: the picture, and then the training pictures whose features are nearest to its own, the
    nearest first: Krizhevsky et al. 2012, figure 4, right. One of another class has a dashed orange frame and a ✗.

    queries: (Q, C, H, W) uint8, C = 1 or 3; neighbours: (Q, k, C, H, W) uint8; query_labels: (Q,) and
    neighbour_labels: (Q, k), in [0, K); classes: K names. `tinynet.inspect.features.nearest` finds them. Raises
    ValueError for others.
    """
    check_pictures("nearest_neighbours", queries, "(Q, C, H, W)", "queries")
    check_pictures("nearest_neighbours", neighbours, "(Q, k, C, H, W)", "neighbours")
    Q, k = neighbours.shape[:2]
    truth = check_labels("nearest_neighbours", query_labels, (len(queries),), len(classes), "query_labels")
    found = check_labels("nearest_neighbours", neighbour_labels, (Q, k), len(classes), "neighbour_labels")
    if len(queries) != Q:
        raise ValueError(f"nearest_neighbours: expected neighbours of {len(queries)} queries, got those of {Q}")
    figure = new_figure(max((k + 1) * CELL + APART, 4.6) + 2 * MARGIN, HEADER + Q * ROW + MARGIN, layout=None)
    start = MARGIN + CELL + APART
    write(figure, MARGIN, MARGIN, "test picture", 9, weight="bold")
    write(figure, start, MARGIN, "training pictures with the nearest features", 9, weight="bold")
    write(figure, start, MARGIN + 0.2, "nearest first; ✗ and a dashed frame: of another class", 8, color=GREY)
    for q in range(Q):
        top = HEADER + MARGIN + q * ROW
        _cell(figure, MARGIN, top, queries[q], class_name(classes, truth[q]), weight="bold")
        for j in range(k):
            same = found[q, j] == truth[q]
            _cell(figure, start + j * CELL, top, neighbours[q, j], class_name(classes, found[q, j]), same)
    return figure


def _cell(
    figure: Figure, left: float, top: float, picture: np.ndarray, name: str, same: bool = True, weight: str = "normal"
) -> None:
    x, y, width, height = show(figure, picture, left, top, PICTURE, PICTURE)
    text = fit(name, CELL - 0.06, 8, before="" if same else WRONG, weight=weight)
    colour = "black" if same else ORANGE
    write(figure, left + PICTURE / 2, top + PICTURE + 0.06, text, 8, ha="center", color=colour, weight=weight)
    if not same:
        frame = Rectangle((x, y), width, height, fill=False, edgecolor=ORANGE, linewidth=2.5, linestyle="--")
        axes_of_page(figure).add_patch(frame)
