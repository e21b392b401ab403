"""Arrays that should be equal and are not, in words; files and lines; arrays that lie otherwise in memory."""

import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

import tinynet
from tinynet.errors import GradcheckError

Found = tuple[str, list[str]]  # a clause of a sentence, and further lines
SHOWN = 5  # entries of an array


# files and lines


def code_of(method: Any) -> CodeType | None:
    """A function's code, also behind a method or a decorator that keeps what it wraps."""
    return getattr(inspect.unwrap(getattr(method, "__func__", method)), "__code__", None) if method else None


def file_of(kind: type) -> str:
    """Where a class was read from."""
    module = sys.modules.get(kind.__module__)
    return getattr(module, "__file__", None) or kind.__module__


def shown(path: str) -> str:
    """A path as it is best read: from the folder where one stands or, of tinynet's own files, from the top of it."""
    for top in (Path(tinynet.__file__).parents[1], Path.cwd()):
        if Path(path).is_absolute() and Path(path).resolve().is_relative_to(top.resolve()):
            return Path(path).resolve().relative_to(top.resolve()).as_posix()
    return path.replace(os.sep, "/")


def one_line(text: str, most: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def import_failed(error: BaseException) -> str:
    """Why a file could not be imported, and where."""
    text = one_line(f"{type(error).__name__}: {error}")
    if isinstance(error, SyntaxError) and error.filename:
        line = f": {error.text.strip()}" if error.text else ""
        text = f"{type(error).__name__}: {error.msg}"
        return f"{shown(error.filename)}, line {error.lineno}, is not Python{line} ({text})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f"{shown(frames[-1].filename)}, line {frames[-1].lineno}," if frames else "a file"
    line = f" ({frames[-1].line})" if frames and frames[-1].line else ""
    return f"{where} fails when it is imported: {text}{line}"


# arrays


def number(value: Any) -> str:
    return f"{float(value):.6g}"


def at(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def worst_not_finite(array: np.ndarray, name: str = "y") -> str:
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0]) if np.ndim(array) else ()
    return f"{at(name, index)} = {array[index]}"


def difference(name: str, got: np.ndarray, right: np.ndarray, rtol: float) -> Found | None:
    """Where `got` is not `right`: the entry that is furthest off, and some more; None if they agree to `rtol` of the
    entry or of a largest entry of 1."""
    got, right = np.asarray(got), np.asarray(right)
    if got.shape != right.shape:
        return f"gives {name} of shape {got.shape}, expected {right.shape}", []
    off = np.abs(got - right)
    wrong = ~(off <= rtol * np.maximum(1, np.abs(right)))
    if not wrong.any():
        return None
    order = np.argsort(np.where(np.isnan(off), np.inf, off)[wrong])[::-1][:SHOWN]
    indices = [tuple(int(i) for i in index) for index in np.argwhere(wrong)[order]]
    first = indices[0]
    lines = [f"{wrong.sum()} of {wrong.size} entries of {name} are wrong"] if wrong.size > 1 else []
    lines += [f"{at(name, i)} = {number(got[i])}, where {number(right[i])} is right" for i in indices[1:]]
    return f"gives {at(name, first)} = {number(got[first])} where {number(right[first])} is right", lines


def cause_of_forward(y: np.ndarray, right: np.ndarray) -> str | None:
    """What y has to do with the right one, of the same shape or another."""
    if y.shape != right.shape:
        if y.ndim == right.ndim and sorted(y.shape) == sorted(right.shape):
            return "axes are in another order"
        return None
    if not np.isfinite(y).all():
        return "a division by zero, an overflow or an array that was never filled"
    if right.any() and not y.any():
        return "y is zero everywhere: it is never written"
    if right.any() and right.size > 1 and (factor := _factor(y, right)):
        return f"a constant factor: y = {number(factor)} x the right one everywhere"
    if y.ndim > 1 and len(y) > 1:
        good = [np.allclose(a, b) for a, b in zip(y, right, strict=True)]
        if good[0] and not any(good[1:]):
            return "only the first picture of the batch is computed"
    if y.ndim == 4:
        inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
        if y[inside].size and np.allclose(y[inside], right[inside]):
            return "only the border is wrong: look at the padding, and at the last window"
        if y.shape[1] > 1 and np.allclose(y[:, 0], right[:, 0]):
            return "only the first channel is right: look at how channels and groups are counted"
    for axis in range(1, y.ndim):
        if np.allclose(np.flip(y, axis), right):
            return f"flipped: right when read backwards along axis {axis}"
    return None


def _factor(y: np.ndarray, right: np.ndarray) -> float:
    factor = float(np.vdot(y, right) / np.vdot(right, right))
    return factor if np.allclose(y, factor * right) and abs(factor - 1) > 1e-9 else 0.0


def dropped_wrongly(p: float, x: np.ndarray, y: np.ndarray) -> str | None:
    """What is wrong with y of a Dropout in training, x > 0: every element 0 or x / (1 - p), and a share p of them 0."""
    share, spread = float((y == 0).mean()), 5 * (max(p * (1 - p), 1e-6) / y.size) ** 0.5
    if abs(share - p) > spread:
        kept = "; likely cause: p is the share that is dropped, not the share that is kept"
        cause = kept if abs(share - (1 - p)) <= spread else ""
        return f"drops {share:.0%} of the elements at p = {p:g}, expected about {p:.0%}{cause}"
    scaled = y[y != 0] / x[y != 0]
    if not np.allclose(scaled, 1 / (1 - p), rtol=1e-9):
        return (
            f"multiplies what it keeps by {number(scaled.mean())} at p = {p:g}, expected 1 / (1 - p) = "
            f"{number(1 / (1 - p))}, which keeps the mean of y at that of x"
        )
    return None


# other layouts in memory


def axes_reversed_in_memory(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.T).T if array.ndim else array


def with_gaps(array: np.ndarray) -> np.ndarray:
    """Every second element of a larger array."""
    if not array.ndim:
        return array
    spacious = np.full([2 * size + 1 for size in array.shape], 7.0, array.dtype)
    inside = spacious[tuple(slice(1, None, 2) for _ in array.shape)]
    inside[...] = array
    return inside


# what gradcheck says

ENTRY = re.compile(r" *(?P<where>\S+\[[\d, ]*\]) +(?P<got>\S+) +(?P<right>\S+) +\S+$")


def of_gradcheck(error: Exception) -> tuple[str, str, list[str]]:
    """(method, clause of a sentence, further lines) of what gradcheck raised; ("", "", []) if it did not say that."""
    if not isinstance(error, GradcheckError):
        return "", "", []
    first, *rest = str(error).splitlines()
    said = re.sub(r"^gradcheck: .*?: ", "", first, count=1)
    entry = next((found for line in rest if (found := ENTRY.match(line))), None)
    if entry is None:
        method = "forward" if said.startswith("forward ") else "backward"
        cannot = "nothing could be checked" in said
        return method, ("cannot be judged: " if cannot else "is wrong: ") + said.removeprefix(f"{method} "), []
    cause = rest[-1].strip()
    cause = cause if cause.startswith("likely cause") else "no usual cause fits: check the formula term by term"
    what = f"gives {entry['where']} = {entry['got']} where {entry['right']} is right; {cause}"
    entries = [f"{m['where']} = {m['got']}, where {m['right']} is right" for line in rest if (m := ENTRY.match(line))]
    return "backward", what, [said, *entries[1:]]
