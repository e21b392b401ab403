"""Whether a layer is what its fast twin was written for: its functions, and the source that they were read from.

A twin stands for the lines of a layer's file. Should they change, by an edit of the file, a function put in the place
of another, or a subclass, the twin would compute something else than what is read. So a class is itself if

    its functions, and the plain helpers that they call, are those that the files made, with the code that the files
    say, and what they look up by name is what it was;
    and its file, and the helpers' files, have the digests of `tinynet/fast/digests.json`.

A digest is of the source without comments, docstrings, blank lines and trailing space, with LF as its line ends. Source
is read through the module's loader, once a class, when its twin is first asked for. Where there is none, as in a frozen
program or beside .pyc files alone, the version of the package is trusted.
"""

import builtins
import hashlib
import importlib.util
import inspect
import io
import json
import re
import sys
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import resources
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter

HELPERS = {"tinynet.layers.windows", "tinynet.layers.parameter", "tinynet.random", "tinynet.checks"}
MISSING: Any = object()  # the value of a name that is not there: one that stands before Python's own `round`, say


class Foreign(NamedTuple):
    """A name that meant something else than tinynet's own already when it was looked at first."""

    space: Mapping[str, Any]
    name: str
    value: Any


class Identity:
    """What a class, or a module of helpers, was when it was read. `trusted`: there was no source to look at."""

    def __init__(self, kind: Any, digests: Mapping[str, str]):
        is_module = isinstance(kind, ModuleType)
        functions = _functions_of(kind) if is_module else kind._as_written
        self._names = frozenset() if is_module else frozenset(functions)
        self._watched: list[tuple[Mapping[str, Any], str, Any]] = []
        self._codes: dict[FunctionType, CodeType] = {}
        self.foreign: Foreign | None = None
        self.modules = {kind.__name__ if is_module else kind.__module__}
        for name, function in functions.items():
            self._watched.append((vars(kind), name, function))
            self._look_at(function)
        self._takes_parameters = Parameter.__module__ in self.modules
        self._edited, self.trusted = self._compared(digests)

    def _look_at(self, function: Any) -> None:
        """Note the function's code and what its global names stand for; and the same of the helpers among them."""
        function = inspect.unwrap(getattr(function, "__func__", function))
        if not isinstance(function, FunctionType) or function in self._codes:
            return
        self._codes[function] = function.__code__
        space = function.__globals__
        for name in sorted(set(_names(function.__code__))):
            if name in space:
                self._watched.append((space, name, space[name]))
                self._look_at_value(space, name, space[name])
            elif hasattr(builtins, name):
                self._watched.append((space, name, MISSING))

    def _look_at_value(self, space: Mapping[str, Any], name: str, value: Any) -> None:
        home = getattr(value, "__module__", "") or ""
        if value is Parameter:
            self.modules.add(home)
            for attribute, own in vars(Parameter).items():
                self._watched.append((vars(Parameter), attribute, own))
                for function in (own.fget, own.fset) if isinstance(own, property) else (own,):
                    self._look_at(function)
        elif isinstance(value, FunctionType):
            if not home.startswith("tinynet.") or not _stands_in(home, value):
                self.foreign = self.foreign or Foreign(space, name, value)
            elif home in HELPERS:
                self.modules.add(home)
                self._look_at(value)
        elif isinstance(value, ModuleType):
            if sys.modules.get(value.__name__) is not value:
                self.foreign = self.foreign or Foreign(space, name, value)
        elif callable(value) and not isinstance(value, (type, BuiltinFunctionType)):
            self.foreign = self.foreign or Foreign(space, name, value)

    def _compared(self, digests: Mapping[str, str]) -> tuple[str, bool]:
        """(why the files are not those of the digests, or ""; whether some file was not there to be compared)."""
        texts = {name: source_of(name) for name in sorted(self.modules)}
        edited = [name for name, text in texts.items() if text is not None and digest(text) != digests.get(name)]
        if edited:
            files = " and ".join(f"{name.replace('.', '/')}.py" for name in edited)
            changed = "changed since the twin was checked against it"
            return f"{files} {changed if digests else 'has no digest: tinynet/fast/digests.json is missing'}", False
        for name, text in texts.items():
            written = [] if text is None else list(_codes_in(compile(text, name, "exec", dont_inherit=True)))
            for function, code in self._codes.items():
                if written and function.__module__ == name and not any(_same(code, own) for own in written):
                    return f"{name.replace('.', '/')}.py has other lines than those that were loaded", False
        return "", None in texts.values()

    def changed(self) -> str | None:
        """What is no longer as it was, of the class; None if all is."""
        if self.foreign:
            return f"{self.foreign.name} was replaced"
        for space, name, value in self._watched:
            if space.get(name, MISSING) is not value:
                return f"{name} was replaced"
        for function, code in self._codes.items():
            if function.__code__ is not code:
                return f"the code of {function.__name__} was replaced"
        return self._edited or None

    def changed_in(self, layer: Layer) -> str | None:
        """What of this one layer is its own: a function in the place of one of the class's, or a parameter of another
        class; None if nothing is."""
        own = vars(layer)
        if not self._names.isdisjoint(own):
            return f"its {min(self._names & own.keys())} was replaced"
        if self._takes_parameters:
            for name, value in own.items():
                if isinstance(value, Parameter) and any(type(part) is not Parameter for part in value.parts):
                    return f"its {name} is of the class {type(value).__name__}"
        return None


