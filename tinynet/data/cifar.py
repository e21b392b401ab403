"""CIFAR-10, from its original "python" or "binary" files. (Krizhevsky: Learning multiple layers of features, 2009.)

A python batch is a pickle, and a pickle may run any program when it is read by `pickle.load`. Here an unpickler of our
own reads it that admits nothing but what those files hold: dicts, lists, numbers, strings and NumPy arrays of uint8.
What it takes is bounded by the file, never by a number that the file names: see `_PlainData`.
A binary batch is rows of 3073 bytes: the label, then 1024 red, 1024 green, 1024 blue values, row by row.
"""

import io
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tinynet.data.dataset import Dataset

Split = Literal["train", "validation"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "validation": ["test_batch"]}
FOLDERS = {"": "cifar-10-batches-py", ".bin": "cifar-10-batches-bin"}  # by the ending of a batch's name
PIXELS = 3 * 32 * 32
MOST_BYTES = 64 << 20  # of a batch's file; the original ones have 31 MB
MOST_STEPS = 100_000  # of a python batch's pickle; the original ones take about 30,000


def cifar10(split: Split, data_dir: str | os.PathLike) -> Dataset:
    """The "train" pictures (five batches) or the "validation" ones (the test batch), (N, 3, 32, 32), RGB.

    data_dir holds the batches, or a folder cifar-10-batches-py or cifar-10-batches-bin, or cifar-10 with such a folder.

    Raises FileNotFoundError, with the places it looked, if a batch is missing, ValueError naming a file that is
    damaged, of another kind or above 64 MiB.
    """
    if split not in BATCHES:
        raise ValueError(f"cifar-10: expected split to be one of {', '.join(BATCHES)}; got {split!r}")
    folder, ending = _find(BATCHES[split], Path(data_dir))
    read = read_binary_batch if ending else read_python_batch
    parts = [read(folder / (name + ending)) for name in BATCHES[split]]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Dataset(images, labels, CLASSES)


def read_python_batch(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 3, 32, 32) uint8, labels (N,) int64) of one batch of the python version.

    Raises ValueError, naming the file, if it is no pickle, holds anything but plain data, is above 64 MiB, or its parts
    do not fit. Never takes more memory than nine times the file's size and 100 MB.
    """
    content = _content(path)
    try:
        batch = _PlainData(content).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(
            f"{path}: expected a batch of CIFAR-10's python version, got a file with "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from error
    if not isinstance(batch, dict) or not isinstance(batch.get(b"data"), _Array):
        raise ValueError(f"{path}: expected a dict with an array 'data' and 'labels', got {type(batch).__name__}")
    data, labels = batch[b"data"], batch.get(b"labels")
    if len(data.shape) != 2 or data.shape[1] != PIXELS or not data.shape[0]:
        raise ValueError(f"{path}: expected data of shape (N, {PIXELS}), got {data.shape}")
    return _checked(path, data.values, labels)


def read_binary_batch(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """As `read_python_batch`, of one batch of the binary version."""
    raw = np.frombuffer(_content(path), np.uint8)
    if not raw.size or raw.size % (1 + PIXELS):
        raise ValueError(f"{path}: expected rows of {1 + PIXELS} bytes, got {raw.size:,} bytes in all: cut short?")
    rows = raw.reshape(-1, 1 + PIXELS)
    return _checked(path, rows[:, 1:], rows[:, 0].tolist())


def _content(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"{path}: expected a batch of CIFAR-10, at most {MOST_BYTES:,} bytes, got {size:,}")
        return file.read(size)


def _checked(path: str | os.PathLike, pixels: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(labels, list) or len(labels) != len(pixels):
        got = f"{len(labels)}" if isinstance(labels, list) else type(labels).__name__
        raise ValueError(f"{path}: expected a list of {len(pixels)} labels, one a picture, got {got}")
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < len(CLASSES)]
    if wrong:
        got = (
            str(wrong[0])
            if type(wrong[0]) is int and abs(wrong[0]) < 2**63
            else f"one of type {type(wrong[0]).__name__}"
        )
        raise ValueError(f"{path}: expected labels in [0, {len(CLASSES)}), got {got}")
    return np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def _find(names: list[str], data_dir: Path) -> tuple[Path, str]:
    places = []
    for ending, inner in FOLDERS.items():
        for folder in (data_dir, data_dir / inner, data_dir / "cifar-10" / inner):
            if all((folder / (name + ending)).is_file() for name in names):
                return folder, ending
            places.append(str(folder))
    raise FileNotFoundError(
        f"cifar-10: expected the files {', '.join(names)} (or .bin) in one folder of {', '.join(dict.fromkeys(places))}"
    )


class _Array:
    """What a pickled NumPy array leaves behind: a shape and bytes, looked at before anything is made of them."""

    shape: tuple[int, ...] = ()  # as long as no state has come
    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_first, raw = state
        if not isinstance(dtype, _Dtype) or dtype.name not in (b"u1", "u1") or column_first not in (False, 0):
            raise pickle.UnpicklingError("an array is not of uint8 in C order")
        if not isinstance(shape, tuple) or len(shape) > 2 or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("an array has no proper shape")
        if not isinstance(raw, bytes) or len(raw) != math.prod(shape):
            raise pickle.UnpicklingError(f"an array of shape {shape} has not as many bytes")
        self.shape, self.values = shape, np.frombuffer(raw, np.uint8).reshape(shape)


class _Dtype:
    def __init__(self, name: Any = None, *rest: Any):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which uint8 has not."""


def _new_array(*args: Any) -> _Array:
    return _Array()


class _Steps(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"the instruction {code:#04x}, which has no place in such a file")


class _PlainData(pickle._Unpickler):
    """Reads a pickle of plain data from memory, in bounded memory.

    Python's own unpickler, the C one, makes room for as many bytes and memo entries as the file says; the one in
    Python, used here, reads what is there and keeps its memo in a dict. Beyond that: only the instructions of STEPS,
    at most MOST_STEPS of them (one byte of file may make 64 bytes of dict); keys of a dict are strings, for the hash of
    a deeply nested tuple ends the process; and only our two stand-ins have a state to set.
    """

    stack: list[Any]
    pop_mark: Callable[[], list]

    ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _new_array,
        ("numpy._core.multiarray", "_reconstruct"): _new_array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }
    STEPS = (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "PUT"),
        *("BINPUT", "LONG_BINPUT", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG1"),
        *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
    )

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.steps = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name}, which has no place in such a file")
        return self.ADMITTED[module, name]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._fill(items)

    def load_setitem(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._fill(items)

    def load_setitems(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, bytes | str):
                raise pickle.UnpicklingError(f"a {type(key).__name__} as a key, where only strings have a place")
            self.stack[-1][key] = value

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}, which has none")
        self.stack[-1].__setstate__(state)

    @staticmethod
    def _counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
        def counted(self: Any) -> None:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise pickle.UnpicklingError(f"more than {MOST_STEPS:,} instructions")
            step(self)

        return counted

    dispatch = _Steps()
    for _name in STEPS:
        _code = getattr(pickle, _name)[0]
        dispatch[_code] = _counted(pickle._Unpickler.dispatch[_code])
    dispatch[pickle.DICT[0]] = _counted(load_dict)
    dispatch[pickle.SETITEM[0]] = _counted(load_setitem)
    dispatch[pickle.SETITEMS[0]] = _counted(load_setitems)
    dispatch[pickle.BUILD[0]] = _counted(load_build)
