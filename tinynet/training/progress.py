"""What a training run shows on the screen: a progress bar, and lines."""

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

CELLS = 10  # of a bar, at least: then each step of a tenth is seen
# what stands around the bar, from much to little: the first that leaves the bar its cells is shown
FORMS = (
    "{desc}: {percentage:3.0f}%|{bar}| {remaining} left, loss {loss}, error {error}, {speed} images/s",
    "{desc}: {percentage:3.0f}%|{bar}| {remaining} left, loss {loss}, error {error}, {speed}/s",
    "{desc}: {percentage:3.0f}%|{bar}| {remaining} left, loss {loss}, error {error}",
    "{desc}: {percentage:3.0f}%|{bar}| {remaining} left, error {error}",
    "{desc}: {percentage:3.0f}%|{bar}| {remaining} left",
    "{desc}: {percentage:3.0f}%|{bar}|",
    "{percentage:3.0f}%|{bar}|",
    "|{bar}|",
)
WITHOUT_NUMBERS = 4  # the first of these
EPOCH_LINE = (
    "epoch {epoch}/{epochs}: loss {train_loss:.3f}, error {train_error:.1%}; validation loss {val_loss:.3f}, "
    "top-1 error {val_top1_error:.1%}{top5}; {images_per_second:,.0f} images/s"
)
FINAL_LINE = "finished after epoch {epochs}, {seconds:.0f} s: validation top-1 error {val_top1_error:.2%}{top5}"


class Bar(tqdm):
    """A bar with as many of the numbers beside it as leave it CELLS cells; `numbers`: loss, error and speed as FORMS
    shows them, empty before they are known."""

    numbers: Mapping[str, str] = {}
    form = 0  # of FORMS: a bar does not go back to a longer one, or it would jump

    def __str__(self) -> str:
        facts = {**self.format_dict, **self.numbers}
        for form in range(self.form if self.numbers else WITHOUT_NUMBERS, len(FORMS)):
            around = self.format_meter(**{**facts, "bar_format": FORMS[form].replace("{bar}", ""), "ncols": None})
            if len(around) + CELLS <= facts["ncols"]:
                break
        if self.numbers:
            self.form = form
        return self.format_meter(**{**facts, "bar_format": FORMS[form]})


def progress_bar(title: str, done: int, total: int, quiet: bool) -> Bar:
    """A bar on stderr that stands at `done` of `total` steps; none if stderr is no terminal."""
    on_screen = sys.stderr is not None and sys.stderr.isatty() and not quiet
    columns, rows = shutil.get_terminal_size()  # 80 x 24 if the screen does not tell
    return Bar(
        desc=title,
        initial=done,
        total=total,
        disable=not on_screen,
        ascii="utf" not in str(getattr(sys.stderr, "encoding", None)).lower(),  # then # for blocks
        leave=False,
        ncols=columns - 3,  # room for the ^C that a terminal writes behind it: in the next line it would stay
        nrows=rows,
    )


def advance(bar: Bar, means: Mapping[str, float], rate: float) -> None:
    """One step further; means: of train_loss and train_error so far, rate: images a second."""
    loss, error = f"{means['train_loss']:.3f}", f"{means['train_error']:.1%}"
    bar.numbers = {"loss": loss, "error": error, "speed": f"{rate:,.0f}"}
    bar.update()


def epoch_line(record: Mapping[str, Any], epochs: int, num_classes: int) -> str:
    """For an "epoch" record of a run of `epochs` epochs; num_classes: 0 if not known."""
    return EPOCH_LINE.format(epochs=epochs, **record, top5=_top5(record, num_classes, ".1%"))


def final_line(record: Mapping[str, Any], num_classes: int) -> str:
    """For a "final" record."""
    return FINAL_LINE.format(**record, top5=_top5(record, num_classes, ".2%"))


def _top5(record: Mapping[str, Any], num_classes: int, digits: str) -> str:
    """Nothing with so few classes that every label is among the five most likely."""
    return "" if num_classes and num_classes <= 5 else f", top-5 error {record['val_top5_error']:{digits}}"


def say(text: str, error: bool = False) -> None:
    """Print a line on stdout, or on stderr. A screen that is gone (a pipe or terminal that was closed) ends nothing:
    what is still said goes nowhere."""
    with contextlib.suppress(OSError):
        _print(text, sys.stderr if error else sys.stdout)


def say_result(text: str) -> None:
    """As `say`, of what a command was asked for. Raises OSError if it goes to a disk that is full: then it is lost."""
    try:
        _print(text, sys.stdout)
    except OSError as error:
        from tinynet.io.files import DISK_FULL, cannot_write  # here: a command's help waits for no more than it needs

        if error.errno in DISK_FULL:
            raise cannot_write("the result", error) from error


def _print(text: str, stream: Any) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # or the interpreter fails when it flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
