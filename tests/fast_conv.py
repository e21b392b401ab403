"""What the tests of the fast convolutions share: a float64 reference that is quick enough for whole batches, what
hypothesis draws, and what every path must keep to."""

from dataclasses import dataclass
from unittest import mock

import numpy as np
from bounds import deviation, random_sum
from checks import same_bits
from hypothesis import strategies as st
from strategies import numbers

from tinynet.backend import buffers
from tinynet.ops.conv import choose
from tinynet.ops.conv.cook_toom import matrix
from tinynet.ops.matmul import one_thread_blas

BATCHES = (1, 2, 15, 16, 17, 33)  # beside the 16 values of a vector
GUARD = 40  # values on both sides of a result, which nobody may touch


@dataclass(frozen=True)
class Case:
    """A convolution; C and O are channels of a group."""

    N: int
    C: int
    O: int
    H: int
    W: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    dtype: type = np.float32
    m: int = 0
    seed: int = 0

    @property
    def window(self):
        return self.kernel_size, self.stride, self.padding, self.dilation

    @property
    def output(self):
        size = zip((self.H, self.W), *self.window, strict=True)
        return tuple((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in size)

    @property
    def y_size(self):
        return self.N * self.O * self.groups * self.output[0] * self.output[1]

    @property
    def terms(self):
        """Products in a sum of y (and one more for the bias), dx and dweight."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        return self.C * taps + 1, self.O * taps, self.N * self.output[0] * self.output[1]

    @property
    def tile(self):
        """m, where Winograd's algorithm is to compute this and nobody has chosen one."""
        shapes = (self.N, self.O, *self.output), (self.O, self.C, *self.kernel_size)
        return self.m or choose.tile(*shapes, self.window)

    def arrays(self):
        """x (N, C, H, W), weight, bias, dy, all in C order."""
        shapes = (
            (self.N, self.C * self.groups, self.H, self.W),
            (self.O * self.groups, self.C, *self.kernel_size),
            (self.O * self.groups,),
            (self.N, self.O * self.groups, *self.output),
        )
        return [numbers(shape, self.dtype, seed=self.seed + i) for i, shape in enumerate(shapes)]


def reference(case, x, weight, dy):
    """(y, dx, dweight) in float64, one kernel tap at a time; y without bias."""
    N, G, (OH, OW), (ph, pw) = case.N, case.groups, case.output, case.padding
    x, weight, dy = (array.astype(np.float64) for array in (x, weight, dy))
    padded = np.pad(x.reshape(N, G, case.C, case.H, case.W), ((0, 0),) * 3 + ((ph, ph), (pw, pw)))
    kernels, dy = weight.reshape(G, case.O, case.C, *case.kernel_size), dy.reshape(N, G, case.O, OH, OW)
    y, dx, dweight = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(kernels)
    for kh, kw in np.ndindex(case.kernel_size):
        top, left = kh * case.dilation[0], kw * case.dilation[1]
        rows = slice(top, top + (OH - 1) * case.stride[0] + 1, case.stride[0])
        columns = slice(left, left + (OW - 1) * case.stride[1] + 1, case.stride[1])
        under, tap = padded[..., rows, columns], kernels[..., kh, kw]
        y += np.einsum("goc,ngcij->ngoij", tap, under)
        dx[..., rows, columns] += np.einsum("goc,ngoij->ngcij", tap, dy)
        dweight[..., kh, kw] = np.einsum("ngoij,ngcij->goc", dy, under)
    dx = dx[..., ph : ph + case.H, pw : pw + case.W]
    return y.reshape(N, -1, OH, OW), dx.reshape(x.shape), dweight.reshape(weight.shape)


def winograd_growth(m, r, edges=True):
    """How much larger than the result's terms those are that Winograd's F(m, r) adds up: a factor of the deviation.

    y[i] = sum_k AT[i, k] (sum_j G[k, j] g[j]) (sum_d BT[k, d] d[d]): for random g and d the variance of all terms is
    the sum of AT^2 G^2 BT^2, of those that do not cancel (d = i + j) one. edges: the largest for any one of the three
    indices counts, as the edges of pictures leave some out. In two dimensions the growth is there twice.
    """
    AT, G, BT = (matrix(name, m, r) ** 2 for name in ("A^T", "G", "B^T"))
    variance, wanted = np.einsum("ik,kj,kd->ijd", AT, G, BT), np.zeros((m, r, m + r - 1))
    for i, j in np.ndindex(m, r):
        wanted[i, j, i + j] = 1
    axes = ((0, 1), (1, 2), (0, 2)) if edges else [(0, 1, 2)]
    return max(float((variance.sum(axis) / wanted.sum(axis)).max()) for axis in axes)


def random_bounds(case, winograd=False):
    """Of y, dx and dweight, for random x, weight and dy: the bound of an L2 error, relative to the root of the sum of
    the squares of all products, as a function of (dtype, entries)."""
    counts, growth = case.terms, 1.0
    if winograd:
        counts, growth = winograd_terms(case), winograd_growth(case.tile, choose.taps_a_phase(case.window))
    return [lambda dtype, entries, n=n: growth * random_sum(n, dtype, entries) for n in counts]


def winograd_terms(case):
    """What is added up on the way to one number of y, dx and dweight: terms of sums over channels or tiles, and those
    of two passes each of three transforms, whose constants are rounded, too."""
    m, r = case.tile, choose.taps_a_phase(case.window)
    steps = 2 * (2 * (m + r - 1) + r) + 18
    return [-(-n // k**2) + steps for n, k in zip(case.terms, (r, r, m), strict=True)]


def variances(case, winograd):
    """Of the errors of y, dx and dweight, over all their entries, in (u R)**2."""
    counts, growth = case.terms, 1.0
    if winograd:
        counts, growth = winograd_terms(case), winograd_growth(case.tile, choose.taps_a_phase(case.window), False)
    return [(growth * deviation(n)) ** 2 for n in counts]


def assert_near(got, expected, squares, bound, dtype):
    """An L2 error within `bound` of the root of the sum of all products' squares."""
    assert got.shape == expected.shape == squares.shape
    assert got.dtype == dtype
    total = np.sqrt(squares.sum())
    allowed = (bound(dtype, got.size) + bound(np.float64, got.size)) * total
    error = np.linalg.norm(got - expected)
    assert error <= allowed, f"an error of {error:.3g} in the L2 norm, expected at most {allowed:.3g}"


def batch_innermost(a):
    return np.ascontiguousarray(np.moveaxis(a, 0, -1))


def _guarded(shape, dtype):
    """An array of NaN, and all the memory around it."""
    around = np.full(2 * GUARD + int(np.prod(shape)), 7, dtype)
    inside = around[GUARD:-GUARD].reshape(shape)
    inside[...] = np.nan
    return inside, around


def _poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)  # whoever reads what nobody wrote will see it


def results(case, path, x, weight, bias, dy):
    """(y, y with bias and ReLU, dx, dweight) of `path`, (N, C, H, W): three functions forward(x, weight, y, bias,
    relu), input_gradient(dy, weight, dx) and weight_gradient(x, dy) on batches innermost. No argument changes, each
    element of the results is written and nothing beside them."""
    forward, input_gradient, weight_gradient = path
    x, dy = batch_innermost(x), batch_innermost(dy)
    before = [array.copy() for array in (x, weight, bias, dy)]
    guarded = [_guarded(array.shape, case.dtype) for array in (dy, dy, x)]
    (y, _), (rectified, _), (dx, _) = guarded
    with mock.patch.object(buffers, "empty", _poisoned), one_thread_blas():
        forward(x, weight, y, None, False)
        forward(x, weight, rectified, bias, True)
        input_gradient(dy, weight, dx)
        dweight = weight_gradient(x, dy)
    for _, around in guarded:
        assert (around[:GUARD] == 7).all()
        assert (around[-GUARD:] == 7).all()
    assert all(same_bits(array, old) for array, old in zip((x, weight, bias, dy), before, strict=True))
    return *(np.moveaxis(array, -1, 0) for array in (y, rectified, dx)), dweight


class Expected:
    """What a convolution of random numbers must give, and how near to it any order of its sums comes."""

    def __init__(self, case, x, weight, bias, dy, winograd=False):
        self.case, self.bias = case, bias.astype(np.float64)[:, None, None]
        self.values = dict(zip(("y", "dx", "dweight"), reference(case, x, weight, dy), strict=True))
        wide = (array.astype(np.float64) ** 2 for array in (x, weight, dy))
        self.squares = dict(zip(self.values, reference(case, *wide), strict=True))
        self.bounds = dict(zip(self.values, random_bounds(case, winograd), strict=True))

    def assert_near(self, name, got, bias=False, relu=False):
        value, squares = self.values[name], self.squares[name]
        if bias:
            value, squares = value + self.bias, squares + self.bias**2
        assert_near(got, np.maximum(value, 0) if relu else value, squares, self.bounds[name], self.case.dtype)


def assert_right(case, path, winograd=False):
    """All that `path` computes agrees with the reference; the same call gives the same bits."""
    x, weight, bias, dy = case.arrays()
    y, rectified, dx, dweight = got = results(case, path, x, weight, bias, dy)
    expected = Expected(case, x, weight, bias, dy, winograd)
    expected.assert_near("y", y)
    expected.assert_near("y", rectified, bias=True, relu=True)
    expected.assert_near("dx", dx)
    expected.assert_near("dweight", dweight)
    again = results(case, path, x, weight, bias, dy)
    assert all(same_bits(a, b) for a, b in zip(again, got, strict=True))


def assert_pictures_are_apart(case, path, culprit):
    """NaN in one picture changes no bit of the others, forward and backward."""
    x, weight, bias, dy = case.arrays()
    y, _, dx, _ = results(case, path, x, weight, bias, dy)
    x[culprit], dy[culprit] = np.nan, np.nan
    y_changed, _, dx_changed, _ = results(case, path, x, weight, bias, dy)
    others = np.arange(case.N) != culprit
    assert np.isnan(y_changed[culprit]).all()
    assert np.isnan(dx_changed[culprit]).all()
    assert same_bits(y_changed[others], y[others])
    assert same_bits(dx_changed[others], dx[others])


@st.composite
def fast_cases(draw, m_r_dtypes):
    """m_r_dtypes: (m, r, dtype) to choose from, r being the taps of a phase; r = 0: any kernel, any dilation."""
    m, r, dtype = draw(st.sampled_from(m_r_dtypes))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (1, 2), (3, 2)]))
    kernel_size = tuple(s * (r - 1) + draw(st.integers(1, s)) if r else draw(st.integers(1, 5)) for s in stride)
    dilation = (1, 1) if r else draw(st.sampled_from([(1, 1), (1, 2), (3, 1)]))
    padding = tuple(draw(st.integers(0, k + 1)) for k in kernel_size)
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    sides = [draw(st.integers(max(1, e - 2 * p), e + 10)) for e, p in zip(extent, padding, strict=True)]
    return Case(
        draw(st.sampled_from(BATCHES)),
        draw(st.sampled_from([1, 2, 3, 17])),
        draw(st.integers(1, 3)),
        *sides,
        kernel_size,
        stride,
        padding,
        dilation,
        draw(st.integers(1, 2)),
        dtype,
        m,
        draw(st.integers(0, 99)),
    )
