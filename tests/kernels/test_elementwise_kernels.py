"""kernels/elementwise.cu: loops over all elements, and sums over rows."""

import numpy as np
import pytest
from checks import assert_sums
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import (
    C_NAME,
    Launch,
    blank,
    both_dtypes,
    check_source,
    close,
    launches,
    normal,
    orders,
    run_last_block,
    seeds,
    sparse,
)
from oracles import sgd_step as naive_sgd_step

from tinynet.ops import elementwise

counts = st.integers(1, 300)


def with_specials(x):
    """With zeros, NaN and infinities of both signs among the numbers."""
    for i, special in enumerate((0.0, -0.0, np.nan, np.inf, -np.inf)):
        x[3 + i :: 13] = special
    return x


def test_source():
    check_source("elementwise", globals(), "tinynet/ops/elementwise.py")


@both_dtypes
@given(launch=launches(), count=counts, seed=seeds)
def test_relu_forward(kernel, dtype, launch, count, seed):
    x, y = with_specials(normal(count, dtype, seed)), blank(count, dtype)
    launch(kernel(f"relu_forward<{C_NAME[dtype]}>"), x, y, count)
    with np.errstate(invalid="ignore"):
        expected = np.where(x > 0, x, np.where(np.isneginf(x), np.nan, 0 * x)) + 0
    np.testing.assert_array_equal(y, expected)
    assert not np.signbit(y[y == 0]).any()


@both_dtypes
@given(launch=launches(), count=counts, seed=seeds)
def test_relu_backward(kernel, dtype, launch, count, seed):
    y, dy, dx = normal(count, dtype, seed), with_specials(normal(count, dtype, seed + 1)), blank(count, dtype)
    y[::5], y[1::7] = 0, np.nan
    launch(kernel(f"relu_backward<{C_NAME[dtype]}>"), dy, y, dx, count)
    np.testing.assert_array_equal(dx, elementwise.relu_backward(dy, y))
    np.testing.assert_array_equal(dx, np.where(y > 0, dy, 0))
    launch(kernel(f"relu_backward<{C_NAME[dtype]}>"), dy, y, dy, count, guarded=False)
    np.testing.assert_array_equal(dy, dx)


@both_dtypes
@given(launch=launches(2), O=st.integers(1, 7), J=st.integers(1, 70), relu=st.sampled_from([0, 1]), seed=seeds)
def test_add_bias(kernel, dtype, launch, O, J, relu, seed):
    y, bias = with_specials(normal(O * J, dtype, seed)).reshape(O, J), normal(O, dtype, seed + 1)
    expected = y + bias[:, None]
    if relu:
        with np.errstate(invalid="ignore"):
            expected = np.where(np.isneginf(expected), np.nan, np.maximum(expected, 0))
    launch(kernel(f"add_bias<{C_NAME[dtype]}>"), y, bias, O, J, relu)
    np.testing.assert_array_equal(y, expected)


@both_dtypes
@given(
    grid=st.integers(1, 8),
    order=orders,
    O=st.integers(1, 6),
    J=st.one_of(st.integers(1, 30), st.integers(200, 2000)),
    add=st.sampled_from([0, 1]),
    seed=seeds,
)
def test_bias_gradient(kernel, dtype, grid, order, O, J, add, seed):
    dy, before = normal((O, J), dtype, seed), normal(O, dtype, seed + 1)
    dbias = before.copy() if add else blank(O, dtype)
    Launch((grid,), (256,), order)(kernel(f"bias_gradient<{C_NAME[dtype]}>"), dy, dbias, O, J, add)
    expected = dy.sum(axis=1, dtype=np.float64) + (before if add else 0)
    squares = np.square(dy, dtype=np.float64).sum(axis=1) + np.square(before, dtype=np.float64)
    assert_sums(dbias, expected, J + 1, squares, dtype)
    again = before.copy() if add else blank(O, dtype)
    Launch((3,), (256,), "shuffled")(kernel(f"bias_gradient<{C_NAME[dtype]}>"), dy, again, O, J, add)
    np.testing.assert_array_equal(again, dbias)


@both_dtypes
@given(launch=launches(), count=counts, at=st.integers(0, 299), value=st.sampled_from([1.0, np.nan, np.inf, -np.inf]))
def test_mark_not_finite(kernel, dtype, launch, count, at, value):
    x, flag = normal(count, dtype) * (np.finfo(dtype).max / 8), np.zeros(1, np.int32)
    mark = kernel(f"mark_not_finite<{C_NAME[dtype]}>")
    launch(mark, x, flag, count)
    assert flag[0] == 0
    x[at % count] = value
    launch(mark, x, flag, count)
    assert bool(flag[0]) is not elementwise.all_finite(x)
    assert flag[0] == (not np.isfinite(value))
    launch(mark, np.ones(count, dtype), flag, count)
    assert flag[0] == (not np.isfinite(value))  # nobody takes it back


