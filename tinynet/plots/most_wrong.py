"""The pictures that a net gets most wrong."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tinynet.plots.page import BLUE, GREY, MARGIN, ORANGE, new_figure, write
from tinynet.plots.pictures import check_answers, check_pictures, show
from tinynet.plots.text import class_name, fit, percent

COLUMNS = 6
CELL, WIDTH, PICTURE, LINE, HEADER = 2.1, 1.95, 1.35, 0.18, 0.5  # inches
NUMBER = 0.55  # of inches, for a percentage


def most_wrong(
    pictures: np.ndarray, probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str], count: int = 12
) -> Figure:
    """The `count` pictures whose own class got the lowest probability, of those where another class got more: each with
    the class that the net says and with its own, and their probabilities.

    pictures: (N, C, H, W) uint8, C = 1 or 3, of which only those shown are read; probabilities: (N, K), rows with the
    sum 1; labels: (N,) in [0, K); classes: K names. The worst comes first, of equals the earlier. Raises ValueError for
    others, or for a count below 1.
    """
    probabilities, labels = check_answers("most_wrong", pictures, probabilities, labels, classes)
    if count < 1:
        raise ValueError(f"most_wrong: expected count to be at least 1, got {count!r}")
    answers = Answers.of(probabilities, labels)
    return draw_most_wrong(pictures, answers, labels, classes, count)


class Answers(NamedTuple):
    """Of N pictures what is left of their probabilities (N, K) where those are too many: three arrays (N,)."""

    said: np.ndarray  # the most likely class, of equals the lower
    share: np.ndarray  # its probability
    own: np.ndarray  # that of the picture's own class

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> Self:
        each, said = np.arange(len(labels)), probabilities.argmax(axis=1)
        return cls(said, probabilities[each, said], probabilities[each, labels])


def draw_most_wrong(
    pictures: np.ndarray, answers: Answers, labels: np.ndarray, classes: Sequence[str], count: int = 12
) -> Figure:
    """`most_wrong` of answers that are known to fit. Raises ValueError for other pictures."""
    check_pictures("most_wrong", pictures)
    said, share, own = answers
    wrong = np.flatnonzero(said != labels)
    shown = wrong[np.argsort(own[wrong], kind="stable")][:count]
    columns = min(max(len(shown), 2), COLUMNS)
    height = PICTURE + 2 * LINE + 0.3
    figure = new_figure(columns * CELL + 2 * MARGIN, HEADER + -(-len(shown) // columns) * height + MARGIN, layout=None)
    write(figure, MARGIN, MARGIN, f"{len(wrong):,} of {len(labels):,} pictures wrong", 10, weight="bold")
    if len(shown):
        write(figure, MARGIN, MARGIN + 0.22, "the worst first, by the probability of their own class", 8, color=GREY)
    for n, i in enumerate(shown):
        left, top = MARGIN + n % columns * CELL, HEADER + MARGIN + n // columns * height
        show(figure, pictures[i], left, top, WIDTH, PICTURE)
        lines = (
            ("said ", said[i], share[i], ORANGE, "bold"),
            ("true ", labels[i], own[i], BLUE, "normal"),
        )
        for row, (word, k, probability, colour, weight) in enumerate(lines):
            y = top + PICTURE + 0.06 + row * LINE
            style = {"color": colour, "weight": weight}
            name = fit(class_name(classes, k), WIDTH - NUMBER, 8, before=word, weight=weight)
            write(figure, left, y, name, 8, **style)
            write(figure, left + WIDTH, y, percent(probability), 8, ha="right", **style)
    return figure
