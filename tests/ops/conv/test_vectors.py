import numba
import numpy as np
import pytest
from checks import assert_close, assert_sums, same_bits
from strategies import numbers

from tinynet.ops.conv import (
    vector_code,  # noqa: F401 - so that numba knows both products
    vectors,
)
from tinynet.ops.conv.vectors import LANES, combine, multiply_rows, rows_at_a_time

NAMES = ("B^T", "A^T", "G", "A", "G^T")


def compiled(name, m, r):
    """A kernel in which the three are constants, as `combine` wants them."""

    @numba.njit
    def call(source, first, step, target, target_first, target_step):
        combine(name, m, r, source, first, step, target, target_first, target_step)

    return call


def check(name, m, r, dtype, place=(3, 21), target_place=(5, 19)):
    """Machine code, Python body and the matrix itself, for rows at odd places with gaps between them; the gaps stay."""
    M = vectors.matrix(name, m, r)
    (first, step), (target_first, target_step) = place, target_place
    source = numbers((first + (M.shape[1] - 1) * step + LANES + 2,), dtype)
    before, target = source.copy(), np.full(target_first + (len(M) - 1) * target_step + LANES + 2, 7, dtype)
    python = target.copy()
    compiled(name, m, r)(source, first, step, target, target_first, target_step)
    combine(name, m, r, source, first, step, python, target_first, target_step)
    expected = np.full(target.shape, 7.0)
    for i, weights in enumerate(M):
        row = sum(weight * source[first + j * step :][:LANES].astype(float) for j, weight in enumerate(weights))
        expected[target_first + i * target_step :][:LANES] = row
    size = np.abs(M).sum(axis=1).max() * np.abs(source).max()  # of what is added up, by weights that are rounded, too
    for got in (target, python):
        assert_close(got, expected, dtype, terms=M.shape[1] + 2, size=size)
    assert same_bits(source, before)
    assert np.array_equal(target == 7, expected == 7)


@pytest.mark.parametrize("name", NAMES)
def test_takes_rows_through_the_matrix(name):
    check(name, 3, 2, np.float32)


@pytest.mark.parametrize(("m", "r", "dtype"), [(5, 3, np.float64), (4, 5, np.float32)])
def test_other_sizes(m, r, dtype):
    check("B^T", m, r, dtype)


def test_zeros_and_ones_which_cost_no_product(monkeypatch):
    M = np.array([[0, 0, 0], [1, -1, 1], [-1, 0, 2.5], [0, 1, 0], [0, 0.5, -1], [0, 0, -0.25]])
    monkeypatch.setattr(vectors, "matrix", lambda name, m, r: M)
    check("M", 6, 3, np.float64)
    check("M", 6, 3, np.float32, place=(0, LANES), target_place=(0, LANES))  # rows that touch


def test_a_matrix_must_be_known_when_the_kernel_is_compiled():
    @numba.njit
    def call(m, source, target):
        combine("G", m, 3, source, 0, LANES, target, 0, LANES)

    with pytest.raises(numba.core.errors.TypingError, match="combine"):
        call(2, np.ones(99), np.ones(99))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [1, 3, rows_at_a_time()])
@pytest.mark.parametrize("length", [0, 1, 7])
def test_rows_times_a_matrix(number, length, dtype):
    """At odd places with gaps between the rows; the gaps stay."""

    @numba.njit
    def compiled(a, b, out):
        multiply_rows(number, a, 2, 11, b, 3, 19, length, out, 5, 21)

    a, b = numbers((2 + number * 11,), dtype), numbers((3 + 7 * 19 + LANES,), dtype, seed=1)
    out = np.full(5 + (number - 1) * 21 + LANES + 2, 7, dtype)
    python, expected = out.copy(), out.astype(np.float64)
    squares = np.zeros(expected.shape)
    compiled(a, b, out)
    if length:
        multiply_rows(number, a, 2, 11, b, 3, 19, length, python, 5, 21)
    for i in range(number):
        terms = [float(a[2 + i * 11 + k]) * b[3 + k * 19 :][:LANES].astype(float) for k in range(length)]
        expected[5 + i * 21 :][:LANES] = sum(terms, np.zeros(LANES))
        squares[5 + i * 21 :][:LANES] = sum((term**2 for term in terms), np.zeros(LANES))
    assert_sums(out, expected, max(1, length), squares, dtype)
    if length:
        assert_sums(python, expected, length, squares, dtype)
    assert np.array_equal(out == 7, expected == 7)


def test_the_number_of_rows_must_be_known_when_the_kernel_is_compiled():
    @numba.njit
    def call(number, a):
        multiply_rows(number, a, 0, 1, a, 0, LANES, 1, a, 0, LANES)

    with pytest.raises(numba.core.errors.TypingError, match="multiply_rows"):
        call(2, np.ones(99))
