"""Winograd's minimal filtering F(m, r): m neighbouring outputs of a convolution with r taps by m + r - 1 products.

The m + r - 1 inputs d and the r taps g are the coefficients of polynomials. A product of polynomials is the product of
their values at enough points; so evaluate, multiply value by value, and interpolate. Convolution as deep learning
writes it, y[i] = sum_j d[i + j] g[j], is the transpose of that product (Cook and Toom's algorithm, transposed):

    y = A^T [(G g) * (B^T d)]        and in two dimensions  Y = A^T [(G g G^T) * (B^T d B)] A

(Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast algorithms for convolutional neural
networks, 2016, section 4.) F(5, 3) in two dimensions takes 49 products for 25 outputs of 9 taps each, 225: 4.6 times
fewer. The price is rounding: values at points far from 1 differ much in size. The points below were the best of those
tried; float32 keeps a relative error of about 1e-6 to 3e-6.
"""

import functools
import math
from fractions import Fraction

import numpy as np

# finite points for each number of products n = m + r - 1; the last point is always infinity
POINTS = {
    2: "0",
    3: "0 1",
    4: "0 1 -1",
    5: "0 1 -1 1/2",
    6: "0 2/3 -2/3 3/2 -3/2",
    7: "3/8 -3/8 7/8 -7/8 3/2 -3/2",
    8: "0 1 -1 2 -2 1/2 -1/2",
}


@functools.cache
def matrix(name: str, m: int, r: int) -> np.ndarray:
    """One of the matrices of F(m, r), n = m + r - 1, in float64: "B^T" (n, n), "A^T" (m, n), "G" (n, r), "A" (n, m) or
    "G^T" (r, n)."""
    AT, G, BT = _cook_toom([Fraction(point) for point in POINTS[m + r - 1].split()], m, r)
    return {"B^T": BT, "A^T": AT, "G": G, "A": AT.T, "G^T": G.T}[name]


def rows_of(name: str, m: int, r: int) -> tuple[tuple[float, ...], ...]:
    """The same as a tuple of rows."""
    return tuple(map(tuple, matrix(name, m, r).tolist()))


def _cook_toom(points: list[Fraction], m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G, B^T, in exact fractions until the end.

    Column k of A^T and row k of G hold the powers of point k; row k of B^T has the coefficients of the polynomial that
    is zero at all other points. At infinity a polynomial's value is its highest coefficient.
    """
    highest = m - 1, r - 1
    AT = [[point**i for point in points] + [int(i == highest[0])] for i in range(m)]
    G = [[point**j for j in range(r)] for point in points] + [[int(j == highest[1]) for j in range(r)]]
    BT = [_with_roots([root for root in points if root != point]) for point in points] + [_with_roots(points)]
    for k, point in enumerate(points):
        at_its_point = math.prod((point - root for root in points if root != point), start=Fraction(1))
        G[k] = [value / at_its_point for value in G[k]]
    return _as_floats(AT), *_balanced(_as_floats(G), _as_floats(BT, m + r - 1))


def _with_roots(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the product of all (t - root), the lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [high - low for high, low in zip(shifted, scaled, strict=True)]
    return coefficients


def _as_floats(rows: list, width: int | None = None) -> np.ndarray:
    width = width or len(rows[0])
    return np.array([[float(value) for value in [*row, *[0] * (width - len(row))]] for row in rows])


def _balanced(G: np.ndarray, BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """G's and B^T's rows scaled by powers of two, against each other, so that their largest entries are alike."""
    for k in range(len(G)):
        factor = 2.0 ** np.round(np.log2(np.abs(BT[k]).max() / np.abs(G[k]).max()) / 2)
        G[k] *= factor
        BT[k] /= factor
    return G, BT
