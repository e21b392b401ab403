"""The bounds themselves: an error of ten times a bound's size fails, and sums come near enough to it to need it."""

import math

import numpy as np
import pytest
from bounds import (
    FACTOR,
    SIGMAS,
    UNIT,
    deviation,
    lrn_roundings,
    random_sum,
    random_sum_of_coarse_products,
    roundings,
    spread,
)
from checks import FEW, assert_close, assert_sums, assert_within
from fast_conv import Case, Expected, winograd_growth
from parallel.nets import LABELS, SHAPE, assert_alike, margin, off_by, one_step, rounding, small
from strategies import DTYPES, numbers

from tinynet.ops.conv import choose

both_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def in_order(products):
    """The sums of the last axis, one term after the other, in the products' precision."""
    total = np.zeros(products.shape[:-1], products.dtype)
    for k in range(products.shape[-1]):
        total += products[..., k]
    return total


# what the formulas say


@both_dtypes
def test_few_roundings_are_counted_and_many_are_a_random_walk(dtype):
    u = UNIT[np.dtype(dtype)]
    assert u == np.finfo(dtype).eps / 2
    assert roundings(3, dtype) == pytest.approx(3 * u, rel=1e-6)
    assert roundings(10_000, dtype) == pytest.approx(SIGMAS * 100 * u, rel=1e-3)
    assert roundings(SIGMAS**2, dtype) == pytest.approx(SIGMAS**2 * u, rel=1e-5)
    assert random_sum(1, dtype) == pytest.approx(u, rel=1e-6)
    assert random_sum(597, dtype) == pytest.approx(SIGMAS * 10 * u, rel=1e-6)
    assert spread(1) == SIGMAS
    assert spread(10**10) == pytest.approx(1, rel=1e-3)


def test_coarse_products_and_normalisations():
    assert random_sum_of_coarse_products(50, "fp32") == random_sum(50, np.float32)
    assert random_sum_of_coarse_products(50, "tf32", 10**8) == pytest.approx((2 / 3) ** 0.5 * FACTOR["tf32"], rel=0.01)
    precisions = ("fp32", "tf32x3", "tf32", "bf16")
    bounds = [random_sum_of_coarse_products(50, precision, 100) for precision in precisions]
    assert bounds == sorted(bounds)
    assert (lrn_roundings(5, 0.75), lrn_roundings(5, 0.75, backward=True)) == (12, 31)


@pytest.mark.parametrize("n", [5, 40, 400])
def test_random_sums_are_off_by_what_the_model_says(n):
    """Not ten times less: then a bound would let errors pass that no sum makes."""
    a, b = numbers((4000, n), np.float32), numbers((4000, n), np.float32, seed=1)
    exact = (a.astype(np.float64) * b).sum(axis=1)
    squares = (a.astype(np.float64) ** 2 * b.astype(np.float64) ** 2).sum(axis=1)
    errors = (in_order(a * b) - exact) / np.sqrt(squares)
    model = deviation(n) * UNIT[np.dtype(np.float32)]
    assert 0.5 * model < np.sqrt(np.mean(errors**2)) < model
    assert_sums(in_order(a * b), exact, n, squares, np.float32)


def test_sums_of_like_terms_grow_as_a_random_walk_at_most():
    terms = np.abs(numbers((2000, 400), np.float32))
    exact = terms.sum(axis=1, dtype=np.float64)
    errors = np.abs(in_order(terms) - exact) / exact
    assert errors.max() < roundings(400, np.float32) < 400 * UNIT[np.dtype(np.float32)]
    assert errors.max() > roundings(400, np.float32) / 40


@pytest.mark.parametrize(("m", "r"), [(5, 3), (4, 5), (2, 3)])
def test_winograds_growth(m, r):
    """Of F(2, 3), by hand: the products' variances are 2, 3, 3 and 2, of 6 that are wanted."""
    assert winograd_growth(2, 3, edges=False) == pytest.approx(10 / 6)
    assert 1 < winograd_growth(m, r, edges=False) <= winograd_growth(m, r)


# a planted error of ten times the bound fails


@both_dtypes
@pytest.mark.parametrize("terms", [1, FEW, 1000])
def test_assert_close(dtype, terms):
    expected = numbers((7, 5))
    assert_close(expected.astype(dtype), expected, dtype, terms)
    bound = (roundings(terms, dtype) + roundings(terms)) * np.abs(expected).max()
    for error in (10 * bound, -10 * bound, np.nan, np.inf):
        wrong = expected.copy()
        wrong[3, 2] += error
        with pytest.raises(AssertionError):
            assert_close(wrong, expected, dtype, terms)
    wrong[3, 2] = expected[3, 2] + bound / 2
    assert_close(wrong, expected, dtype, terms)


