"""A net split into towers, with what crosses between them: as in Fig. 2 of Krizhevsky, Sutskever, Hinton 2012."""

import itertools
import math
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tinynet.layers import Conv2d, Flatten, Linear
from tinynet.plots.page import BLUE, GREEN, GREY, ORANGE, new_figure

Shape = tuple[int, ...]  # of one picture
BOX, STEP, LANE = 1.12, 1.7, 1.6  # inches: width of a box; from one to the next; from a tower to the next
BYTES = 4  # of a float32


class Block(NamedTuple):
    """A layer with weights, what it gives, and what the layers up to the next one make of that."""

    name: str
    first: Shape
    behind: str  # the one that changes the shape; "" if none does
    last: Shape
    exchange: bool  # whether it reads all towers


def towers(model: Any, image_shape: Shape) -> Figure:
    """The split net, a lane for each tower: boxes with the shape that a layer gives for one picture, arrows where data
    goes, and, dashed, where it crosses to another device, with the shape of what crosses.

    model: a `tinynet.parallel.Split`; image_shape: (C, H, W).
    """
    lanes = [blocks(model, tower, image_shape) for tower in model.towers]
    T, longest = len(lanes), max(map(len, lanes))
    figure = new_figure(0.4 + BOX + STEP * longest, 0.7 + LANE * T, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    middles = [0.6 + LANE * (t + 0.5) for t in range(T)]
    x = 0.2
    _box(axes, x, sum(middles) / T, "picture", text_of(image_shape), GREEN)
    for t, (lane, y) in enumerate(zip(lanes, middles, strict=True)):
        axes.text(x + STEP, y - 0.52, f"tower {t + 1}: {model.devices[t]}", fontsize=9, color=GREY)
        _arrow(axes, (x + BOX, sum(middles) / T), (x + STEP, y))
        for i, block in enumerate(lane):
            left = x + STEP * (i + 1)
            behind = f"\n{block.behind}: {text_of(block.last)}" if block.behind else ""
            _box(axes, left, y, block.name, text_of(block.first) + behind, BLUE)
            if i:
                _arrow(axes, (left - STEP + BOX, y), (left, y))
    for i, block in enumerate(lanes[0]):
        if block.exchange:
            left, right = x + STEP * i + BOX, x + STEP * (i + 1)
            readers = [middles[u] for u in range(T) if len(lanes[u]) > i]
            for source, reader in itertools.product(middles, readers):
                if source != reader:
                    _arrow(axes, (left, source), (right, reader), color=ORANGE, linestyle=(0, (4, 2)), bend=0.12)
            text: dict[str, Any] = {"fontsize": 8, "color": ORANGE, "ha": "center", "va": "center"}
            for above, below in itertools.pairwise(middles):
                place = (left + right) / 2, (above + below) / 2
                white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(*place, text_of(lanes[0][i - 1].last), bbox=white, **text)
    crossed = crossing_bytes(model, image_shape)
    title = f"{crossed:,} bytes cross for each picture, forward and backward together (float32)"
    axes.text(x, 0.35, title, fontsize=11)
    return figure


def crossing_bytes(model: Any, image_shape: Shape) -> int:
    """What crosses between towers for one picture, forward and backward: every tower's output, to every other reader,
    and as much gradient back."""
    lane, T = blocks(model, model.towers[0], image_shape), len(model.towers)
    total = 0
    for i, block in enumerate(lane):
        if block.exchange:
            readers = sum(len(blocks(model, tower, image_shape)) > i for tower in model.towers)
            total += 2 * BYTES * math.prod(lane[i - 1].last) * (T - 1) * readers
    return total


def blocks(model: Any, tower: Any, image_shape: Shape) -> list[Block]:
    """What one tower computes, in order."""
    found: list[Block] = []
    T, shape = len(model.towers), (1, *image_shape)
    for k, chain in enumerate(tower.chains):
        if chain is None:
            break
        if k:
            shape = (1, T * shape[1], *shape[2:])
        for layer in chain:
            shape = layer.output_shape(shape)
            if isinstance(layer, Conv2d | Linear):
                found.append(Block(layer.name, shape[1:], "", shape[1:], k > 0 and layer is chain[0]))
            elif shape[1:] != found[-1].last and not isinstance(layer, Flatten):
                found[-1] = found[-1]._replace(behind=layer.name, last=shape[1:])
    return found


def text_of(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _box(axes: Axes, left: float, middle: float, name: str, text: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left, middle - 0.42), BOX, 0.84, boxstyle="round,pad=0,rounding_size=0.06", facecolor="white",
            edgecolor=colour, linewidth=1.5,
        )
    )  # fmt: skip
    axes.text(left + BOX / 2, middle - 0.2, name, ha="center", va="center", fontsize=9, weight="bold", color=colour)
    axes.text(left + BOX / 2, middle + 0.14, text, ha="center", va="center", fontsize=7.5)


def _arrow(axes: Axes, begin: tuple, end: tuple, color: str = GREY, linestyle: Any = "-", bend: float = 0.0) -> None:
    axes.add_patch(
        FancyArrowPatch(
            begin, end, arrowstyle="-|>", mutation_scale=9, color=color, linestyle=linestyle, linewidth=1.2,
            shrinkA=1, shrinkB=1, connectionstyle=f"arc3,rad={bend}",
        )
    )  # fmt: skip
