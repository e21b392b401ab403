"""Which class of layers a word means: `relu`, `tinynet.layers.relu:ReLU`, `my_layer.py:Tanh`, `my_layer.py`."""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import tinynet
from tinynet.inspect import diagnosis
from tinynet.inspect.examples import ROWS, Example
from tinynet.layers.layer import Layer

SHAPES = (2, 3, 4, 5), (4, 3)  # that are tried with a layer that says nothing of itself


class NotFoundError(ValueError):
    """No such layer, or several. The text says what was expected, what came and, if there is one, what is near."""


class BrokenFileError(ValueError):
    """A file that cannot be imported, or holds no layer. The text is a sentence."""


def find(word: str) -> type[Layer]:
    """The class that is meant. Raises NotFoundError or BrokenFileError."""
    place, _, name = word.rpartition(":") if _names_a_class(word) else (word, "", "")
    if place.endswith(".py"):
        return _one_of(place, _layers_in(_of_file(Path(place))), name)
    if "." in place or name:
        return _one_of(place, _layers_in(_of_module(place)), name)
    known = {plain(kind.__name__): kind for kind in ROWS} | {
        plain(kind.__module__.split(".")[-1]): kind for kind in ROWS
    }
    if plain(word) in known:
        return known[plain(word)]
    if word.isidentifier() and importlib.util.find_spec(f"tinynet.layers.{word.lower()}"):  # without a row so far
        return _one_of(word, _layers_in(_of_module(f"tinynet.layers.{word.lower()}")), "")
    near = difflib.get_close_matches(plain(word), known, n=1)
    hint = f"did you mean {known[near[0]].__name__}?" if near else "a file of yours ends with .py: my_layer.py:Tanh"
    raise NotFoundError(f"{word}: expected one of {', '.join(kind.__name__ for kind in ROWS)}; {hint}")


def plain(name: str) -> str:
    """max_pool, MaxPool and max-pool are one."""
    return name.casefold().replace("_", "").replace("-", "")


def _names_a_class(word: str) -> bool:
    """Whether a class stands behind a colon, which a path of Windows has as well."""
    return ":" in word and word.rpartition(":")[2].isidentifier() and not Path(word).exists()


def _of_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFoundError(f"{name}: there is no module of that name") from None
        raise BrokenFileError(diagnosis.import_failed(error)) from error
    except Exception as error:
        raise BrokenFileError(diagnosis.import_failed(error)) from error


def _of_file(path: Path) -> ModuleType:
    """What a file holds; one of tinynet's own is the module that it is anyway."""
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    package = Path(tinynet.__file__).resolve().parent
    if path.resolve().is_relative_to(package):
        parts = path.resolve().relative_to(package.parent).with_suffix("").parts
        return _of_module(".".join(parts).removesuffix(".__init__"))
    name = f"_checked_{path.stem}"  # not the stem alone: a file may be called random.py
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BrokenFileError(diagnosis.import_failed(error)) from error
    finally:
        sys.path.pop(0)
    return module


def _layers_in(module: ModuleType) -> dict[str, type[Layer]]:
    """The layers that the module itself defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Layer)
        and value.__module__ == module.__name__
        and value is not Layer
    }


def _one_of(place: str, found: dict[str, type[Layer]], name: str) -> type[Layer]:
    if not found:
        raise BrokenFileError(f"{place} has no layer: expected a class that inherits from tinynet.layers.Layer")
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if not name:
        first = next(iter(found))
        raise NotFoundError(f"{place}: expected one layer, got {', '.join(found)}; say which: {place}:{first}")
    by_name = {plain(key): value for key, value in found.items()}
    if plain(name) not in by_name:
        raise NotFoundError(f"{place}:{name}: expected a layer of that file, {', '.join(found)}; got {name}")
    return by_name[plain(name)]


# how to make one


def examples_of(kind: type[Layer], shape: Sequence[int] = (), arguments: str = "") -> list[Example] | None:
    """What a user says of his layer, by --shape and --args or by an attribute `example`; None: its row in the table.

    Without a word of it the constructor is called without arguments, and a shape that forward takes is looked for.
    Raises ValueError for arguments that cannot be read, or an `example` that is none.
    """
    args, options = parsed(arguments)
    said: tuple[Any, ...] | None = getattr(kind, "example", None)
    if said is not None and not (shape and arguments):
        options_said, *rest = _checked_example(kind, said)
        options = options if arguments else options_said
        shape = shape or rest[0]
        return [Example(lambda new: new(*args, **options), tuple(shape), tuple(rest[1]) if len(rest) > 1 else ())]
    if not shape and not arguments and kind.__name__ in {known.__name__ for known in ROWS}:
        return None
    return [Example(lambda new: new(*args, **options), tuple(shape) or _shape_that_fits(kind, args, options))]


def parsed(arguments: str) -> tuple[list[Any], dict[str, Any]]:
    """("3, bias=False") -> ([3], {"bias": False}); ValueError for what is not of literal values."""
    try:
        call: Any = ast.parse(f"f({arguments})", mode="eval").body
        args = [ast.literal_eval(one) for one in call.args]
        options = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError, AttributeError):
        raise ValueError(
            f"expected the constructor's arguments with commas between them, such as 3, bias=False; got {arguments!r}"
        ) from None
    return args, options


def _checked_example(kind: type[Layer], said: Any) -> tuple[Any, ...]:
    fits = isinstance(said, tuple) and len(said) in (2, 3) and isinstance(said[0], dict) and isinstance(said[1], tuple)
    if not fits or not all(isinstance(size, int) and size > 0 for size in said[1]):
        raise ValueError(
            f"{kind.__name__}.example: expected (constructor's arguments, shape of an x), such as "
            f'({{"features": 3}}, (4, 3)), got {said!r}'
        )
    return said


def _shape_that_fits(kind: type[Layer], args: list[Any], options: dict[str, Any]) -> tuple[int, ...]:
    """The first of SHAPES that forward takes, else the first."""
    for shape in SHAPES:
        try:
            kind(*args, **options).forward(np.ones(shape, np.float32))
        except Exception:
            continue
        return shape
    return SHAPES[0]
