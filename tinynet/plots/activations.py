"""One picture on its way through a net."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tinynet.plots.page import GREY, MARGIN, axes_at, new_figure, write
from tinynet.plots.pictures import check_pictures, show
from tinynet.plots.text import fit

MAPS = 8
MOST_ROWS = 12  # of layers one below the other; more stand in two columns
STRIP = 256  # values in one line of a strip
NAMES, TILE, ROW, HEADER, APART = 1.25, 0.6, 0.68, 1.75, 0.3  # inches
GAP = 0.06  # of a tile


def activation_maps(activations: Mapping[str, ArrayLike], picture: np.ndarray, maps: int = MAPS) -> Figure:
    """A row a layer: the first `maps` maps of an output (1, C, H, W), or all values of an output (1, F) as a strip, 256
    a line. Each row has its own scale, which stands at its left: from black, 0, to the row's largest value in white; of
    a layer with values below 0 from orange, negative, over white, 0, to purple, positive.

    activations: {name: array} in the net's order, as `tinynet.inspect.features.activations` gives for one picture;
    picture: what the net got of it, (C, H, W) uint8, C = 1 or 3. Raises ValueError for other shapes, no layer, maps
    below 1, NaN or infinity.
    """
    check_pictures("activation_maps", np.asarray(picture), "(C, H, W)", "picture")
    outputs = {name: _checked(name, output) for name, output in activations.items()}
    if not outputs or maps < 1:
        raise ValueError(f"activation_maps: expected a layer and maps of at least 1, got {len(outputs)}, maps={maps}")
    columns = 1 if len(outputs) <= MOST_ROWS else 2
    rows = -(-len(outputs) // columns)
    width = NAMES + maps * TILE
    figure = new_figure(
        max(columns * (width + APART) - APART, 4.6) + 2 * MARGIN, HEADER + rows * ROW + MARGIN, layout=None
    )
    show(figure, picture, MARGIN, MARGIN, NAMES, HEADER - 2 * MARGIN - 0.1)
    C, H, W = picture.shape
    lines = (
        f"a picture of {C} × {H} × {W} on its way through the net",
        f"of each layer the first {maps} maps, of a vector all",
        "at the left: name, shape, smallest and largest value",
        "grey: black is 0, white the largest value",
        "colour: orange is below 0, white is 0, purple above",
    )
    for i, line in enumerate(lines):
        write(
            figure, MARGIN + NAMES + 0.1, MARGIN + 0.21 * i, line, 9 if i == 0 else 8, color="black" if i == 0 else GREY
        )
    for i, (name, output) in enumerate(outputs.items()):
        left, top = MARGIN + i // rows * (width + APART), HEADER + i % rows * ROW
        write(figure, left, top + 0.03, fit(name, NAMES - 0.1, 8, weight="bold"), 8, weight="bold")
        write(figure, left, top + 0.2, fit(" × ".join(map(str, output.shape)), NAMES - 0.1, 7), 7)
        write(figure, left, top + 0.36, f"{output.min():.3g} to {output.max():.3g}".replace("-", "−"), 7, color=GREY)
        _draw(figure, left + NAMES, top, output, maps)
    return figure


def _checked(name: str, output: ArrayLike) -> np.ndarray:
    """(C, H, W) or (F,)."""
    array = np.asarray(output)
    if array.ndim not in (2, 4) or len(array) != 1 or 0 in array.shape:
        raise ValueError(
            f"activation_maps: expected the output of {name!r} for one picture, of shape (1, C, H, W) or (1, F); "
            f"got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"activation_maps: expected finite numbers, got NaN or infinity in the output of {name!r}")
    return array[0]


def _draw(figure: Figure, left: float, top: float, output: np.ndarray, maps: int) -> None:
    axes = axes_at(figure, left, top, maps * TILE, TILE)
    most = float(np.abs(output).max()) or 1.0
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0} if output.min() >= 0 else {"cmap": "PuOr", "vmin": -most}
    look |= {"vmax": most, "interpolation": "nearest", "aspect": "auto"}
    if output.ndim == 1:
        line = min(STRIP, len(output))
        strip = np.full(-(-len(output) // line) * line, np.nan)
        strip[: len(output)] = output
        axes.imshow(strip.reshape(-1, line), extent=(0, maps - GAP, GAP, 1), **look)
    else:
        height, width = (1 - GAP) * np.array(output.shape[1:]) / max(output.shape[1:])
        for c, values in enumerate(output[:maps]):
            axes.imshow(values, extent=(c, c + width, 1 - height, 1), **look)
    axes.set(xlim=(0, maps), ylim=(0, 1))
    axes.set_axis_off()
