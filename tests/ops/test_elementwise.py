import numpy as np
import pytest
from checks import assert_close, same_bits
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, dtypes, layouts, numbers, seeds, shapes

import tinynet
from tinynet.backend.threads import get_num_threads, set_num_threads
from tinynet.ops import elementwise
from tinynet.ops.elementwise import BLOCK, GRAIN, all_finite, in_memory_order, or_to, relu, relu_backward, sgd_step

BAD = (np.nan, np.inf, -np.inf)


@pytest.fixture(autouse=True, params=[False, True], ids=["loops", "plain"])
def _many_threads(request):
    """Or plain mode, in which some of these ops are a line of NumPy."""
    before = get_num_threads()
    set_num_threads(3)
    with tinynet.plain(request.param):
        yield
    set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, 2 * GRAIN + 3])
def test_one_bad_element_anywhere_is_found(size, dtype):
    x = np.full(size, np.finfo(dtype).max)  # their sum is infinite, each is not
    x[::2] *= -1
    assert all_finite(x)
    places = {0, size - 1, size // 2, *(place for place in (BLOCK - 1, BLOCK, GRAIN - 1, GRAIN) if place < size)}
    for place in places:
        for bad in BAD:
            kept, x[place] = x[place], bad
            assert not all_finite(x), f"{bad} at {place} of {size}"
            x[place] = kept
    x[:1], x[-1:] = np.inf, -np.inf if size > 1 else np.inf
    assert not all_finite(x)


@given(shapes, layouts, dtypes, seeds, st.sampled_from(BAD))
def test_a_bad_element_is_found_in_every_layout(shape, layout, dtype, seed, bad):
    x = numbers(shape, dtype, seed=seed)
    assert all_finite(LAYOUTS[layout](x))
    x.flat[seed % x.size] = bad
    assert not all_finite(LAYOUTS[layout](x))


def test_what_lies_between_the_elements_does_not_count():
    spacious = np.full((7, 9), np.nan)
    spacious[::2, 1::3] = 1
    assert all_finite(spacious[::2, 1::3])
    assert all_finite(spacious[::2, 1::3].T)
    assert not all_finite(spacious[::2, 1::2])
    assert all_finite(np.array(3.0))
    assert all_finite(np.empty((0, 3)))


@given(shapes, layouts, dtypes, seeds)
def test_relu(shape, layout, dtype, seed):
    x = numbers(shape, dtype, layout, seed)
    before = x.copy()
    y, finite = relu(x)
    assert finite
    assert y.dtype == dtype
    assert np.array_equal(y, np.maximum(before, 0))
    assert np.array_equal(x, before)
    assert not np.may_share_memory(x, y)


@given(shapes, layouts, layouts, dtypes, seeds)
def test_relu_backward(shape, layout, dy_layout, dtype, seed):
    """y and dy lie differently in memory; dx is in the order of y."""
    y, dy = numbers(shape, dtype, layout, seed), numbers(shape, dtype, dy_layout, seed + 1)
    y_before, dy_before = y.copy(), dy.copy()
    dx = relu_backward(dy, y)
    assert dx.dtype == dtype
    assert np.array_equal(dx, np.where(y_before > 0, dy_before, 0))
    assert np.array_equal(y, y_before)
    assert np.array_equal(dy, dy_before)


@pytest.mark.parametrize("layout", ["C order", "batch innermost", "sliced"])
@pytest.mark.parametrize("shape", [(3, 5, 151, 173), (2, 3, 4, 5)])  # on several threads and on one
def test_large_arrays(layout, shape):
    x, dy = numbers(shape, np.float32, layout), numbers(shape, np.float32, "transposed", 1)
    y, finite = relu(x)
    assert finite
    assert np.array_equal(y, np.maximum(x, 0))
    dx = relu_backward(dy, y)
    assert np.array_equal(dx, np.where(x > 0, dy, 0))
    assert np.argsort(dx.strides).tolist() == np.argsort(y.strides).tolist()


def test_special_values():
    y, finite = relu(np.array([-1, -0.0, np.nan, np.inf, -np.inf, 2]))
    assert not finite
    assert np.array_equal(y, [0, 0, np.nan, np.inf, np.nan, 2], equal_nan=True)
    assert not np.signbit(y[:2]).any()
    assert relu_backward(np.full(4, 3.0), np.array([-0.0, 0.0, 1e-300, np.inf])).tolist() == [0, 0, 3, 3]
    assert relu_backward(np.full(2, 3.0, np.float64), np.ones(2, np.float32)).dtype == np.float64


@given(shapes, st.tuples(layouts, layouts, layouts), dtypes, seeds)
def test_sgd_step(shape, three, dtype, seed):
    w, v, g = (numbers(shape, dtype, seed=seed + i) for i in range(3))
    momentum, lr, decay = 0.9, 0.3, 0.5
    v_expected = momentum * v.astype(float) - lr * (decay * w.astype(float) + g)
    w_expected = w + v_expected
    w, v, g = (
        np.require(LAYOUTS[layout](array), requirements="W" if layout == "read-only" else None)
        for layout, array in zip(three, (w, v, g), strict=True)
    )
    before = g.copy(order="K")
    sgd_step(w, v, g, momentum, lr, decay)
    for got, expected in ((v, v_expected), (w, w_expected)):
        assert_close(got, expected, dtype, terms=9)  # three constants, three products, three sums
    assert w.dtype == v.dtype == dtype
    assert same_bits(g, before)


def test_sgd_step_without_decay_or_momentum_on_several_threads():
    w, v, g = (numbers((2 * GRAIN + 5,), np.float32, seed=i) for i in range(3))
    w_before = w.copy()
    sgd_step(w, v, g, 0.0, 0.5, 0.0)
    assert np.array_equal(v, np.float32(-0.5) * g)
    assert np.array_equal(w, w_before + v)


def test_flags_that_are_set_stay():
    flags, more = np.array([0, 1, 1, 0], np.int32), np.array([1, 1, 0, 0], np.int32)
    or_to(flags, more)
    assert flags.tolist() == [1, 1, 1, 0]
    assert more.tolist() == [1, 1, 0, 0]


def test_in_memory_order_pairs_elements_and_copies_only_where_it_must():
    a, b = numbers((2, 3, 4), layout="batch innermost"), numbers((2, 3, 4), seed=1)
    flat_a, flat_b = in_memory_order(a, b)
    assert np.shares_memory(flat_a, a)
    assert not np.shares_memory(flat_b, b)
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    assert set(zip(flat_a.tolist(), flat_b.tolist(), strict=True)) == pairs
    assert not np.shares_memory(in_memory_order(a[..., ::2])[0], a)
    assert elementwise.in_memory_order(np.float64(3.0) * np.ones(()))[0].tolist() == [3]


def test_relu_backward_makes_no_number_of_what_lay_in_memory():
    """A block of float64 that comes back must not be converted to float32 before it is written."""
    y, dy = numbers((300, 300)), numbers((300, 300), np.float32, seed=1)
    for _ in range(2):
        used, _ = elementwise.relu(y)
        used[...] = 1e300
        del used
        dx = elementwise.relu_backward(dy, y)  # warnings are errors here
    assert dx.dtype == np.float32
    assert np.array_equal(dx, np.where(y > 0, dy, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK + 1, 3 * GRAIN + 7])
def test_relu_sees_one_bad_value_anywhere(size, bad):
    for place in {0, size // 2, size - 1}:
        x = numbers((size,), np.float32)
        x[place] = bad
        assert not relu(x)[1]


@given(shapes, st.tuples(layouts, layouts), dtypes, seeds)
def test_same_bits(shape, two, dtype, seed):
    values = numbers(shape, dtype, seed=seed)
    a, b = (LAYOUTS[layout](values) for layout in two)
    assert elementwise.same_bits(a, b)
    other = values.copy()
    other.flat[other.size // 2] = np.nextafter(other.flat[other.size // 2], np.inf, dtype=dtype)
    assert not elementwise.same_bits(a, LAYOUTS[two[1]](other))


def test_same_bits_tells_apart_what_compares_equal():
    zero, nan = np.zeros(3), np.full(3, np.nan)
    assert not elementwise.same_bits(zero, -zero)
    assert elementwise.same_bits(nan, nan.copy())
    assert not elementwise.same_bits(zero, zero.astype(np.float32))
    assert not elementwise.same_bits(zero, np.zeros((3, 1)))
    long = numbers((3 * GRAIN + 7,), np.float32)
    changed = long.copy()
    changed[-1] += 1
    assert elementwise.same_bits(long, long.copy())
    assert not elementwise.same_bits(long, changed)
