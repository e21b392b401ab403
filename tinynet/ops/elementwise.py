"""Loops over all elements of an array, on all threads: for what NumPy does on one, or in several passes over memory.

CUDA twin: `kernels/elementwise.cu`.

Kernels take their range as slices: an index that might be negative, as start + i might, would keep the compiler from
using vector instructions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.threads import compiled, kernel, parallel_for
from tinynet.mode import is_plain

GRAIN = 1 << 19  # elements a thread, at the least: what takes as long as waking one, 50 to 100 us
BLOCK = 1 << 12  # elements that are summed at a time

# a sum may be taken in any order, so that it becomes vector instructions: only for sums that are 0 or NaN
any_order_kernel: Any = compiled(fastmath={"reassoc"})


@any_order_kernel
def _mark_not_finite(x, marks, start, stop):
    """marks[block] = whether some element of block number `block` is NaN or infinite: x - x is NaN for both."""
    for block in range(start, stop):
        part, zero = x[block * BLOCK : block * BLOCK + BLOCK], x.dtype.type(0)
        for i in range(len(part)):
            zero += part[i] - part[i]
        marks[block] = zero != zero


@kernel
def _mark_different(a, b, marks, start, stop):
    """marks[block] = whether block number `block` of the whole numbers a and b differ."""
    for block in range(start, stop):
        begin = block * BLOCK
        part_a, part_b, different = a[begin : begin + BLOCK], b[begin : begin + BLOCK], a.dtype.type(0)
        for i in range(len(part_a)):
            different |= part_a[i] ^ part_b[i]
        marks[block] = different != 0


@any_order_kernel
def _relu(x, y, marks, start, stop):
    """y = max(x, 0); marks[block] as in `_mark_not_finite`, while x is in the cache."""
    for block in range(start, stop):
        begin = block * BLOCK
        part, target, zero = x[begin : begin + BLOCK], y[begin : begin + BLOCK], x.dtype.type(0)
        total = zero
        for i in range(len(part)):
            product = part[i] * zero  # NaN for NaN and infinity, else 0 or -0
            target[i] = part[i] if part[i] > 0 else product + zero
            total += product
        marks[block] = total != total


@kernel
def _relu_backward(dy, y, dx, start, stop):
    dy, y, dx = dy[start:stop], y[start:stop], dx[start:stop]
    zero = dx.dtype.type(0)
    for i in range(len(dx)):
        dx[i] = dy[i] if y[i] > 0 else zero


@kernel
def _sgd_step(w, v, gradient, momentum, lr, decay, start, stop):
    w, v, gradient = w[start:stop], v[start:stop], gradient[start:stop]
    for i in range(len(w)):
        v[i] = momentum * v[i] - lr * (decay * w[i] + gradient[i])
        w[i] += v[i]


@with_gpu_twin
def all_finite(x: np.ndarray) -> bool:
    """Whether no element is NaN or infinite. x: floats of any shape and strides."""
    if is_plain():
        return bool(np.isfinite(x).all())
    flat = in_memory_order(x)[0]
    marks = np.empty(-(-flat.size // BLOCK), np.bool_)
    parallel_for(_mark_not_finite, len(marks), flat, marks, grain=GRAIN // BLOCK)
    return not marks.any()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the float arrays a and b have one shape and dtype and the same values, NaN and the sign of 0 included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    bits = {4: np.uint32, 8: np.uint64}[a.itemsize]
    flat_a, flat_b = (flat.view(bits) for flat in in_memory_order(a, b))
    if is_plain():
        return np.array_equal(flat_a, flat_b)
    marks = np.empty(-(-a.size // BLOCK), np.bool_)
    parallel_for(_mark_different, len(marks), flat_a, flat_b, marks, grain=GRAIN // BLOCK)
    return not marks.any()


@with_gpu_twin
def finite_arrays(arrays: Sequence[np.ndarray]) -> bool:
    """Whether no element of any is NaN or infinite. On a GPU, all on one, the host waits for the answer."""
    return all(all_finite(array) for array in arrays)


@with_gpu_twin
def relu(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """max(x, 0), and whether all of x is finite; x of any shape. NaN and -inf give NaN."""
    y = buffers.empty_like(x)
    flat_y, flat_x = in_memory_order(y, x)
    marks = np.empty(-(-x.size // BLOCK), np.bool_)
    parallel_for(_relu, len(marks), flat_x, flat_y, marks, grain=GRAIN // BLOCK)
    return y, not marks.any()


@with_gpu_twin
def relu_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """dy where y > 0, else 0; into `out` if given, which may be dy itself but must have no gaps in memory."""
    dx = buffers.empty_like(y, dy.dtype) if out is None else out
    flat_dx, flat_dy, flat_y = in_memory_order(dx, dy, y)
    parallel_for(_relu_backward, dx.size, flat_dy, flat_y, flat_dx, grain=GRAIN)
    return dx


def sgd_step(w: np.ndarray, v: np.ndarray, gradient: np.ndarray, momentum: float, lr: float, decay: float) -> None:
    """v = momentum * v - lr * (decay * w + gradient); w += v: one pass over memory. All of one shape."""
    flat_w, flat_v, flat_gradient = in_memory_order(w, v, gradient)
    with_gaps = not (np.may_share_memory(flat_w, w) and np.may_share_memory(flat_v, v))  # those flat ones are copies
    if with_gaps or is_plain():
        v[...] = momentum * v - lr * (decay * w + gradient)
        w += v
        return
    number = w.dtype.type  # Python's floats would turn the loop into float64
    settings = number(momentum), number(lr), number(decay)
    parallel_for(_sgd_step, w.size, flat_w, flat_v, flat_gradient, *settings, grain=GRAIN)


@with_gpu_twin
def add_bias(y: np.ndarray, bias: np.ndarray) -> None:
    """y[o] += bias[o] for each o; y (O, ...), bias (O,)."""
    y += bias.reshape(-1, *(1,) * (y.ndim - 1))


@with_gpu_twin
def add_row_sums(dy: np.ndarray, sums: np.ndarray) -> None:
    """sums[o] += the sum of dy[o] for each o; dy (O, ...), sums (O,): the gradient of a bias."""
    sums += dy.sum(axis=tuple(range(1, dy.ndim)))


@with_gpu_twin
def copy_of(array: np.ndarray) -> np.ndarray:
    """A copy in the same order in memory."""
    return array.copy(order="K")


@with_gpu_twin
def add_to(total: np.ndarray, more: np.ndarray) -> None:
    """total += more."""
    total += more


@with_gpu_twin
def or_to(flags: np.ndarray, more: np.ndarray) -> None:
    """flags |= more; whole numbers."""
    flags |= more


@with_gpu_twin
def sgd_steps(
    ws: Sequence[Any],
    vs: Sequence[Any],
    gradients: Sequence[Any],
    momentum: float,
    lrs: Sequence[float],
    decays: Sequence[float],
    bad: Any = None,
) -> None:
    """`sgd_step` for each (w, v, gradient, lr, decay); on a GPU all of them in one launch. There `bad` may be the flags
    of `softmax_ce_wrong`: nothing is done if the first is set, and the second is set if a new weight is not finite."""
    for w, v, gradient, lr, decay in zip(ws, vs, gradients, lrs, decays, strict=True):
        sgd_step(w, v, gradient, momentum, lr, decay)


def in_memory_order(first: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Each array flat, all in the order in which `first` lies in memory: element i of one belongs to element i of the
    others. A view where an array lies in that order without gaps, else a copy."""
    order = buffers.axes_in_memory(first)
    return [array.transpose(order).reshape(-1) for array in (first, *others)]