@both_dtypes
@pytest.mark.parametrize("terms", [1, 30, 3000])
def test_assert_sums(dtype, terms):
    """Each entry has its own bound: the largest one's does not cover it."""
    a, b = numbers((6, terms)), numbers((6, terms), seed=1)
    a[4] /= 1000
    expected, squares = (a * b).sum(axis=1), (a**2 * b**2).sum(axis=1)
    assert_sums(expected, expected, terms, squares, dtype)
    bound = (random_sum(terms, dtype) + random_sum(terms)) * np.sqrt(squares)
    for place in range(6):
        wrong = expected.copy()
        wrong[place] += 10 * bound[place]
        with pytest.raises(AssertionError, match=rf"1 of 6 entries are beyond the bound; the worst, at \({place},\)"):
            assert_sums(wrong, expected, terms, squares, dtype)


def test_what_is_not_finite_must_be_where_it_is_expected():
    expected = np.array([1.0, np.nan, np.inf, -np.inf])
    assert_within(expected, expected, 0)
    for place, value in [(0, np.nan), (1, 1.0), (2, -np.inf), (2, 1e300), (3, np.nan), (0, np.inf)]:
        wrong = expected.copy()
        wrong[place] = value
        with pytest.raises(AssertionError):
            assert_within(wrong, expected, 1.0)


@pytest.mark.parametrize("winograd", [False, True])
@both_dtypes
def test_convolutions(dtype, winograd):
    case = Case(4, 3, 4, 9, 8, (3, 3), (1, 1), (1, 2), groups=2, dtype=dtype, m=5)
    x, weight, bias, dy = case.arrays()
    expected = Expected(case, x, weight, bias, dy, winograd)
    for name, value in expected.values.items():
        right, bound = value.astype(dtype), expected.bounds[name]
        expected.assert_near(name, right)
        total = (bound(dtype, value.size) + bound(np.float64, value.size)) * math.sqrt(expected.squares[name].sum())
        right.flat[7] += 10 * total
        with pytest.raises(AssertionError, match="in the L2 norm"):
            expected.assert_near(name, right)
        assert total < (1e-4 if dtype == np.float32 else 1e-12) * np.linalg.norm(value)


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS[1:3])
def test_one_missing_product_of_a_convolution_is_found(algorithm):
    """The smallest mistake that a loop makes: one term of one sum is left out."""
    case = Case(4, 3, 4, 9, 8, (3, 3), (1, 1), (1, 2), groups=2)
    x, weight, bias, dy = case.arrays()
    expected = Expected(case, x, weight, bias, dy, algorithm == "winograd")
    y = choose.forward(algorithm, x, weight, None, case.output, case.window, case.groups, False)
    expected.assert_near("y", y)
    y[1, 2, 3, 4] -= x[1, 0, 2, 2] * weight[2, 0, 0, 0]
    with pytest.raises(AssertionError, match="in the L2 norm"):
        expected.assert_near("y", y)


@both_dtypes
def test_a_step_of_a_net(dtype):
    x = numbers(SHAPE, dtype)
    expected = one_step(small(dtype=dtype), x, LABELS)
    forward, step = rounding(small(), SHAPE, dtype, expected["logits"])
    assert_alike(expected, expected, forward, step)
    for what, array in expected.items():
        bound = forward if what in ("logits", "loss") else step
        with pytest.raises(AssertionError, match=f"^{what}: expected a relative difference of at most"):
            assert_alike(expected | {what: off_by(10 * bound, array)}, expected, forward, step)
    assert forward < step < (1e-4 if dtype == np.float32 else 1e-12)


def test_the_margin_sees_two_numbers_that_are_nearly_equal():
    """In what the second pooling reads: all else stays as it is."""
    net, x = small(), numbers(SHAPE)
    before = margin(net, x)
    assert 1e-6 < before < 1e-3
    lrn = net["lrn2"]
    forward = lrn.forward

    def nearly_equal(x):
        y = forward(x)
        place = np.unravel_index(y.argmax(), y.shape)
        y[(*place[:3], place[3] - 1 if place[3] else 1)] = y[place] * (1 - 1e-9)
        return y

    lrn.forward = nearly_equal
    assert margin(net, x) < 2e-9 < before
