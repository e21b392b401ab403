"""`tinynet check`: what is missing or wrong in a layer's file."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import click

from tinynet.cli.screen import one_line
from tinynet.mode import plain
from tinynet.training.progress import say_result

PRINTED = 3  # lines that are shown of what the layer itself prints


def check(given: dict[str, Any]) -> int:
    """The exit code: 1 if something is wrong."""
    if "layer" not in given:
        for option in given:
            raise click.UsageError(f"--{option}: expected it beside one layer, got it without")
    printed: list[str] = []
    try:
        with _quiet(printed):
            from tinynet.inspect.check import check_all
    except (Exception, SystemExit) as error:  # whatever stands in a layer's file
        from tinynet.inspect.diagnosis import import_failed

        say_result(import_failed(error))
        return 1
    if "layer" in given:
        return _check_one(given, printed)
    verdicts, right = check_all(), True
    while True:
        with _quiet(printed):
            verdict = next(verdicts, None)
        if verdict is None:
            return 0 if right else 1
        right = right and verdict.right
        say_result(verdict.sentence)


def _check_one(given: dict[str, Any], printed: list[str]) -> int:
    from tinynet.inspect import locate
    from tinynet.inspect.check import check_layer

    try:
        with _quiet(printed):
            kind = locate.find(given["layer"])
            examples = locate.examples_of(kind, given.get("shape", ()), given.get("args", ""))
            verdict = check_layer(kind, examples)
    except locate.BrokenFileError as error:
        say_result(str(error))
        return 1
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if (
        examples is not None
        and verdict.method == "forward"
        and " fails for " in verdict.sentence
        and not verdict.checks
    ):
        verdict.details.append("should x have another shape, say which: --shape 4,3")
    if verdict.method == "__init__" and " missing " in verdict.sentence:
        verdict.details.append(
            'say how to make one: --args "features=3", or `example = (arguments, shape)` in the class'
        )
    say_result(str(verdict))
    if printed:
        say_result(f"  it printed {len(printed)} line{'s' * (len(printed) > 1)}:")
        for line in printed[:PRINTED]:
            say_result(f"    {one_line(line)[:110]}")
    return 0 if verdict.right else 1


@contextlib.contextmanager
def _quiet(printed: list[str]) -> Iterator[None]:
    """In plain mode; what a layer or its file prints comes after the verdict."""
    screen = io.StringIO()
    try:
        with plain(), contextlib.redirect_stdout(screen):
            yield
    finally:
        printed += screen.getvalue().splitlines()
