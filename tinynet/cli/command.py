"""Commands whose help has headings, and what is said of a command line that is wrong."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from tinynet.cli.values import did_you_mean
from tinynet.mode import SWITCH, plain

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


class Job(NamedTuple):
    """What is to be done, once the command line is read: `work` gives the exit code. `name` is the program's in
    messages, such as "tinynet train"."""

    name: str
    work: Callable[[], int]


class Option(click.Option):
    """An option that stands under a heading of the help. alone: what it means without =VALUE; it then takes its value
    behind = only, so that the word after it is no value of it."""

    def __init__(self, *names: str, heading: str = "options", alone: str = "", **settings: Any):
        super().__init__(names, **settings)
        self.heading, self.alone = heading, alone


@contextlib.contextmanager
def _errors_know(ctx: click.Context) -> Iterator[None]:
    """Of which command they are: its options are what may be meant."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


class Command(click.Command):
    """A command whose callback gets `given`, the options that stand on the command line and no others, and gives the
    exit code. What it raises as UsageError is wrong usage too."""

    def __init__(
        self, name: str, work: Callable[[dict[str, Any]], int], params: Sequence[click.Parameter], short: str, text: str
    ):
        settings = HELP | {"allow_extra_args": True}  # which `parse_args` names in words of its own
        super().__init__(name, context_settings=settings, params=list(params), help=text.strip(), short_help=short)
        self.work = work

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        alone = {name: param.alone for param in self.params if isinstance(param, Option) for name in param.opts}
        args = [f"{arg}={alone[arg]}" if alone.get(arg) else arg for arg in args]
        several = {name for param in self.params if param.multiple for name in param.opts}
        with _errors_know(ctx):
            rest = super().parse_args(ctx, _each_with_its_option(args, several))
        if rest and not ctx.resilient_parsing:
            near = f"; did you mean --data {rest[0]}?" if Path(rest[0]).is_dir() else ""
            raise click.UsageError(f"expected options, got {' '.join(map(repr, rest))}{near}", ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Job:
        said = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        given = {name: ctx.params[name] for name in ctx.params if name in said}
        mode = plainly if given.pop("plain", False) else contextlib.nullcontext  # it says how to compute, and not what

        def work() -> int:
            with mode():
                return self.work(given)

        return Job(ctx.command_path, work)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (row := param.get_help_record(ctx)):
                sections.setdefault(getattr(param, "heading", "help"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=26)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.help}\n")  # as it is laid out


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Inside, this process and those that it starts are in plain mode: --plain."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        with plain():
            yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


def _each_with_its_option(args: list[str], several: set[str]) -> list[str]:
    """--evaluate A B as click reads it, with --evaluate before each; `several`: the options that may be so."""
    spread: list[str] = []
    option = ""
    for arg in args:
        if arg.startswith("-"):
            option = arg if arg in several else ""
            spread += [] if option else [arg]
        else:
            spread += [option, arg] if option else [arg]
    return spread + ([option] if option and args[-1] == option else [])


@click.pass_context
def _help_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class Group(click.Group):
    """The commands. Without one it shows its help, `text` as it is laid out."""

    def __init__(self, name: str, text: str):
        super().__init__(name, callback=_help_alone, context_settings=HELP, help=text, invoke_without_command=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _errors_know(ctx):
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they are used

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.help}\n")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"{args[0]}: no such command{near}", ctx)
        return super().resolve_command(ctx, args)


def in_our_words(error: click.UsageError) -> str:
    """What is wrong with a command line, as one line."""
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option{_near_option(error)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"expected {error.param.metavar or _name(error.param)}, got none"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param)}: {error.message}"
    if isinstance(error, click.BadOptionUsage):
        flag = any(param.is_flag for param in _options(error) if error.option_name in param.opts)
        return f"{error.option_name}: expected {'no value, got one' if flag else 'a value, got none'}"
    return error.format_message()


def _name(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else str(param.human_readable_name)


def _options(error: click.UsageError) -> list[click.Option]:
    params = error.ctx.command.get_params(error.ctx) if error.ctx else []
    return [param for param in params if isinstance(param, click.Option)]


def _near_option(error: click.NoSuchOption) -> str:
    return did_you_mean(error.option_name, [name for param in _options(error) for name in param.opts])
