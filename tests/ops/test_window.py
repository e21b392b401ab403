import oracles
import pytest
from checks import error_text
from hypothesis import assume, given
from hypothesis import strategies as st

from tinynet.checks import checked_pair
from tinynet.layers.windows import window_output

few = st.integers(1, 4)
pairs = st.tuples(few, few)


@given(st.tuples(st.integers(1, 20), st.integers(1, 20)), pairs, pairs, st.tuples(few, few), pairs, st.booleans())
def test_counts_the_windows_that_fit(size, kernel_size, stride, padding, dilation, ceil_mode):
    if ceil_mode:  # pooling: no dilation, and padding of at most half of the kernel
        dilation = 1, 1
        padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel_size, strict=True))
    axes = list(zip(size, kernel_size, stride, padding, dilation, strict=True))
    fits = all(s + 2 * p >= (k - 1) * d + 1 for s, k, _, p, d in axes)
    assume(fits)
    expected = tuple(len(oracles.window_starts(*axis, ceil_mode)) for axis in axes)
    assert window_output("test", size, kernel_size, stride, padding, dilation, ceil_mode) == expected


def test_what_does_not_fit_is_refused():
    text = error_text(lambda: window_output("Pool", (9, 4), (3, 5), (2, 2)), ValueError)
    assert text == (
        "Pool: expected a width of at least 5 for kernel_size (3, 5), padding (0, 0), dilation (1, 1); "
        "got height, width = (9, 4)"
    )


def test_a_number_stands_for_a_pair():
    assert checked_pair("Conv2d", "stride", 2, 1) == (2, 2)
    assert checked_pair("Conv2d", "stride", (2, 1), 1) == (2, 1)
    assert checked_pair("Conv2d", "stride", [2, 1], 1) == (2, 1)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, (1,), (1, 0), (1, True), (1, 2.0), "11", None, {1, 2}])
def test_what_is_no_pair(value):
    text = error_text(lambda: checked_pair("Conv2d", "stride", value, 1), ValueError)
    assert text == f"Conv2d: expected stride to be a whole number of at least 1 or two, (h, w); got {value!r}"
