"""A figure's file."""

import io
import os
from pathlib import Path

from matplotlib.figure import Figure

from tinynet.files import atomic_write


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write `figure` to `path` as what its suffix says (.png, .pdf, .svg), whole or not at all.

    Raises ValueError for a suffix that matplotlib does not know, OSError naming the file if it cannot be written.
    """
    suffix = Path(path).suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"save_figure: expected a suffix out of {', '.join(sorted(known))}, got {str(path)!r}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix)
    atomic_write(path, buffer.getvalue())
