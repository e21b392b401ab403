"""What hypothesis draws: geometries of layers, and arrays in every way that memory can hold them."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)


def _transposed(a):
    """The last two axes swapped in memory."""
    axes = [*range(a.ndim)][:-2] + [*range(a.ndim)][-2:][::-1]
    return np.ascontiguousarray(a.transpose(axes)).transpose(axes)


def _sliced(a):
    spacious = np.full([2 * size + 1 for size in a.shape], 7.0, a.dtype)
    inside = spacious[tuple(slice(1, None, 2) for _ in a.shape)]
    inside[...] = a
    return inside


def _reversed(a):
    backwards = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[backwards])[backwards]


def _batch_innermost(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "transposed": _transposed,
    "sliced": _sliced,
    "negative strides": _reversed,
    "batch innermost": _batch_innermost,
    "read-only": _read_only,
}

layouts = st.sampled_from(sorted(LAYOUTS))
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


def numbers(shape, dtype=np.float64, layout="C order", seed=0):
    """Normal values of `shape`; the same seed gives the same values in every layout."""
    return LAYOUTS[layout](np.random.default_rng(seed).normal(size=shape).astype(dtype))


def distinct_numbers(shape, dtype=np.float64, layout="C order", seed=0):
    """Odd multiples of 0.05, all different: no two come near each other or 0, so ReLU and max have no kink here."""
    order = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return LAYOUTS[layout](((order - order.size // 2 + 0.5) * 0.1).reshape(shape).astype(dtype))


@dataclass(frozen=True)
class Filling:
    """How an array is filled: its dtype, its layout in memory and the seed of its values."""

    dtype: type = np.float64
    layout: str = "C order"
    dy_layout: str = "C order"
    seed: int = 0

    def x(self, shape):
        return numbers(shape, self.dtype, self.layout, self.seed)

    def distinct_x(self, shape):
        return distinct_numbers(shape, self.dtype, self.layout, self.seed)

    def dy(self, shape):
        return numbers(shape, self.dtype, self.dy_layout, self.seed + 1)


fillings = st.builds(Filling, dtypes, layouts, layouts, seeds)


@dataclass(frozen=True)
class Window:
    """A picture and a window that slides over it; `unused` counts the border pixels (h, w) that no window reaches."""

    N: int
    C: int
    H: int
    W: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    out_channels: int = 1
    bias: bool = True
    ceil_mode: bool = False

    @property
    def shape(self):
        return self.N, self.C, self.H, self.W


def _pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def convolutions(draw, most_pixels=8):
    """H ≠ W always; the kernel fits at least once; stride may exceed the kernel and leave pixels unused."""
    groups = draw(st.integers(1, 3))
    kernel_size, dilation = draw(_pairs(1, 3)), draw(_pairs(1, 2))
    padding, stride = draw(_pairs(0, 2)), draw(_pairs(1, 3))
    least = [max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel_size, dilation, padding, strict=True)]
    H, W = draw(_different(least, most_pixels))
    return Window(
        draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 2)),
        H,
        W,
        kernel_size,
        stride,
        padding,
        dilation,
        groups,
        groups * draw(st.integers(1, 2)),
        draw(st.booleans()),
    )


@st.composite
def poolings(draw, most_pixels=9):
    kernel_size, stride = draw(_pairs(1, 4)), draw(_pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel_size)
    least = [max(1, k - 2 * p) for k, p in zip(kernel_size, padding, strict=True)]
    H, W = draw(_different(least, most_pixels))
    return Window(
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        H,
        W,
        kernel_size,
        stride,
        padding,
        ceil_mode=draw(st.booleans()),
    )


def _different(least, most):
    sizes = st.tuples(st.integers(least[0], most), st.integers(least[1], most))
    return sizes.filter(lambda size: size[0] != size[1])


@dataclass(frozen=True)
class Normalisation:
    """A picture and the constants of an LRN whose term matters."""

    shape: tuple[int, int, int, int]
    size: int
    alpha: float
    beta: float
    k: float
    groups: int

    @property
    def constants(self):
        return self.size, self.alpha, self.beta, self.k, self.groups


@st.composite
def normalisations(draw):
    groups = draw(st.integers(1, 3))
    H, W = draw(_different((1, 1), 4))
    return Normalisation(
        (draw(st.integers(1, 3)), groups * draw(st.integers(1, 4)), H, W),
        draw(st.sampled_from([1, 3, 5, 7])),
        draw(st.sampled_from([0.5, 0.3, 1.0])),
        draw(st.sampled_from([0.75, 0.5, 1.25])),
        draw(st.sampled_from([1.0, 2.0, 0.7])),
        groups,
    )


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