_identities: dict[Any, Identity] = {}


def of(kind: Any) -> Identity:
    """The identity of a class that has a twin, or whose update has (`SGD`), or of a module of helpers; looked at when
    it is first asked for, and again when a name that was foreign then means something else."""
    known = _identities.get(kind)
    if known is None or (known.foreign and known.foreign.space.get(known.foreign.name) is not known.foreign.value):
        known = _identities[kind] = Identity(kind, stored_digests())
    return known


def inherits(kind: Any, twins: Collection[type[Layer]]) -> str | None:
    """Why a class has no twin though one that it inherits from has; None for any other."""
    if any((twin.__module__, twin.__qualname__) == (kind.__module__, kind.__qualname__) for twin in twins):
        return f"{kind.__module__} was loaded again"
    parent = next((base for base in kind.__mro__ if base in twins), None)
    return None if parent is None else f"it is of the subclass {kind.__name__} of {parent.__name__}"


def stored_digests() -> dict[str, str]:
    """{module: digest} of the files that the twins were checked against; nothing if there is no such list."""
    try:
        found = json.loads(resources.files("tinynet.fast").joinpath("digests.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def source_of(module: str) -> str | None:
    """The source of a module that was imported, by its loader; None where there is none."""
    spec = getattr(sys.modules[module], "__spec__", None) or importlib.util.find_spec(module)
    read: Callable[[str], str | None] | None = getattr(spec and spec.loader, "get_source", None)
    try:
        return read(module) if read else None
    except (OSError, ImportError):
        return None
    except (SyntaxError, UnicodeDecodeError):  # half saved: no source that was ever loaded
        return ""


def digest(source: str) -> str:
    """The SHA-256 of what the source does, whatever it says about it, see the top of this file; "" if it is none."""
    try:
        return hashlib.sha256(normalised(source).encode()).hexdigest()
    except (SyntaxError, tokenize.TokenError):
        return ""


def normalised(source: str) -> str:
    """The source without comments, docstrings, blank lines and trailing space, its lines ended by LF."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    lines = source.split("\n")
    for (first, begin), (last, end) in reversed(list(_left_out(source))):
        lines[first - 1 : last] = [lines[first - 1][:begin] + lines[last - 1][end:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _left_out(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(begin, end) of each comment, and of each string that is a statement by itself."""
    previous = tokenize.NEWLINE
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token, following in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        if token.type == tokenize.COMMENT:
            yield token.start, token.end
        starts = previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.STRING and starts and following.type in (tokenize.NEWLINE, tokenize.COMMENT):
            yield token.start, token.end
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
            previous = token.type


def _functions_of(module: ModuleType) -> dict[str, FunctionType]:
    own = {name: value for name, value in vars(module).items() if isinstance(value, FunctionType)}
    return {name: value for name, value in own.items() if value.__module__ == module.__name__}


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    """All code inside."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes_in(inner)


def _same(code: CodeType, other: CodeType) -> bool:
    """Whether both do the same, wherever they stand and whatever their docstrings say."""
    if (code.co_qualname, code.co_code, code.co_names, code.co_varnames) != (
        *(other.co_qualname, other.co_code, other.co_names, other.co_varnames),
    ):
        return False
    pairs = list(zip(code.co_consts, other.co_consts, strict=False))
    if pairs and all(isinstance(each, (str, type(None))) for each in pairs[0]):
        pairs = pairs[1:]  # the docstring
    return len(code.co_consts) == len(other.co_consts) and all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else type(a) is type(b) and a == b
        for a, b in pairs
    )


def _names(code: CodeType) -> Iterator[str]:
    """The names that the code, and the code inside it, looks up outside of itself."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _stands_in(module: str, function: FunctionType) -> bool:
    """Whether its module's file made the function, and not another that took its name, as functools.wraps does. An op
    of tinynet's has its dispatcher around it."""
    own, around = (re.sub(r"[\\/]", ".", one.__code__.co_filename) for one in (inspect.unwrap(function), function))
    return own.endswith(f"{module}.py") and around.endswith((f"{module}.py", "tinynet.backend.dispatch.py"))
