"""What to open, and to do, when a run has ended."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from tinynet.io.checkpoints import WEIGHTS

# the telling ones first
PICTURES = (
    *("predictions.png", "confusion_matrix.png", "most_wrong.png", "learning_curves.png", "first_layer_kernels.png"),
    *("nearest_in_fc7.png", "activation_maps.png", "augmentation.png", "towers.png"),
)
NAMED = 3  # pictures that are named; the others are counted


def what_next(folder: str | os.PathLike, program: Sequence[str] = ("tinynet",)) -> list[str]:
    """A line with the pictures that are in a run's folder, and one with commands that use its weights; only what is
    there. program: the words of the command line that come before "predict" and "evaluate"."""
    folder = Path(folder)
    found = [name for name in PICTURES if (folder / name).is_file()]
    lines = []
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        lines.append(f"look   at {', '.join(found[:NAMED])}{more} in {folder}")
    if (folder / WEIGHTS).is_file():
        commands = [shlex.join([*program, "predict", str(folder)]) + " photo.jpg"]
        commands.append(shlex.join([*program, "evaluate", str(folder)]))
        lines.append(f"next   {commands[0]}, or {commands[1]}")
    return lines
