"""Loops over all elements: launches of kernels/elementwise.cu. CPU twin: tinynet/ops/elementwise.py."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.backend import cuda_graph, device
from tinynet.backend.launch import launch
from tinynet.mode import is_plain
from tinynet.ops.elementwise import in_memory_order
from tinynet.ops.gpu import THREADS, blocks, empty_like, t

# tables of addresses and numbers of the last few optimisers, which are the same from step to step
_tables: dict[tuple, Any] = {}
_lock = threading.Lock()
MOST_TABLES = 16


def all_finite(x: Any) -> bool:
    """True, unread: an answer would make the host wait for the device at every layer. NaN goes on to the loss, which
    the trainer looks at."""
    return True


def finite_arrays(arrays: Sequence[Any]) -> bool:
    if is_plain():
        return all(bool(device.to_cpu(np.isfinite(x).all())) for x in arrays)
    flag = device.zeros((1,), np.int32, device.device_of(arrays[0]))
    for x in arrays:
        flat = in_memory_order(x)[0]
        grid = (blocks(x.size),)
        launch("elementwise", f"mark_not_finite<{t(x)}>", grid, (THREADS,), x=flat, flag=flag)
    return not device.to_cpu(flag)[0]


def relu(x: Any) -> tuple[Any, bool]:
    y = empty_like(x)
    flat_y, flat_x = in_memory_order(y, x)
    launch("elementwise", f"relu_forward<{t(x)}>", (blocks(x.size),), (THREADS,), x=flat_x, y=flat_y)
    return y, True


def relu_backward(dy: Any, y: Any, out: Any = None) -> Any:
    dx = empty_like(y, dy.dtype) if out is None else out
    y = y.astype(dx.dtype, copy=False)
    flat_dx, flat_dy, flat_y = in_memory_order(dx, dy, y)
    name = f"relu_backward<{t(y)}>"
    launch("elementwise", name, (blocks(y.size),), (THREADS,), dy=flat_dy, y=flat_y, dx=flat_dx)
    return dx


def add_bias(y: Any, bias: Any) -> None:
    O, J = len(bias), y.size // len(bias)
    grid = blocks(J, 4 * THREADS), min(O, 65535)
    launch("elementwise", f"add_bias<{t(y)}>", grid, (THREADS,), y=y.reshape(O, J), bias=bias, relu=0)


def add_to(total: Any, more: Any) -> None:
    total += more


def or_to(flags: Any, more: Any) -> None:
    flags |= more


def copy_of(array: Any) -> Any:
    return array.copy(order="K")


def add_row_sums(dy: Any, sums: Any) -> None:
    dy = dy.astype(sums.dtype, copy=False)
    O, J = len(sums), dy.size // len(sums)
    dy = (dy if dy.flags.c_contiguous else dy.copy()).reshape(O, J)
    launch("elementwise", f"bias_gradient<{t(dy)}>", (blocks(O, 1),), (THREADS,), dy=dy, dbias=sums, add=1)


def sgd_steps(
    ws: Sequence[Any],
    vs: Sequence[Any],
    gradients: Sequence[Any],
    momentum: float,
    lrs: Sequence[float],
    decays: Sequence[float],
    bad: Any = None,
) -> None:
    """All of one dtype and on one device, in one launch."""
    where, w = device.device_of(ws[0]), ws[0]
    columns = [[array.data.ptr for array in arrays] for arrays in (ws, vs, gradients)]
    P, T = len(ws), w.dtype
    for arrays in (ws, vs, gradients):
        if any(array.dtype != T or device.device_of(array) != where for array in arrays):
            raise TypeError(f"sgd_steps: expected all arrays of one dtype, {T}, and on one device, {where}")
        if any(not array.flags.c_contiguous for array in arrays):
            raise ValueError("sgd_steps: expected parameters, gradients and velocities in C order")
        if [array.shape for array in arrays] != [w.shape for w in ws]:
            raise ValueError("sgd_steps: expected gradients and velocities of their parameters' shapes")
    sizes = [array.size for array in ws]
    table = _table(np.array(columns, np.uint64), where)
    recorded = cuda_graph.recording()
    args = {
        "sizes": _table(np.array(sizes, np.int64), where),
        "lr": recorded.inputs["rates"] if recorded else _table(np.array(lrs, T), where),
        "decay": _table(np.array(decays, T), where),
    }
    grid = (blocks(sum(sizes), 16 * THREADS),)
    launch("elementwise", f"sgd_step<{t(w)}>", grid, (THREADS,), table=table, P=P, momentum=momentum, bad=bad, **args)


def _table(values: np.ndarray, where: str) -> Any:
    """`values` on the device; the copy of an earlier call if they are the same."""
    key = where, values.dtype.str, values.shape, values.tobytes()
    with _lock:
        table = _tables.pop(key, None)  # and to the end: the one that was not used for longest goes first
        if table is None:
            table = device.to_device(values, where)
            while len(_tables) >= MOST_TABLES:
                del _tables[next(iter(_tables))]
        _tables[key] = table
    if recorded := cuda_graph.recording():
        recorded.keep(table)
    return table
