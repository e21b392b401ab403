"""The machine code of `vectors`' two products, written for numba's compiler; imported when the first kernel that calls
one is compiled."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from tinynet.ops.conv import vectors
from tinynet.ops.conv.vectors import LANES, combine, multiply_rows


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
    M = vectors.matrix(name.literal_value, m.literal_value, r.literal_value)
    count = types.intp
    signature = types.void(name, m, r, source, count, count, target, count, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = source.dtype.bitwidth
        vector, multiply_add = _vector_type(context, builder, source.dtype)

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


@overload(multiply_rows, prefer_literal=True)
def _compiled_multiply_rows(number, a, a_first, a_step, b, b_first, b_step, length, out, out_first, out_step):
    if not isinstance(number, types.Literal):
        return None
    rows = number.literal_value

    def body(number, a, a_first, a_step, b, b_first, b_step, length, out, out_first, out_step):
        _multiply_rows(rows, a, a_first, a_step, b, b_first, b_step, length, out, out_first, out_step)  # type: ignore[call-arg]

    return body


@intrinsic(prefer_literal=True)
def _multiply_rows(
    typing_context: Any, number, a, a_first, a_step, b, b_first, b_step, length, out, out_first, out_step
):
    rows, count = number.literal_value, types.intp
    signature = types.void(number, a, count, count, b, count, count, count, out, count, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, multiply_add = _vector_type(context, builder, out.dtype)
        align = out.dtype.bitwidth // 8
        _, a_first, a_step, b_first, b_step, length, out_first, out_step = (args[i] for i in (0, 2, 3, 5, 6, 7, 9, 10))
        numbers, vectors, results = (
            context.make_array(kind)(context, builder, args[i]).data for kind, i in ((a, 1), (b, 4), (out, 8))
        )
        row_at = [builder.add(a_first, builder.mul(a_step, ir.Constant(a_step.type, i))) for i in range(rows)]
        zero = ir.Constant(vector, [0.0] * LANES)
        totals = [cgutils.alloca_once(builder, vector) for _ in range(rows)]  # which LLVM keeps in registers
        for total in totals:
            builder.store(zero, total)
        with cgutils.for_range(builder, length) as loop:
            at = builder.add(b_first, builder.mul(loop.index, b_step))
            row = builder.load(builder.bitcast(builder.gep(vectors, [at]), vector.as_pointer()), align=align)
            for begin, total in zip(row_at, totals, strict=True):
                factor = builder.load(builder.gep(numbers, [builder.add(begin, loop.index)]))
                lane = builder.insert_element(zero, factor, ir.Constant(ir.IntType(32), 0))
                every = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                factors = builder.shuffle_vector(lane, zero, every)
                builder.store(builder.call(multiply_add, [factors, row, builder.load(total)]), total)
        for i, total in enumerate(totals):
            at = builder.add(out_first, builder.mul(out_step, ir.Constant(out_step.type, i)))
            place = builder.bitcast(builder.gep(results, [at]), vector.as_pointer())
            builder.store(builder.load(total), place, align=align)
        return context.get_dummy_value()

    return signature, generate


def _vector_type(context: Any, builder: Any, dtype: Any) -> tuple[Any, Any]:
    """LLVM's type of LANES values, and its a * b + c for them."""
    vector = ir.VectorType(context.get_value_type(dtype), LANES)
    kind = ir.FunctionType(vector, [vector] * 3)
    return vector, cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f{dtype.bitwidth}")
