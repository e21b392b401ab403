"""The first layer's kernels as pictures."""

import numpy as np
from matplotlib.figure import Figure

from tinynet.plots.page import new_figure

TILE_INCHES = 0.55  # of one kernel on paper
GAP = 1  # kernel pixels between two kernels
SHEET = (0.79, 0.85, 0.93)  # what shows in the gaps: no grey, so that black and white kernels keep their outline


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
    figure = new_figure(max(columns * TILE_INCHES, 3.2) + 0.3, towers * (rows * tile_height + 0.4) + 0.1)
    for tower, axes in enumerate(figure.subplots(towers, 1, squeeze=False).ravel()):
        sheet = _tile(weight[tower * each : (tower + 1) * each], columns)
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        name = f"tower {tower + 1}: " if towers > 1 else ""
        axes.set_title(f"{name}kernels {tower * each + 1} to {(tower + 1) * each}", fontsize="medium")
    return figure


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