class Parameters:
    """Arrays of the given sizes in one piece of memory, with gaps of absurd values that nobody may touch."""

    GAP = 16

    def __init__(self, sizes, dtype, seed):
        starts = np.cumsum([self.GAP, *(size + self.GAP for size in sizes)])
        self.memory = normal(starts[-1], dtype, seed)
        self.arrays = [self.memory[start : start + size] for start, size in zip(starts[:-1], sizes, strict=True)]
        self.addresses = [array.ctypes.data for array in self.arrays]
        self.gap = np.ones(self.memory.size, bool)
        for start, size in zip(starts[:-1], sizes, strict=True):
            self.gap[start : start + size] = False
        self.memory[self.gap] = 12345

    def gaps_are_intact(self):
        return (self.memory[self.gap] == 12345).all()


@both_dtypes
@given(
    grid=st.integers(1, 5),
    block=st.sampled_from([1, 32, 256]),
    order=orders,
    sizes=st.lists(st.sampled_from([0, 1, 3, 96, 1000, 4095, 4096, 4097, 9000]), min_size=1, max_size=5),
    seed=seeds,
)
def test_sgd_step(kernel, dtype, grid, block, order, sizes, seed):
    w, v, grad = (Parameters(sizes, dtype, seed + i) for i in range(3))
    lr, decay = (np.random.default_rng(seed + i).uniform(size=len(sizes)).astype(dtype) for i in (3, 4))
    momentum = float(dtype(0.9))
    before = [[array.copy() for array in part.arrays] for part in (w, v, grad)]
    table = np.array([part.addresses for part in (w, v, grad)], np.uint64)
    bad = np.zeros(3, np.int32) if seed % 2 else None
    arguments = table, np.array(sizes, np.int64), lr, decay, bad, len(sizes), momentum
    Launch((grid,), (block,), order)(kernel(f"sgd_step<{C_NAME[dtype]}>"), *arguments)
    assert bad is None or not bad.any()
    assert all(part.gaps_are_intact() for part in (w, v, grad))
    for p, (old_w, old_v, g) in enumerate(zip(*before, strict=True)):
        np.testing.assert_array_equal(grad.arrays[p], g)
        some = np.s_[: max(5, len(g) % 50)]  # the oracle is slow
        lists = (array[some].astype(float).tolist() for array in (old_w, g, old_v))
        naive_w, naive_v = naive_sgd_step(*lists, float(lr[p]), momentum, float(decay[p]))
        if len(g):
            same = {"terms": 6, "size": max(np.abs(array).max() for array in (old_w, old_v, g))}  # products and sums
            close(w.arrays[p][some], np.array(naive_w), **same)
            close(v.arrays[p][some], np.array(naive_v), **same)
            elementwise.sgd_step(old_w, old_v, g, momentum, lr[p], decay[p])
            same["terms"] *= 2
            close(w.arrays[p], old_w, **same)
            close(v.arrays[p], old_v, **same)


@both_dtypes
@given(order=orders, where=st.integers(0, 5000), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_sgd_step_notes_a_weight_that_went_bad_and_then_stops(kernel, dtype, order, where, value):
    w, v, grad = (Parameters([5001], dtype, seed) for seed in range(3))
    grad.arrays[0][where] = value
    table, ones = np.array([part.addresses for part in (w, v, grad)], np.uint64), np.ones(1, dtype)
    bad = np.zeros(3, np.int32)
    run = Launch((2,), (32,), order)
    args = table, np.array([5001], np.int64), ones, ones, bad, 1, 0.5
    run(kernel(f"sgd_step<{C_NAME[dtype]}>"), *args)
    assert bad.tolist() == [0, 1, 0]
    assert np.flatnonzero(~np.isfinite(w.arrays[0])).tolist() == [where]
    before = [part.arrays[0].tobytes() for part in (w, v)]
    bad[0] = 1
    run(kernel(f"sgd_step<{C_NAME[dtype]}>"), *args)
    assert [part.arrays[0].tobytes() for part in (w, v)] == before


@pytest.mark.parametrize("name", ["relu_forward", "mark_not_finite"])
def test_more_than_2_to_31_elements(kernel, tmp_path, name):
    count = (1 << 31) + 128
    x = sparse(tmp_path, count)
    x[-128:] = np.arange(-64, 64)
    if name == "relu_forward":
        y = sparse(tmp_path, count)
        run_last_block(kernel("relu_forward<float>"), (count // 128,), (128,), x, y, count)
        np.testing.assert_array_equal(y[-128:], np.maximum(np.arange(-64, 64), 0))
    else:
        flag, x[-1] = np.zeros(1, np.int32), np.nan
        run_last_block(kernel("mark_not_finite<float>"), (count // 128,), (128,), x, flag, count)
        assert flag[0] == 1
