import dataclasses
from unittest import mock

import numpy as np
import pytest
from checks import assert_close, assert_sums
from fast_conv import Case, assert_pictures_are_apart, assert_right, fast_cases, results
from hypothesis import example, given
from hypothesis import strategies as st

from tinynet.backend.threads import set_num_threads
from tinynet.ops.conv import winograd

# each compiles loops of its own
TILES = [(5, 3, np.float32), (4, 5, np.float32), (3, 2, np.float32), (2, 3, np.float64)]
FACTORIES = "gather_inputs", "gather_dy", "scatter", "transform_kernels", "transform_gradient", "multiply_few"

CONV1 = Case(17, 3, 5, 27, 31, (11, 11), (4, 4), (2, 2), m=5)  # AlexNet's first: 16 phases, and taps that are missing
TOWERS = Case(33, 17, 3, 13, 11, (5, 5), (1, 1), (2, 2), groups=2, m=4)
WIDE_BORDER = Case(2, 3, 4, 6, 1, (3, 3), (1, 1), (5, 4), m=5)  # most windows see no pixel
UNEVEN = Case(15, 2, 3, 9, 14, (3, 6), (1, 2), (0, 7), groups=2, m=5)


pytestmark = pytest.mark.usefixtures("_threads_as_before")


def path_of(case):
    sizes = case.m, case.stride, case.padding, case.groups
    return (
        lambda x, weight, y, bias, relu: winograd.forward(x, weight, y, *sizes, bias, relu),
        lambda dy, weight, dx: winograd.input_gradient(dy, weight, dx, *sizes),
        lambda x, dy: winograd.weight_gradient(x, dy, case.kernel_size, *sizes),
    )


@given(fast_cases(TILES), st.integers(1, 3), st.sampled_from([1, 3, 64]), st.sampled_from([0, 64]))
@example(CONV1, 2, 64, 0)
@example(TOWERS, 3, 3, 64)
@example(TOWERS, 3, 3, 0)
@example(WIDE_BORDER, 1, 64, 64)
@example(UNEVEN, 2, 1, 64)
def test_agrees_with_the_reference(case, threads, most_units, few_units):
    set_num_threads(threads)
    # many chunks of few pictures, and many threads for few kernels
    with mock.patch.multiple(winograd, MAX_UNITS=most_units, WORTH_A_THREAD=1, FEW_UNITS=few_units):
        assert_right(case, path_of(case), winograd=True)


