"""kernels/max_pool.cu: the values and the places of naive loops, and exactly those of the CPU twin."""

import numpy as np
import oracles
import pytest
from hypothesis import given
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
    run_last_block,
    seeds,
    sparse,
)
from strategies import Window, poolings

from tinynet.ops import max_pool

C_PLACE = {np.uint8: "unsigned char", np.int32: "int"}
LARGE = Window(2, 2, 19, 20, (17, 18), (1, 2), (0, 3))  # 306 places in a window: they do not fit a byte


def output_of(window):
    """(OH, OW), found by sliding the window."""
    axes = zip(window.shape[2:], window.kernel_size, window.stride, window.padding, strict=True)
    return tuple(len(oracles.window_starts(*axis, ceil_mode=window.ceil_mode)) for axis in axes)


def sizes_of(window, shape):
    """The kernels' whole numbers, from C on."""
    N, C, H, W = shape
    return C, H, W, N, *output_of(window), *window.kernel_size, *window.stride, *window.padding


def few_values(shape, dtype, seed):
    """Small whole numbers: many windows have several maxima."""
    return np.round(normal(shape, dtype, seed) * 2)


def forward(kernel, launch, window, x, place_type=np.uint8):
    """y (N, C, OH, OW), and place (C, OH, OW, N)."""
    shape = (x.shape[1], *output_of(window), len(x))
    y, place = blank(shape, x.dtype), blank(shape, place_type)
    name = f"max_pool_forward<{C_NAME[x.dtype.type]}, {C_PLACE[place_type]}>"
    launch(kernel(name), batch_last(x), y, place, *sizes_of(window, x.shape))
    return batch_first(y), place


def backward(kernel, launch, window, dy, place, shape):
    dx = blank((*shape[1:], shape[0]), dy.dtype)
    name = f"max_pool_backward<{C_NAME[dy.dtype.type]}, {C_PLACE[place.dtype.type]}>"
    launch(kernel(name), batch_last(dy), place, dx, *sizes_of(window, shape))
    return batch_first(dx)


def test_source():
    # float64 is for gradient checks: it gets no launch bounds that would slow float32 down
    spills = {f"max_pool_forward<double, {index}>": 36 for index in C_PLACE.values()}
    spills |= {f"max_pool_forward<float, {index}>": 28 for index in C_PLACE.values()}  # with CuPy's -ftz=true
    check_source("max_pool", globals(), "tinynet/ops/max_pool.py", spills)


@both_dtypes
@given(launch=launches(3, 2), window=poolings(7), N=batches, seed=seeds)
def test_max_pool_forward(kernel, dtype, launch, window, N, seed):
    x = few_values((N, *window.shape[1:]), dtype, seed)
    geometry = window.kernel_size, window.stride, window.padding
    y, place = forward(kernel, launch, window, x)
    np.testing.assert_array_equal(y, oracles.max_pool(x, *geometry, window.ceil_mode))
    twin_y, twin_place = max_pool.max_pool_forward(x, output_of(window), *geometry)
    np.testing.assert_array_equal(y, twin_y)
    np.testing.assert_array_equal(place, twin_place, strict=True)


@both_dtypes
@given(launch=launches(3, 2), window=poolings(7), seed=seeds)
def test_max_pool_forward_does_not_lose_nan(kernel, dtype, launch, window, seed):
    x = few_values((2, *window.shape[1:]), dtype, seed)
    x.reshape(-1)[seed % 5 :: 5] = np.nan
    geometry = window.kernel_size, window.stride, window.padding
    y, place = forward(kernel, launch, window, x)
    twin_y, twin_place = max_pool.max_pool_forward(x, output_of(window), *geometry)
    np.testing.assert_array_equal(y, twin_y)
    np.testing.assert_array_equal(place, twin_place)


@both_dtypes
@given(launch=launches(3, 2), window=poolings(7), N=batches, seed=seeds)
def test_max_pool_backward(kernel, dtype, launch, window, N, seed):
    x = few_values((N, *window.shape[1:]), dtype, seed)
    geometry = window.kernel_size, window.stride, window.padding
    y, place = max_pool.max_pool_forward(x, output_of(window), *geometry)
    dy = normal(y.shape, dtype, seed + 1)
    dx = backward(kernel, launch, window, dy, place, x.shape)
    close(dx, oracles.max_pool_backward(x, dy, *geometry, window.ceil_mode))
    np.testing.assert_array_equal(dx, max_pool.max_pool_backward(dy, place, x.shape[2:], *geometry))


@both_dtypes
def test_a_window_of_more_than_256_elements(kernel, dtype):
    launch, geometry = Launch((1, 2, 1), (3, 8), "shuffled"), (LARGE.kernel_size, LARGE.stride, LARGE.padding)
    x = few_values(LARGE.shape, dtype, 1)
    x[:, :, 16:, 17:] += 10  # beyond place 255
    y, place = forward(kernel, launch, LARGE, x, np.int32)
    twin_y, twin_place = max_pool.max_pool_forward(x, output_of(LARGE), *geometry)
    np.testing.assert_array_equal(y, twin_y)
    np.testing.assert_array_equal(place, twin_place, strict=True)
    assert place.max() > 255
    dy = normal(y.shape, dtype, 2)
    dx = backward(kernel, launch, LARGE, dy, place, x.shape)
    np.testing.assert_array_equal(dx, max_pool.max_pool_backward(dy, place, x.shape[2:], *geometry))


@pytest.mark.parametrize("N", [1, 3])
def test_more_than_2_to_31_elements(kernel, tmp_path, N):
    side = 30000 if N == 1 else 16000
    shape, output, window = (4, side, side, N), (4, side - 1, side - 1, N), (2, 2, 1, 1, 0, 0)
    x, y, place = sparse(tmp_path, *shape), sparse(tmp_path, *output), sparse(tmp_path, *output, dtype=np.uint8)
    corner = few_values((1, 2, 129, N), np.float32, 1)
    x[3, -2:, -129:] = corner[0]
    block, sizes = (N, 32), (4, side, side, N, *output[1:3], *window)
    grid = -(-output[2] // 32), output[1], 4
    run_last_block(kernel("max_pool_forward<float, unsigned char>"), grid, block, x, y, place, *sizes)
    expected, places = max_pool.max_pool_forward(np.moveaxis(corner, -1, 0), (1, 128), (2, 2), (1, 1), (0, 0))
    end = output[2] % 32 or 32
    np.testing.assert_array_equal(y[3, -1, -end:], np.moveaxis(expected, 0, -1)[0, 0, -end:])
    np.testing.assert_array_equal(place[3, -1, -end:], places[0, 0, -end:])
    # the last pixel is the last place of the last window, and of no other
    dy, dx, place[3, -1, -1] = y, sparse(tmp_path, *shape), 3
    grid = -(-side // 32), side, 4
    run_last_block(kernel("max_pool_backward<float, unsigned char>"), grid, block, dy, place, dx, *sizes)
    np.testing.assert_array_equal(dx[3, -1, -1], dy[3, -1, -1])
    assert (dx[3, -1, -1] != 0).any()
