"""kernels/lrn.cu: against naive loops, the CPU twin, and the fused kernels against the plain ones, bit for bit."""

from dataclasses import dataclass

import numpy as np
import oracles
from bounds import lrn_roundings, roundings
from checks import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import (
    C_NAME,
    Launch,
    batch_first,
    batch_last,
    batches,
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
from strategies import poolings

from tinynet.ops import lrn, max_pool

BETAS = (0.75, 0.5, 1.25)


@dataclass(frozen=True)
class Case:
    """A picture and an LRN whose term matters. instance: the kernels' SIZE."""

    shape: tuple[int, int, int, int]
    instance: int
    size: int
    groups: int
    chunk: int
    alpha: float
    beta: float
    k: float
    dtype: type
    seed: int

    @property
    def normalisation(self):
        return self.size, self.alpha, self.beta, self.k, self.groups

    def roundings(self, backward=False):
        """No window sees more channels than a group has."""
        return lrn_roundings(min(self.size, self.shape[1] // self.groups), self.beta, backward)

    @property
    def held_shape(self):
        return (*self.shape[1:], self.shape[0])

    @property
    def parts(self):
        """The kernels' blocks along y."""
        return self.groups * -(-self.shape[1] // self.groups // self.chunk)

    @property
    def constants(self):
        """The kernels' last arguments."""
        return tuple(float(self.dtype(number)) for number in (self.alpha, self.beta, self.k))

    def values(self, shape, offset):
        return normal(shape, self.dtype, self.seed + offset)

    def kernel(self, find, name):
        return find(f"{name}<{C_NAME[self.dtype]}, {self.instance}>")


@st.composite
def cases(draw, dtype, sizes=(1, 3, 5, 7, 9, 63), most_channels=7, area=None):
    groups, group_size = draw(st.integers(1, 3)), draw(st.integers(1, most_channels))
    H, W = area or draw(st.sampled_from([(1, 2), (2, 1), (3, 2), (2, 3), (1, 4)]))
    instance = draw(st.sampled_from([5, 0] if len(sizes) > 1 else [5]))
    return Case(
        (draw(batches), groups * group_size, H, W),
        instance,
        instance or draw(st.sampled_from(sizes)),
        groups,
        draw(st.integers(1, group_size + 1)),
        draw(st.sampled_from([0.5, 0.3, 1.0])),
        draw(st.sampled_from(BETAS)),
        draw(st.sampled_from([1.0, 2.0, 0.7])),
        dtype,
        draw(seeds),
    )


def forward(kernel, launch, case, x):
    y = blank(case.held_shape, case.dtype)
    sizes = *case.held_shape, case.size, case.groups, case.chunk
    launch(case.kernel(kernel, "lrn_forward"), batch_last(x), y, *sizes, *case.constants)
    return batch_first(y)


def backward(kernel, launch, case, x, dy):
    dx = blank(case.held_shape, case.dtype)
    sizes = *case.held_shape, case.size, case.groups, case.chunk
    launch(case.kernel(kernel, "lrn_backward"), batch_last(x), batch_last(dy), dx, *sizes, *case.constants)
    return batch_first(dx)


def test_source():
    # windows of any size lie in slower memory anyway; float64 is for gradient checks
    spills = {"lrn_backward<double, 5>": 24} | {f"relu_lrn_pool_backward<{T}, 0>": 32 for T in C_NAME.values()}
    spills["lrn_pool_forward<float, 5>"] = 4  # one number, with CuPy's -ftz=true
    check_source("lrn", globals(), "tinynet/ops/lrn.py", spills)


@both_dtypes
@given(data=st.data(), launch=launches(2))
def test_lrn_forward(kernel, dtype, data, launch):
    case = data.draw(cases(dtype))
    x = case.values(case.shape, 0)
    y = forward(kernel, launch, case, x)
    close(y, oracles.lrn(x, *case.normalisation), case.roundings())
    close(y, lrn.lrn_forward(x, *case.normalisation), 2 * case.roundings())


@both_dtypes
@given(data=st.data(), launch=launches(2))
@settings(max_examples=30)
def test_lrn_backward(kernel, dtype, data, launch):
    case = data.draw(cases(dtype))
    x, dy = case.values(case.shape, 0), case.values(case.shape, 1)
    dx = backward(kernel, launch, case, x, dy)
    close(dx, oracles.lrn_backward(x, dy, *case.normalisation), case.roundings(backward=True))
    close(dx, lrn.lrn_backward(x, dy, *case.normalisation), 2 * case.roundings(backward=True))


@both_dtypes
def test_large_values_leave_no_trace(kernel, dtype):
    """A running sum that adds the newest square and subtracts the oldest would have lost the small ones by then."""
    case = Case((3, 12, 2, 1), 5, 5, 1, 12, 0.5, 0.75, 1.0, dtype, 1)
    x, dy = case.values(case.shape, 0), case.values(case.shape, 1)
    x[:, 2] *= 1e6
    launch = Launch((1, 1), (32,), "forward")
    y, dx = forward(kernel, launch, case, x), backward(kernel, launch, case, x, dy)
    for got, expected in (
        (y, oracles.lrn(x, *case.normalisation)),
        (dx, oracles.lrn_backward(x, dy, *case.normalisation)),
    ):
        assert_close(got[:, 5:], expected[:, 5:], dtype, case.roundings(backward=True))


# --- with the ReLU before and the pooling behind it -------------------------------------------------------------------


def pool_sizes(case, window, output):
    N, C, H, W = case.shape
    return C, H, W, N, *output, *window.kernel_size, *window.stride, *window.padding


@dataclass(frozen=True)
class Tiled:
    """How lrn_pool_forward is launched: a block of pictures x pixels, and the tile of y that it makes."""

    pictures: int
    spare: int
    tile: tuple[int, int]
    order: str

    def __call__(self, kernel, case, x, window, output):
        N, C, H, W = case.shape
        y = blank((C, *output, N), case.dtype)
        place = blank(y.shape, np.uint8)
        sides = zip(self.tile, window.stride, window.kernel_size, strict=True)
        rows, columns = ((t - 1) * s + k for t, s, k in sides)
        pixels = max(1, -(-rows * columns // 4) + self.spare)  # of a block along y, as each has four at most
        pictures = min(self.pictures, 512 // pixels)
        tiles = -(-output[0] // self.tile[0]) * -(-output[1] // self.tile[1])
        sizes = pool_sizes(case, window, output)
        args = batch_last(x), y, place, *sizes, case.groups, case.chunk, *self.tile, *case.constants
        case.kernel(kernel, "lrn_pool_forward")(
            (tiles * -(-N // pictures), case.parts),
            (pictures, pixels),
            args,
            shared_mem=2 * rows * columns * pictures * x.itemsize,
            order=self.order,
        )
        return batch_first(y), place


tilings = st.builds(
    Tiled, st.sampled_from([1, 3, 8, 32]), st.integers(0, 2), st.tuples(st.integers(1, 3), st.integers(1, 3)), orders
)


def pooled(draw, dtype, sizes=(5,)):
    """A case, and the pooling behind it: (case, x as a ReLU gives it, window, (OH, OW))."""
    window = draw(poolings(6))
    case = draw(cases(dtype, sizes, most_channels=4, area=window.shape[2:]))
    axes = zip(window.shape[2:], window.kernel_size, window.stride, window.padding, strict=True)
    output = tuple(len(oracles.window_starts(*axis, ceil_mode=window.ceil_mode)) for axis in axes)
    return case, np.maximum(case.values(case.shape, 0), 0), window, output


@both_dtypes
@given(data=st.data(), tiled=tilings)
def test_lrn_pool_forward(kernel, dtype, data, tiled):
    case, x, window, output = pooled(data.draw, dtype)
    y, place = tiled(kernel, case, x, window, output)

    normalised = forward(kernel, Launch((2, 2), (32,), "forward"), case, x)
    geometry = window.kernel_size, window.stride, window.padding
    plain_y, plain_place = max_pool.max_pool_forward(normalised, output, *geometry)
    np.testing.assert_array_equal(y, plain_y)
    np.testing.assert_array_equal(place, plain_place, strict=True)

    twin_y, twin_place = lrn.lrn_pool_forward(x, case.normalisation, output, *geometry)
    close(y, twin_y, 2 * case.roundings())
    # rounding may decide differently between two pixels that are almost equal; nothing else may
    twin_normalised = lrn.lrn_forward(x, *case.normalisation)
    near = 4 * roundings(case.roundings(), dtype) * np.abs(twin_normalised).max()  # two numbers, each computed twice
    for c, oh, ow, n in np.argwhere(place != twin_place):
        kh, kw = divmod(int(place[c, oh, ow, n]), window.kernel_size[1])
        h, w = oh * window.stride[0] - window.padding[0] + kh, ow * window.stride[1] - window.padding[1] + kw
        assert abs(twin_normalised[n, c, h, w] - twin_y[n, c, oh, ow]) <= near


@both_dtypes
@given(data=st.data(), order=orders)
@settings(max_examples=20)
def test_a_tile_that_does_not_fit_gives_nan(kernel, dtype, data, order):
    case, x, window, output = pooled(data.draw, dtype)
    rows, columns = ((2 - 1) * s + k for s, k in zip(window.stride, window.kernel_size, strict=True))
    if rows * columns > 4:
        y, _ = Tiled(1, -1, (2, 2), order)(kernel, case, x, window, output)
        assert np.isnan(y).all()


@both_dtypes
@given(data=st.data(), launch=launches(2))
def test_relu_lrn_pool_backward(kernel, dtype, data, launch):
    case, x, window, output = pooled(data.draw, dtype, (3, 5, 7))
    geometry = window.kernel_size, window.stride, window.padding
    _, place = lrn.lrn_pool_forward(x, case.normalisation, output, *geometry)
    dy, dx = case.values((*case.shape[:2], *output), 1), blank(case.held_shape, dtype)
    sizes = *pool_sizes(case, window, output), case.size, case.groups, case.chunk
    arrays = batch_last(x), batch_last(dy), place, dx
    launch(case.kernel(kernel, "relu_lrn_pool_backward"), *arrays, *sizes, *case.constants)
    dx = batch_first(dx)

    gradient = max_pool.max_pool_backward(dy, place, case.shape[2:], *geometry)
    plain = backward(kernel, Launch((2, 2), (32,), "forward"), case, x, gradient)
    np.testing.assert_array_equal(dx, np.where(x > 0, plain, 0))
    twin = lrn.relu_lrn_pool_backward(x, dy, place, case.normalisation, *geometry)
    close(dx, twin, 2 * case.roundings(backward=True))
    naive = oracles.lrn_backward(x[:2], gradient[:2], *case.normalisation)
    close(dx[:2], np.where(x[:2] > 0, naive, 0), case.roundings(backward=True), np.abs(twin).max())


# --- more than 2**31 elements: the last block of a grid, on arrays that are mostly never touched ----------------------


def test_lrn_past_2_to_31(kernel, tmp_path):
    case = Case((128, 3, 1, 1), 5, 5, 1, 3, 0.5, 0.75, 1.3125, np.float32, 1)
    shape = 3, 1 << 15, 1 << 8, 1 << 7
    x, dy, y, dx = (sparse(tmp_path, *shape) for _ in range(4))
    small_x, small_dy = case.values(case.shape, 0), case.values(case.shape, 1)
    x[:, -1, -1], dy[:, -1, -1] = small_x[..., 0, 0].T, small_dy[..., 0, 0].T
    grid, sizes = (x[0].size // 128, 1), (*shape, 5, 1, 3, *case.constants)
    run_last_block(kernel("lrn_forward<float, 5>"), grid, (128,), x, y, *sizes)
    run_last_block(kernel("lrn_backward<float, 5>"), grid, (128,), x, dy, dx, *sizes)
    close(y[:, -1, -1].T, oracles.lrn(small_x, *case.normalisation)[..., 0, 0], case.roundings())
    naive = oracles.lrn_backward(small_x, small_dy, *case.normalisation)[..., 0, 0]
    close(dx[:, -1, -1].T, naive, case.roundings(backward=True))

    # a ReLU before changes nothing where x is positive, and neither does a pooling of 1 x 1 behind
    x[:, -1, -1] = np.abs(x[:, -1, -1])
    run_last_block(kernel("lrn_backward<float, 5>"), grid, (128,), x, dy, dx, *sizes)
    expected_dx, dx[:, -1, -1] = dx[:, -1, -1].copy(), np.nan
    expected_y, y[:, -1, -1] = np.abs(y[:, -1, -1]), np.nan
    place, sizes = sparse(tmp_path, *shape, dtype=np.uint8), (*shape, *shape[1:3], 1, 1, 1, 1, 0, 0)
    backward_args = x, dy, place, dx, *sizes, 5, 1, 3, *case.constants
    run_last_block(kernel("relu_lrn_pool_backward<float, 5>"), grid, (128,), *backward_args)
    np.testing.assert_array_equal(dx[:, -1, -1], expected_dx)
    last = shape[1] * shape[2] - 1  # of the tiles of one pixel, all pictures in one block
    args, place[:, -1, -1] = (x, y, place, *sizes, 1, 3, 1, 1, *case.constants), 77
    options = {"shared_mem": 2 * 128 * 4, "blocks": [last], "guarded": False}
    kernel("lrn_pool_forward<float, 5>")((last + 1, 1), (128, 1), args, **options)
    np.testing.assert_array_equal(y[:, -1, -1], expected_y)
    assert (place[:, -1, -1] == 0).all()
