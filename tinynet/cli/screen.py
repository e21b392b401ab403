"""What the program says on the screen, beside the lines of the training itself."""

import contextlib
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tinynet.errors import RunsPlainWarning
from tinynet.training.progress import say

SHOWN = 10  # skipped files that are named on the screen


class Program(NamedTuple):
    """name: in messages, such as "tinynet train"; call: the words that start it from where its user stands."""

    name: str
    call: tuple[str, ...]


TINYNET = Program("tinynet", ("tinynet",))
PROGRAM = ContextVar("PROGRAM", default=TINYNET)  # the one that runs


def readable_streams() -> None:
    """A folder's name may hold what the screen cannot show: then it is shown as \\xe4, and nothing fails."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def launched() -> tuple[str, ...]:
    """The words with which this program was started: `tinynet`, `python -m tinynet`, or python and a file."""
    start = Path(sys.argv[0])
    if start.suffix == ".py":
        return (sys.executable, "-m", "tinynet") if start.name == "__main__.py" else (sys.executable, sys.argv[0])
    on_path = shutil.which(start.name)
    here = on_path is not None and Path(on_path).with_suffix("") == start.with_suffix("")
    return (start.stem,) if here else (sys.argv[0],)


def other_commands() -> tuple[str, ...]:
    """The words that stand before predict and evaluate, where this program is `train`."""
    *words, last = PROGRAM.get().call
    if last == "train":
        return tuple(words)
    script = shutil.which("tinynet")
    ours = script is not None and Path(script).parent == Path(sys.executable).parent
    return ("tinynet",) if ours else (sys.executable, "-m", "tinynet")


def warn(text: str) -> None:
    say(f"{PROGRAM.get().name}: warning: {one_line(text)}", error=True)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Inside, tinynet's own warnings are lines of the program, without the place in the source."""
    elsewhere = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, RunsPlainWarning):
            warn(str(message))
        else:
            elsewhere(message, category, *place, **options)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def fail(text: str) -> int:
    """Say what went wrong; gives the exit code."""
    say(f"{PROGRAM.get().name}: error: {one_line(text)}", error=True)
    return 1


def name_skipped(skipped: Sequence[Any]) -> None:
    """The first files that gave no picture, as `tinynet.data.photo.album` names them, and how many there are."""
    for entry in skipped[:SHOWN]:
        warn(f"skipped {entry.path}: {entry.reason}")
    if skipped:
        warn(f"{len(skipped):,} file{'s' * (len(skipped) > 1)} skipped in all")


def one_line(text: str) -> str:
    """Without what moves the cursor or changes colours: names of files may hold that."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split("\n")))


# when it ends early


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror  # the texts of tinynet's own name the file and need no [Errno 28]
    return str(error) or type(error).__name__


def how_to_go_on(args: SimpleNamespace) -> str:
    return f"go on with: {shlex.join([*PROGRAM.get().call, '--resume', str(folder_of(args))])}"


def folder_of(args: SimpleNamespace) -> Path:
    """The run's; with --resume the path may be that of a checkpoint in it."""
    path: Path = getattr(args, "resume", None) or args.out or Path()
    return path.resolve().parent.parent if path.is_file() else path
