"""A figure's file."""

import io
import math
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tinynet.io.files import atomic_write
from tinynet.plots.page import PAGE, axes_of_page
from tinynet.plots.palette import few_colours

LARGE = 300_000  # bytes of a PNG


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write `figure` to `path` as what its suffix says (.png, .pdf, .svg), whole or not at all. A sheet of photographs
    of more than 300 kB becomes a .png of 256 colours, with a third of the bytes.

    Raises ValueError for a suffix that matplotlib does not know, OSError naming the file if it cannot be written.
    """
    suffix = Path(path).suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"save_figure: expected a suffix out of {', '.join(sorted(known))}, got {str(path)!r}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix)
    if suffix == "png" and buffer.tell() > LARGE and _is_sheet(figure):
        buffer = min(buffer, _with_few_colours(figure, buffer), key=lambda each: each.getbuffer().nbytes)
    atomic_write(path, buffer.getvalue())


def _is_sheet(figure: Figure) -> bool:
    """Its only images are photographs; maps of numbers, whose shades are to be read, would lose them."""
    return {axes.get_label() for axes in figure.axes if axes.images} == {PAGE}


def _with_few_colours(figure: Figure, png: io.BytesIO) -> io.BytesIO:
    with Image.open(png) as picture:
        page = np.asarray(picture.convert("RGB"))
    H = len(page)
    boxes = []
    for image in axes_of_page(figure).images:
        box = image.get_window_extent()  # from the lower left corner
        left, right = math.floor(box.x0), math.ceil(box.x1)
        boxes.append((left, H - math.ceil(box.y1), right, H - math.floor(box.y0)))
    result = io.BytesIO()
    few_colours(page, boxes).save(result, "PNG", optimize=True, dpi=(figure.dpi, figure.dpi))
    return result
