"""What a training run shows on the screen: a progress bar, and lines."""

import contextlib
import os
import shutil
import sys

from tqdm import tqdm

BAR_NUMBERS = "loss {train_loss:.3f}, error {train_error:.1%}, {rate:,.0f} images/s"


def progress_bar(title: str, done: int, total: int, quiet: bool) -> tqdm:
    """A bar on stderr that stands at `done` of `total` steps; none if stderr is no terminal."""
    on_screen = sys.stderr is not None and sys.stderr.isatty() and not quiet
    columns, rows = shutil.get_terminal_size()  # 80 x 24 if the screen does not tell
    return tqdm(
        desc=title,
        initial=done,
        total=total,
        disable=not on_screen,
        ascii="utf" not in str(getattr(sys.stderr, "encoding", None)).lower(),  # then # for blocks
        leave=False,
        ncols=columns - 1,
        nrows=rows,
        bar_format="{desc}: {percentage:3.0f}%, {remaining} left{postfix} |{bar:20}|",  # what comes last is cut off
    )


def say(text: str, error: bool = False) -> None:
    """Print a line on stdout, or on stderr. A screen that is gone (a pipe or terminal that was closed) ends nothing:
    what is still said goes nowhere."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # or the interpreter fails when it flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
