"""A small constant matrix times a column of vectors, as straight-line vector code.

A transform such as Winograd's takes a few rows of pixels to a few other rows, by a matrix that is known when the kernel
is compiled. Written as loops, the compiler reads and writes memory for each term; here the rows are loaded once, the
terms stay in registers, zeros cost nothing, and each result is stored once.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from tinynet.ops.cook_toom import matrix

# which version of this file: a kernel that calls combine closes over it, so that numba's cache on disk, which knows a
# kernel by its own file and what it closes over, gives no machine code made by another version
VERSION = zlib.crc32(Path(__file__).read_bytes())
LANES = 16  # values of one vector: a whole cache line in float32; the compiler splits it as the processor needs it


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


@overload(combine, prefer_literal=True)
def _compiled_combine(name, m, r, source, first, step, target, target_first, target_step):
    if not all(isinstance(constant, types.Literal) for constant in (name, m, r)):
        return None
    which, outputs, taps = name.literal_value, m.literal_value, r.literal_value

    def body(name, m, r, source, first, step, target, target_first, target_step):
        _combine(which, outputs, taps, source, first, step, target, target_first, target_step)  # type: ignore[call-arg]

    return body


@intrinsic(prefer_literal=True)
def _combine(typing_context: Any, name, m, r, source, first, step, target, target_first, target_step):
    M = matrix(name.literal_value, m.literal_value, r.literal_value)
    count = types.intp
    signature = types.void(name, m, r, source, count, count, target, count, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = source.dtype.bitwidth
        vector = ir.VectorType(context.get_value_type(source.dtype), LANES)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f{bits}"
        )

        def pointers(array_type, number, array, at, step):
            data = context.make_array(array_type)(context, builder, array).data
            for _ in range(number):
                yield builder.bitcast(builder.gep(data, [at]), vector.as_pointer())
                at = builder.add(at, step)

        rows = [builder.load(place, align=bits // 8) for place in pointers(source, M.shape[1], *args[3:6])]
        for weights, place in zip(M, pointers(target, M.shape[0], *args[6:9]), strict=True):
            total = None
            for weight, row in zip(weights, rows, strict=True):
                factor = ir.Constant(vector, [float(weight)] * LANES)
                if weight == 0:
                    continue
                if total is None:
                    total = row if weight == 1 else builder.fmul(row, factor)
                elif abs(weight) == 1:
                    total = (builder.fadd if weight == 1 else builder.fsub)(total, row)
                else:
                    total = builder.call(multiply_add, [row, factor, total])
            builder.store(total if total is not None else ir.Constant(vector, [0.0] * LANES), place, align=bits // 8)
        return context.get_dummy_value()

    return signature, generate
