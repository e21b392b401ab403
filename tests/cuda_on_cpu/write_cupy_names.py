"""Writes cupy_names.txt: the names that CuPy has, and the parameters of its functions, which fake_names.py reads.

    pip install "cupy-cuda12x[ctk]==14.2.0"
    python tests/cuda_on_cpu/write_cupy_names.py

CuPy is imported and looked at; that needs the CUDA libraries of [ctk], and no GPU. A line is a name and what it is:

    sum(a, axis=None, dtype=None, out=None, keepdims=False)    a function; every default is written as None
    exp ufunc                                                  an element-wise function
    pi                                                         anything else
"""

import functools
import inspect
import re
from pathlib import Path

import cupy

TARGET = Path(__file__).with_name("cupy_names.txt")
# what tinynet, its tests and plain array code look at
SPACES = (
    *("", "ndarray", "linalg", "lib.stride_tricks", "cuda", "cuda.runtime", "cuda.cublas", "cuda.Device", "cuda.Event"),
    *("cuda.Stream", "cuda.MemoryPool", "cuda.MemoryPointer", "RawKernel", "RawModule"),
)
SET_BY_INIT = {"cuda.Event": {"ptr"}, "cuda.Stream": {"device_id", "ptr"}}  # attributes of instances


def parameters(function) -> str | None:
    """As Python would write them, with None for each default; None if they are not known."""
    try:
        text = str(inspect.signature(function))
    except (TypeError, ValueError):
        first = (getattr(function, "__doc__", None) or "").strip().split("\n")[0]
        found = re.match(rf"[\w.]*\b{re.escape(getattr(function, '__name__', ''))}(\(.*\))( ->.*)?$", first)
        if not found:
            return None
        # Cython's own notes: `Py_ssize_t axis1`, `bool blocking=True`
        text = re.sub(r"[\w.\[\]* ]+ (\w+)(?=[,=)])", r" \1", found[1]).replace("( ", "(")
    try:
        found = inspect.signature(eval(f"lambda {_without_annotations(text)}: None"))
    except SyntaxError:
        return None
    kept = [each for each in found.parameters.values() if each.name != "self"]
    kept = [each if each.default is each.empty else each.replace(default=None) for each in kept]
    return str(found.replace(parameters=kept))


def _without_annotations(text: str) -> str:
    """The inside of the parentheses; a default that is no literal becomes None."""
    inside, parts, depth, part = text[text.index("(") + 1 : text.rindex(")", 0, (text + " ->").index(" ->"))], [], 0, ""
    for sign in inside + ",":
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += sign
    shorter = []
    for part in filter(None, parts):
        name, equals, _ = re.match(r"([*/\w]+)[^=]*(=?)(.*)", part, re.DOTALL).groups()
        shorter.append(name + equals + ("None" if equals else ""))
    return ", ".join(shorter)


def lines(space: str):
    home = functools.reduce(getattr, filter(None, space.split(".")), cupy)
    for name in sorted({*dir(home), *SET_BY_INIT.get(space, ())}):
        value = getattr(home, name, None)
        if inspect.ismodule(value) or (name.startswith("_") and not (inspect.isclass(home) and name.endswith("__"))):
            continue
        if isinstance(value, cupy.ufunc):
            yield f"{name} ufunc"
        elif callable(value) and not inspect.isclass(value) and not name.startswith("__"):
            yield f"{name}{parameters(value) or '(*args, **kwargs)'}"
        else:
            yield name


def main() -> None:
    text = [f"# CuPy {cupy.__version__}, by write_cupy_names.py"]
    for space in SPACES:
        text += ["", f"[cupy{space and '.'}{space}]", *lines(space)]
    TARGET.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
