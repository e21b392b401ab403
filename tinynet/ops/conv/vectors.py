"""Two products with vectors as straight-line vector code, where a compiler makes poor code of plain loops.

`combine` multiplies a small constant matrix by a column of vectors, `multiply_rows` some rows of numbers by a matrix
that is one vector wide.

A transform such as Winograd's takes a few rows of pixels to a few other rows, by a matrix that is known when the kernel
is compiled. Written as loops, the compiler reads and writes memory for each term; here the rows are loaded once, the
terms stay in registers, zeros cost nothing, and each result is stored once.

Here both stand as array code, which says what they compute; `vector_code` makes the machine code.
"""

import functools
import importlib.util
import zlib
from typing import Any

import numpy as np

import tinynet
from tinynet.backend.threads import compiled
from tinynet.ops.conv.cook_toom import matrix

CODE = "tinynet.ops.conv.vector_code"  # what a compiled kernel runs in place of these two


def _source(module: str) -> str:
    """By its loader; where there is none, as beside .pyc files alone, the version of the package stands for it."""
    spec: Any = importlib.util.find_spec(module)
    return spec.loader.get_source(module) or tinynet.__version__


# which version of the two files: a kernel that calls combine closes over it, so that numba's cache on disk, which knows
# a kernel by its own file and what it closes over, gives no machine code made by another version
VERSION = zlib.crc32((_source(__name__) + _source(CODE)).encode())
LANES = 16  # values of one vector: a whole cache line in float32; the compiler splits it as the processor needs it

vector_kernel: Any = compiled(needs=CODE)  # for kernels that call one of these


def combine(
    name: str,
    m: int,
    r: int,
    source: np.ndarray,
    first: int,
    step: int,
    target: np.ndarray,
    target_first: int,
    target_step: int,
) -> None:
    """target row i = the sum over j of M[i, j] * source row j, M = `cook_toom.matrix(name, m, r)`.

    source and target are flat; row j is the LANES values that begin at first + j * step. name, m and r must be
    constants where a kernel calls this. Nothing is checked: the caller knows that all rows lie inside.
    """
    M = matrix(name, m, r).astype(source.dtype)
    rows = [source[first + j * step :][:LANES].copy() for j in range(M.shape[1])]
    for i, weights in enumerate(M):
        total = sum((weight * row for weight, row in zip(weights, rows, strict=True)), np.zeros(LANES, source.dtype))
        target[target_first + i * target_step :][:LANES] = total


@functools.cache
def rows_at_a_time() -> int:
    """How many rows multiply_rows does best at a time, as registers allow. Needs llvmlite."""
    import llvmlite.binding as llvm

    return 8 if llvm.get_host_cpu_features().get("avx512f", False) else 4


def multiply_rows(
    number: int,
    a: np.ndarray,
    a_first: int,
    a_step: int,
    b: np.ndarray,
    b_first: int,
    b_step: int,
    length: int,
    out: np.ndarray,
    out_first: int,
    out_step: int,
) -> None:
    """out row i = the sum over k < length of a[i, k] * row k of b, for i < number.

    All arrays are flat. a[i, k] stands at a_first + i * a_step + k; row k of b is the LANES values that begin at
    b_first + k * b_step, and row i of out likewise. `number` must be a constant where a kernel calls this. Nothing is
    checked: the caller knows that all rows lie inside.
    """
    B = np.array([b[b_first + k * b_step :][:LANES] for k in range(length)])
    for i in range(number):
        out[out_first + i * out_step :][:LANES] = a[a_first + i * a_step :][:length] @ B
