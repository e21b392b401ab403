"""What the towers of a split net did, and when."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tinynet.parallel.towers.timeline import COMPUTE, COPY, Span
from tinynet.plots.page import BLUE, GREEN, GREY, ORANGE, new_figure

KINDS = {"forward": (BLUE, ""), "backward": (ORANGE, "//"), "copy": (GREEN, "")}
SHORTEST_NAME = 0.025  # of the time shown: a shorter bar has no room for its name


def timeline(spans: Sequence[Span]) -> Figure:
    """A line for each tower's computing and one for the copies it takes, over time; gaps are waits.

    Raises ValueError if there are no spans.
    """
    if not spans:
        raise ValueError("timeline: expected at least one span, got none: no training step was recorded")
    towers = sorted({(span.tower, span.device) for span in spans})
    lines = [(tower, line) for tower, _ in towers for line in (COMPUTE, COPY)]
    total = 1e3 * max(span.end for span in spans)
    figure = new_figure(13, 1.5 + 0.9 * len(towers))
    axes = figure.subplots()
    for span in spans:
        y, (colour, hatch) = lines.index((span.tower, span.line)), KINDS[span.kind]
        begin, duration = 1e3 * span.begin, 1e3 * (span.end - span.begin)
        edge: dict[str, Any] = {
            "edgecolor": colour if span.kind == COPY else "white",
            "linewidth": 0.5,
        }  # a copy is seen however short
        axes.broken_barh([(begin, duration)], (y - 0.4, 0.8), facecolor=colour, hatch=hatch, **edge)
        text: dict[str, Any] = {"va": "center", "fontsize": 6.5}
        if span.kind == COPY:  # "conv3: tower 2 to 1"
            layer = span.name.partition(":")[0]
            axes.text(begin + duration + 0.002 * total, y, layer, ha="left", color=GREY, **text)
        elif duration > SHORTEST_NAME * total:
            box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
            layers = span.name.replace(" ", "\n")
            axes.text(begin + duration / 2, y, layers, ha="center", color="white", bbox=box, **text)
    names = {tower: f"tower {tower + 1}, {device}" for tower, device in towers}
    axes.set_yticks(range(len(lines)), [names[tower] if line == COMPUTE else "copies to it" for tower, line in lines])
    axes.set(xlim=(0, total), ylim=(len(lines) - 0.4, -0.6), xlabel="ms since the step began")
    busy = [
        1e3 * sum(span.end - span.begin for span in spans if span.tower == tower and span.kind != COPY) / total
        for tower, _ in towers
    ]
    shares = ", ".join(f"tower {tower + 1} {share:.0%}" for (tower, _), share in zip(towers, busy, strict=True))
    axes.set_title(f"forward and backward of one training step; computing: {shares}", fontsize=10)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    patches = [Patch(facecolor=c, hatch=h, edgecolor="white", label=kind) for kind, (c, h) in KINDS.items()]
    figure.legend(handles=patches, ncols=len(patches), fontsize=8, loc="outside lower right", frameon=False)
    return figure
