"""Several runs in one picture."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tinynet.plots.page import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from tinynet.plots.text import families

COLOURS, LINES, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, GREY), ("-", "--", "-.", ":"), "osD^v"  # twenty pairs
ROWS = 12  # of the legend, in a column


def compared_curves(runs: Mapping[str, Iterable[Mapping[str, Any]]]) -> Figure:
    """Left: validation loss, right: validation top-1 error after each epoch of each run.

    runs: {name: records, as in `Trainer.records` or the lines of log.jsonl}. A run without an epoch is in the legend
    alone. Raises ValueError for no run.
    """
    if not runs:
        raise ValueError("compared_curves: expected at least one run, got none")
    columns = -(-len(runs) // ROWS)
    figure = new_figure(10.5, 4.2 + 0.18 * -(-len(runs) // columns))
    loss, error = figure.subplots(1, 2)
    styles = zip(*map(itertools.cycle, (COLOURS, LINES, MARKERS)), strict=True)
    for (name, records), (colour, line, marker) in zip(runs.items(), styles, strict=False):
        epochs = [record for record in records if record.get("event") == "epoch"]
        label = name if epochs else f"{name}: no epoch yet"
        for axes, key in ((loss, "val_loss"), (error, "val_top1_error")):
            points = [(record["epoch"], record[key]) for record in epochs if "epoch" in record and key in record]
            axes.plot(
                *(zip(*points, strict=True) if points else ([], [])),
                **{"label": label, "color": colour, "linestyle": line, "marker": marker},
                **{"markersize": 4, "linewidth": 1.5, "markevery": max(1, len(points) // 20)},
            )
    for axes, title, words in ((loss, "validation loss", "loss (nats)"), (error, "validation top-1 error", "error")):
        axes.set(xlabel="epoch", ylabel=words, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.grid(color="#E4E4E4", linewidth=0.7)
        axes.set_axisbelow(True)
    error.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    lines, labels = error.get_legend_handles_labels()
    style = {"frameon": False, "prop": {"family": families(), "size": 9}}
    legend = figure.legend(lines, labels, loc="outside lower center", ncols=columns, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a folder's name may hold $
    return figure
