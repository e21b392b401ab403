from unittest import mock

import numpy as np
import pytest
from fast_conv import Case, assert_pictures_are_apart, assert_right, fast_cases, results
from hypothesis import example, given
from hypothesis import strategies as st

from tinynet.backend.threads import set_num_threads
from tinynet.ops.conv import panels

ANY = [(0, 0, np.float32), (0, 0, np.float64)]
CONV1 = Case(17, 3, 5, 27, 31, (11, 11), (4, 4), (2, 2))
WIDE_BORDER = Case(2, 3, 4, 6, 1, (3, 2), (1, 1), (5, 4))  # most windows see no pixel
SPREAD = Case(16, 2, 3, 9, 14, (3, 2), (1, 3), (4, 0), (2, 5), groups=2)
GAPS = Case(33, 1, 2, 8, 7, (1, 2), (3, 4))  # a stride larger than the kernel


pytestmark = pytest.mark.usefixtures("_threads_as_before")


def path_of(case):
    window, groups = case.window, case.groups
    shape = case.O * groups, case.C, *case.kernel_size
    return (
        lambda x, weight, y, bias, relu: panels.forward(x, weight, y, window, groups, bias, relu),
        lambda dy, weight, dx: panels.input_gradient(dy, weight, dx, window, groups),
        lambda x, dy: panels.weight_gradient(x, dy, shape, window, groups),
    )


@given(fast_cases(ANY), st.integers(1, 3), st.sampled_from([(5, 5), (16, 48), panels.WIDTH]))
@example(CONV1, 2, (5, 5))
@example(CONV1, 3, panels.WIDTH)
@example(WIDE_BORDER, 1, (16, 48))
@example(SPREAD, 2, (5, 5))
@example(GAPS, 3, (16, 48))
def test_agrees_with_the_reference(case, threads, widths):
    set_num_threads(threads)
    with mock.patch.object(panels, "WIDTH", widths):  # narrow panels end in the middle of a line, or of a pixel
        assert_right(case, path_of(case))


@pytest.mark.parametrize("N", [3, 17])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2)])
def test_pictures_do_not_see_each_other(N, stride):
    case = Case(N, 2, 3, 9, 8, (3, 2), stride, (1, 1))
    assert_pictures_are_apart(case, path_of(case), culprit=1)


def test_relu_keeps_what_is_not_finite_visible():
    case = Case(17, 1, 3, 4, 5, (3, 3))
    x, weight, _, dy = case.arrays()
    for bad in (np.nan, np.inf, -np.inf):
        bias = np.array([1, bad, 1], np.float32)
        _, y, _, _ = results(case, path_of(case), x, weight, bias, dy)
        assert not np.isfinite(y[:, 1]).any()
        assert np.isfinite(y[:, [0, 2]]).all()


def test_panels_cover_the_range_and_fit_the_cache():
    for rows, start, stop in ((1, 3, 5000), (363, 0, 2000), (2400, 7, 1000), (10**6, 0, 300)):
        parts = panels._panels(rows, np.float32, start, stop)
        assert [column for first, last in parts for column in range(first, last)] == list(range(start, stop))
        width = max(last - first for first, last in parts)
        assert width <= panels.WIDTH[1]
        assert width <= panels.WIDTH[0] or rows * width * 4 <= panels.PANEL
        assert width % 16 == 0 or len(parts) == 1
