import numpy as np
import pytest
from bounds import random_sum, roundings
from checks import assert_within
from fast_conv import winograd_growth
from strategies import numbers

from tinynet.ops.conv.cook_toom import POINTS, matrix

EVERY = [(m, n + 1 - m) for n in POINTS for m in range(1, n + 1)]


def filtered(d, g, dtype=np.float64):
    """y[i, j] = the sum over a, b of d[i + a, j + b] g[a, b], from the definition."""
    m = [len(d) - len(g) + 1, d.shape[1] - g.shape[1] + 1]
    return np.array([[(d[i : i + len(g), j : j + g.shape[1]] * g).sum() for j in range(m[1])] for i in range(m[0])])


def magnitude(m, r, d, g):
    """The sum of the absolute values of all that is added up on the way."""
    AT, G, BT = (np.abs(matrix(name, m, r)) for name in ("A^T", "G", "B^T"))
    if d.ndim == 1:
        return AT @ ((G @ np.abs(g)) * (BT @ np.abs(d)))
    return AT @ ((G @ np.abs(g) @ G.T) * (BT @ np.abs(d) @ BT.T)) @ AT.T


@pytest.mark.parametrize(("m", "r"), EVERY)
def test_computes_the_convolution(m, r):
    """Y = A^T [(G g G^T) * (B^T d B)] A, for enough d and g to tell any wrong entry; and the same in one dimension."""
    AT, G, BT = (matrix(name, m, r) for name in ("A^T", "G", "B^T"))
    for seed in range(3):
        d, g = numbers((m + r - 1,) * 2, seed=seed), numbers((r, r), seed=seed + 9)
        steps = 2 * (m + r - 1) + r + 5  # three sums, their rounded constants, the product, and the sum of r itself
        y = AT @ ((G @ g[0]) * (BT @ d[0]))
        assert_within(y, np.correlate(d[0], g[0]), roundings(steps) * magnitude(m, r, d[0], g[0]))
        Y = AT @ ((G @ g @ G.T) * (BT @ d @ BT.T)) @ AT.T
        assert_within(Y, filtered(d, g), roundings(2 * steps) * magnitude(m, r, d, g))


@pytest.mark.parametrize(("m", "r"), EVERY)
def test_every_single_product_has_its_place(m, r):
    """Unit vectors: y[i] = sum_j d[i + j] g[j] holds term by term, so nothing can cancel."""
    AT, G, BT = (matrix(name, m, r) for name in ("A^T", "G", "B^T"))
    weight_of = np.einsum("ik,kj,kd->ijd", AT, G, BT)  # of d[d] g[j] in y[i]
    i, j, d = np.ogrid[:m, :r, : m + r - 1]
    largest = np.einsum("ik,kj,kd->ijd", *(np.abs(M) for M in (AT, G, BT)))
    assert_within(weight_of, d == i + j, roundings(m + r + 4) * largest)  # a sum of m + r - 1, its constants, products


@pytest.mark.parametrize(("m", "r"), [(m, r) for m, r in EVERY if m > 1 and r > 1])
def test_float32_keeps_nearly_five_digits(m, r):
    """With every map in float32, as the compiled loops have it, over a few channels."""
    AT, G, BT = (matrix(name, m, r).astype(np.float32) for name in ("A^T", "G", "B^T"))
    d, g = numbers((50, 4, m + r - 1, m + r - 1), np.float32), numbers((4, r, r), np.float32, seed=1)
    Y = AT @ ((G @ g @ G.T) * (BT @ d @ BT.T)).sum(axis=1) @ AT.T
    expected = np.array([sum(filtered(*pair) for pair in zip(of, g.astype(np.float64), strict=True)) for of in d])
    assert Y.dtype == np.float32
    dd, gg = np.square(d, dtype=np.float64), np.square(g, dtype=np.float64)
    squares = np.array([sum(filtered(*pair) for pair in zip(of, gg, strict=True)) for of in dd])
    steps = 2 * (2 * (m + r - 1) + r) + 18 + 4  # two passes each of three transforms, and the channels
    error = winograd_growth(m, r, edges=False) * random_sum(steps, np.float32, Y.size)
    assert error < 1.2e-5
    assert np.linalg.norm(Y - expected) <= error * np.sqrt(squares.sum())


@pytest.mark.parametrize(("m", "r"), EVERY)
def test_shapes_and_transposes(m, r):
    n = m + r - 1
    shapes = {name: matrix(name, m, r).shape for name in ("B^T", "A^T", "G", "A", "G^T")}
    assert shapes == {"B^T": (n, n), "A^T": (m, n), "G": (n, r), "A": (n, m), "G^T": (r, n)}
    assert np.array_equal(matrix("A", m, r), matrix("A^T", m, r).T)
    assert np.array_equal(matrix("G^T", m, r), matrix("G", m, r).T)


@pytest.mark.parametrize(("m", "r"), EVERY)
def test_rows_of_both_transforms_are_of_one_size(m, r):
    """Up to the powers of two by which they may be scaled against each other."""
    ratios = np.abs(matrix("G", m, r)).max(axis=1) / np.abs(matrix("B^T", m, r)).max(axis=1)
    assert (np.abs(np.log2(ratios)) <= 1 + 1e-9).all()


def test_the_textbooks_smallest_one():
    """F(2, 3) of Lavin and Gray, section 4.1, up to the order and the scale of the products: four, one for each sum."""
    assert np.abs(matrix("A^T", 2, 3)).tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]
