"""The names that CuPy 14.2 has, and the parameters of its functions, as cupy_names.txt lists them. The stand-in refuses
what is not there, as CuPy would."""

import functools
import inspect
from pathlib import Path


@functools.cache
def names(space: str = "") -> dict[str, str]:
    """Of cupy, or `cupy.<space>`: {name: "(a, axis=None)" of a function, "ufunc", or "" for anything else}."""
    return _spaces().get(f"cupy{space and '.'}{space}", {})


@functools.cache
def _spaces() -> dict[str, dict[str, str]]:
    spaces: dict[str, dict[str, str]] = {}
    for line in Path(__file__).with_name("cupy_names.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            inside = spaces.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            end = min((line + "(").index("("), (line + " ").index(" "))
            inside[line[:end]] = line[end:].strip()
    return spaces


@functools.cache
def signature(space: str, name: str) -> inspect.Signature | None:
    """Of a function; None if its parameters are not known."""
    text = names(space).get(name, "")
    return inspect.signature(eval(f"lambda {text[1:-1]}: None")) if text.startswith("(") else None


def check_arguments(space: str, name: str, args: tuple, kwargs: dict) -> None:
    """Raises TypeError, as Python does, for arguments that CuPy's function does not take."""
    parameters = signature(space, name)
    if parameters is not None:
        try:
            parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() of CuPy: {error}") from None
