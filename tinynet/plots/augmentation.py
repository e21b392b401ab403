"""What a net really sees of a picture, epoch after epoch."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tinynet.plots.page import GREY, MARGIN, new_figure, write
from tinynet.plots.pictures import check_pictures, show

CELL, APART, HEADER = 1.25, 0.2, 0.75  # inches


def augmentation_sheet(
    originals: np.ndarray, versions: ArrayLike, mean: ArrayLike = 0.0, std: ArrayLike = 1.0
) -> Figure:
    """A row a picture: as it is in the data set, then as the net gets it in each epoch; drawn is x * std + mean, cut to
    [0, 1] (Krizhevsky et al. 2012, section 4.1).

    originals: (P, C, H, W) uint8, C = 1 or 3; versions: (E, P, C, h, w) float, of E epochs; mean, std: those of the
    Loader, in units of the full scale, (C,) or a number. mean may be a picture (C, H, W), of which the middle h x w is
    added, as the Loader subtracts it. Raises ValueError for others, for std not above 0, and for NaN.
    """
    check_pictures("augmentation_sheet", originals, "(P, C, H, W)", "originals")
    P, C, H, W = originals.shape
    x = np.asarray(versions, np.float64)
    if x.ndim != 5 or x.shape[1:3] != (P, C) or 0 in x.shape:
        raise ValueError(
            f"augmentation_sheet: expected versions of shape (E, {P}, {C}, h, w), one of each original in each of E "
            f"epochs; got {x.shape}"
        )
    E, _, _, h, w = x.shape
    shift, scale = _over_channels("mean", mean, (C, H, W)), _over_channels("std", std, (C,))
    if shift.ndim == 3 and shift.shape[1:] == (H, W):
        if h > H or w > W:
            raise ValueError(f"augmentation_sheet: expected versions within the mean picture, {H} x {W}; got {h} x {w}")
        shift = shift[:, (H - h) // 2 :, (W - w) // 2 :][:, :h, :w]
    if not (scale > 0).all():
        raise ValueError(f"augmentation_sheet: expected std above 0, got {std!r}")
    seen = np.clip(x * scale + shift, 0, 1)
    if not np.isfinite(seen).all():
        raise ValueError("augmentation_sheet: expected finite numbers in versions, mean and std; got NaN")
    figure = new_figure((E + 1) * CELL + APART + 2 * MARGIN, HEADER + P * CELL + MARGIN, layout=None)
    write(figure, MARGIN, MARGIN, "in the data set", 9, weight="bold")
    write(figure, MARGIN, MARGIN + 0.2, f"{H} × {W}", 8, color=GREY)
    start = MARGIN + CELL + APART
    write(figure, start, MARGIN, "as the net sees it", 9, weight="bold")
    write(figure, start, MARGIN + 0.2, f"{h} × {w}", 8, color=GREY)
    for e in range(E):
        write(figure, start + (e + 0.5) * CELL - 0.05, HEADER - 0.2, f"epoch {e + 1}", 8, ha="center")
    for p in range(P):
        top = HEADER + p * CELL
        show(figure, originals[p], MARGIN, top, CELL - 0.1, CELL - 0.1)
        for e in range(E):
            show(figure, seen[e, p], start + e * CELL, top, CELL - 0.1, CELL - 0.1)
    return figure


def _over_channels(what: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The number, or (C, 1, 1), or the picture."""
    array = np.asarray(value, np.float64)
    if array.shape not in ((), shape[:1], shape):
        wanted = f"of shape {shape[:1]}" + (f" or {shape}" if len(shape) > 1 else "")
        raise ValueError(f"augmentation_sheet: expected {what} as a number or {wanted}, got shape {array.shape}")
    return array[:, None, None] if array.ndim == 1 else array
