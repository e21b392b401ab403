"""Tables on the screen and as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tinynet.io.files import atomic_write
from tinynet.training.progress import say_result

Rows = Sequence[Sequence[str]]
STDOUT = "-"


def table(rows: Rows, width: int) -> str:
    """The rows, of which the first and the first of each are names; turned round if they are too wide otherwise."""
    text, turned = _lay_out(rows), _lay_out(list(zip(*rows, strict=True)))
    return text if _wide(text) <= max(width, _wide(turned)) else turned


def _lay_out(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _wide(text: str) -> int:
    return max(map(len, text.splitlines()))


class CsvOutput:
    """Rows of CSV: on stdout as they come, or in a file, which is written whole at the end or not at all. Bytes of a
    file's name that are no text are written as \\udcff, in both."""

    def __init__(self, target: str):
        self.target, self.text = target, io.StringIO(newline="")
        self.writer = csv.writer(self.text, lineterminator="\n")

    def row(self, *cells: object) -> None:
        self.writer.writerow(cells)
        if self.target == STDOUT:
            say_result(self.text.getvalue().removesuffix("\n"))
            self.text.seek(0)
            self.text.truncate()

    def end(self) -> None:
        if self.target != STDOUT:
            atomic_write(Path(self.target), self.text.getvalue().encode("utf-8", "backslashreplace"))