@pytest.mark.parametrize("N", [3, 17, 32])
def test_pictures_do_not_see_each_other(N):
    case = Case(N, 2, 3, 9, 8, (3, 3), (1, 1), (1, 1), m=5)
    assert_pictures_are_apart(case, path_of(case), culprit=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_relu_keeps_what_is_not_finite_visible(threads):
    set_num_threads(threads)
    case = Case(17, 1, 3, 4, 5, (3, 3), m=5)
    x, weight, _, dy = case.arrays()
    for bad in (np.nan, np.inf, -np.inf):
        bias = np.array([1, bad, 1], np.float32)
        _, y, _, _ = results(case, path_of(case), x, weight, bias, dy)
        assert not np.isfinite(y[:, 1]).any()
        assert np.isfinite(y[:, [0, 2]]).all()


@pytest.mark.parametrize("channels", [2, 300])
@pytest.mark.parametrize("available", [1, 63, 64, 65, 200])
def test_chunks_are_of_one_size_and_fit(channels, available):
    width = winograd._chunk(channels, 7, np.float32, available)
    assert 1 <= width <= min(winograd.MAX_UNITS, available)
    parts = -(-available // width)
    assert parts * width - available < parts  # the last one is not a scrap
    if width > 16:
        assert channels * 7 * 7 * width * winograd.LANES * 4 <= winograd.CHUNK


# tiny, but together on every branch: inner and edge tiles of one unit, units of several tiles and a part of one, more
# channels than LANES and fewer
INTERPRETED = [
    Case(32, 1, 1, 5, 5, (3, 3), (1, 1), (1, 1), dtype=np.float64, m=2),
    Case(3, 17, 1, 4, 3, (3, 3), (1, 1), (1, 0), dtype=np.float64, m=2),
    Case(17, 1, 2, 6, 5, (5, 6), (2, 2), (2, 1), groups=2, dtype=np.float64, m=2),
]


@pytest.mark.parametrize("case", INTERPRETED)
def test_python_and_machine_code_agree(case, monkeypatch):
    """As in test_interpreted.py: there the loops are a module's, here each (m, r) has its own."""
    arrays = case.arrays()
    expected = results(case, path_of(case), *arrays)
    called = set()

    def python(name, factory):
        def of_this_size(*size):
            called.add(name)
            return factory(*size).py_func

        return of_this_size

    for name in FACTORIES:
        monkeypatch.setattr(winograd, name, python(name, getattr(winograd, name)))
    for got, compiled in zip(results(case, path_of(case), *arrays), expected, strict=True):
        assert_close(got, compiled)
    assert called == set(FACTORIES)


def test_kept_kernels_follow_the_weight(monkeypatch):
    """Whoever writes into the weight, in whatever way, gets kernels made of what stands there now."""
    transform, made = winograd._transformed, []
    monkeypatch.setattr(winograd, "_transformed", lambda *args: made.append(args) or transform(*args))
    weight, kept = np.random.default_rng(0).normal(size=(6, 4, 3, 3)), winograd.KeptKernels()
    for change in (lambda: None, lambda: weight.__setitem__((5, 3, 2, 2), 7), lambda: weight.__imul__(-1)):
        change()
        for _ in range(2):
            U = kept.of(weight, 4, (1, 1))
            assert np.array_equal(U.matrices(), transform(weight, 4).matrices())
    assert len(made) == 3
    monkeypatch.setattr(winograd, "_transformed", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # as Ctrl-C would: what is kept stays what it was
        kept.of(weight, 5, (1, 1))
    assert np.array_equal(kept.of(weight, 4, (1, 1)).matrices(), transform(weight, 4).matrices())
    monkeypatch.setattr(winograd, "_transformed", transform)
    assert kept.of(weight, 2, (1, 1)).n == 4
    assert kept.of(weight.astype(np.float32), 2, (1, 1)).flat.dtype == np.float32
    assert kept.of(weight, 4, (2, 2)).columns == 16  # the stride's phases


@pytest.mark.parametrize("channels", [3, 16, 17])
def test_a_thread_transforms_its_own_kernels_only(channels):
    """The rows of others stay untouched, and so does the gap between the points."""
    points, step = 16, 4 * channels + winograd.SPARE
    U = np.full(points * step, 7.0)
    winograd.transform_kernels(2, 3)(np.random.default_rng(0).normal(size=(4, channels, 3, 3)), U, step, 1, 3)
    written = np.zeros((points, step), bool)
    written[:, channels : 3 * channels] = True
    assert np.array_equal(U.reshape(points, step) != 7, written)
    dweight = np.full((4, channels, 3, 3), 7.0)
    winograd.transform_gradient(2, 3)(U, step, dweight, 1, 3)
    assert (dweight[[0, 3]] == 7).all()
    assert (dweight[1:3] != 7).all()


def test_kernels_taken_apart_by_phases_come_together_again():
    """`_from_phases` is the transpose of `_phases`: <phases(w), v> = <w, from_phases(v)>."""
    case = dataclasses.replace(CONV1, dtype=np.float64)
    weight = case.arrays()[1]
    apart = winograd._phases(weight, case.stride)
    assert apart.shape == (5, 3 * 16, 3, 3)
    assert np.array_equal(np.sort(apart[apart != 0]), np.sort(weight.ravel()))
    assert apart[1, 2 * 16 + 3 * 4 + 1, 1, 2] == weight[1, 2, 4 * 1 + 3, 4 * 2 + 1]
    v = np.random.default_rng(0).normal(size=apart.shape)
    back = winograd._from_phases(v, case.kernel_size, case.stride)
    assert back.shape == weight.shape
    left, right = np.sum(apart * v), np.sum(weight * back)
    assert_sums(left, right, apart.size, np.sum((apart * v) ** 2))
