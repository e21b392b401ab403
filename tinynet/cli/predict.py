"""`tinynet predict`: what a trained net says to pictures."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from PIL import Image
from tqdm.std import Bar

import tinynet
from tinynet.cli.screen import fail, one_line, reason
from tinynet.cli.table import CsvOutput
from tinynet.cli.usage import device_names
from tinynet.training.pictures import picture_files
from tinynet.training.progress import say_result

BATCH = 64  # crops that go through the net at a time, as in evaluation
BATCHES = 4  # that are answered before the next are read
LONGEST_NAME = 40  # of a class, on the screen
NARROWEST, WIDEST = 10, 50  # columns of a bar


def predict(given: dict[str, Any]) -> int:
    """The exit code: 1 if a picture could not be read; the others are answered."""
    if given["run"].is_file() and given["run"].suffix.lower() in Image.registered_extensions():
        raise click.UsageError(f"expected the run first and then pictures, got the picture {given['run']}")
    run = tinynet.load_run(given["run"], devices=device_names(given.get("devices", "cpu")))
    paths, missing = pictures_in(given["images"])
    count = given.get("top", 5)
    output = CsvOutput(given["csv"]) if "csv" in given else None
    if output:
        output.row("file", "rank", "class", "probability")
    ten_crop = given.get("ten_crop", False)
    at_a_time = BATCHES * run.preprocessing.pictures_a_batch(BATCH, ten_crop)  # full batches, as evaluation has them
    for start in range(0, len(paths), at_a_time):
        some = paths[start : start + at_a_time]
        answers = run.predict(some, ten_crop=ten_crop, batch_size=BATCH, unreadable="skip")
        for skipped in answers.skipped:
            missing += fail(f"{skipped.path}: {skipped.reason}")
        for path, best in zip(answers.paths or (), answers.top(count), strict=True):
            if output:
                for rank, (name, probability) in enumerate(best, 1):
                    output.row(path, rank, name, f"{probability:.6g}")
            else:
                say_result(f"{one_line(str(path))}\n" + "\n".join(bars(best)))
    if output:
        output.end()
    return 1 if missing else 0


def pictures_in(images: tuple[Path, ...]) -> tuple[list[Path], int]:
    """(the files, with those in folders in their place; how many folders hold none)."""
    found: list[Path] = []
    without = 0
    for image in images:
        try:
            found += picture_files(image) if image.is_dir() else [image]
        except OSError as error:
            without += fail(reason(error))
    return found, without


def bars(answer: list[tuple[str, float]]) -> Iterator[str]:
    """A line for each class: probability, name, bar."""
    names = [one_line(name) for name, _ in answer]
    names = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..." for name in names]
    longest = max(map(len, names))
    width = shutil.get_terminal_size().columns - len("  100.0%    ") - longest - 1
    charset = Bar.UTF if blocks_can_be_shown() else " #"
    for name, (_, probability) in zip(names, answer, strict=True):
        bar = Bar(probability, min(max(width, NARROWEST), WIDEST), charset=charset)
        yield f"  {probability:6.1%}  {name:<{longest}}  {bar}".rstrip()


def blocks_can_be_shown() -> bool:
    try:
        Bar.UTF.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
