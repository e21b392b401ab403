import numpy as np
import oracles
import pytest
from checks import assert_sums, error_text, same_bits
from hypothesis import example, given
from strategies import Filling, Window, convolutions, fillings, numbers

from tinynet import layers
from tinynet.ops import im2col as loops

LOPSIDED = Window(2, 3, 6, 7, (3, 2), (2, 1), (1, 2), (1, 2))


def sizes(window):
    return window.kernel_size, window.stride, window.padding, window.dilation


both = pytest.mark.parametrize("module", [layers, loops], ids=["plain", "loops"])


def test_the_layers_own_are_public():
    """What is read is what is taught: no loop of tinynet.ops stands under this name."""
    assert layers.im2col.__module__ == layers.col2im.__module__ == "tinynet.layers.windows"
    assert loops.im2col is not layers.im2col


@both
@given(convolutions(), fillings)
@example(LOPSIDED, Filling(np.float32, "negative strides"))
@example(Window(1, 2, 8, 7, (3, 2), (3, 4)), Filling(np.float64, "batch innermost"))
def test_im2col_agrees_with_the_definition(module, window, filling):
    x = filling.x(window.shape)
    before = x.copy()
    cols = module.im2col(x, *sizes(window))
    assert cols.dtype == x.dtype
    assert cols.flags.c_contiguous
    assert np.array_equal(cols, oracles.im2col(x, *sizes(window)))
    assert same_bits(x, before)


@both
@given(convolutions(), fillings)
@example(LOPSIDED, Filling(np.float64, "C order", "transposed"))
@example(LOPSIDED, Filling(np.float32, "C order", "negative strides"))
def test_col2im_is_the_transpose_of_im2col(module, window, filling):
    """<im2col(x), c> = <x, col2im(c)> for every x and c."""
    x = numbers(window.shape, seed=filling.seed)
    cols = filling.dy(module.im2col(x, *sizes(window)).shape)
    before = cols.copy()
    back = module.col2im(cols, window.shape, *sizes(window))
    assert back.shape == window.shape
    assert back.dtype == cols.dtype
    assert same_bits(cols, before)
    products = oracles.im2col(x, *sizes(window)) * cols.astype(np.float64)
    assert_sums(np.sum(products), np.sum(x * back.astype(np.float64)), cols.size, np.sum(products**2), filling.dtype)


@both
@given(convolutions())
@example(LOPSIDED)
def test_col2im_of_ones_counts_the_windows_of_each_pixel(module, window):
    ones = np.ones(oracles.im2col(np.zeros(window.shape), *sizes(window)).shape)
    counts = np.zeros(window.shape)
    tops = oracles.window_starts(
        window.H, window.kernel_size[0], window.stride[0], window.padding[0], window.dilation[0]
    )
    lefts = oracles.window_starts(
        window.W, window.kernel_size[1], window.stride[1], window.padding[1], window.dilation[1]
    )
    rows = [top + kh * window.dilation[0] for top in tops for kh in range(window.kernel_size[0])]
    columns = [left + kw * window.dilation[1] for left in lefts for kw in range(window.kernel_size[1])]
    for h in range(window.H):
        for w in range(window.W):
            counts[:, :, h, w] = rows.count(h) * columns.count(w)
    assert np.array_equal(module.col2im(ones, window.shape, *sizes(window)), counts)


@both
def test_by_hand(module):
    x = np.arange(6.0).reshape(1, 1, 2, 3)
    assert module.im2col(x, (2, 2)).tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]
    assert module.im2col(x, (1, 2), stride=(1, 2), padding=(0, 1)).tolist() == [[0, 1, 0, 4], [0, 2, 3, 5]]
    assert module.col2im(np.ones((4, 2)), (1, 1, 2, 3), 2).tolist() == [[[[1, 2, 1], [1, 2, 1]]]]
    batch = np.stack([x[0], x[0] + 10])
    assert module.im2col(batch, (2, 2))[0].tolist() == [0, 10, 1, 11]  # the pictures of the batch side by side


@both
def test_whole_numbers_stay_whole(module):
    x = np.arange(24).reshape(1, 2, 3, 4)
    cols = module.im2col(x, 2)
    assert cols.dtype == x.dtype
    assert np.array_equal(cols, oracles.im2col(x, (2, 2), (1, 1), (0, 0), (1, 1)))


WRONG = [
    ({"kernel_size": 0}, "expected kernel_size to be a whole number of at least 1 or two, (h, w); got 0"),
    ({"kernel_size": 2.0}, "expected kernel_size to be a whole number of at least 1 or two, (h, w); got 2.0"),
    ({"stride": 0}, "expected stride to be a whole number of at least 1 or two, (h, w); got 0"),
    ({"padding": (0, -1)}, "expected padding to be a whole number of at least 0 or two, (h, w); got (0, -1)"),
    ({"dilation": (1, 1, 1)}, "expected dilation to be a whole number of at least 1 or two, (h, w); got (1, 1, 1)"),
    (
        {"kernel_size": (2, 6)},
        "expected a width of at least 6 for kernel_size (2, 6), padding (0, 0), dilation (1, 1); "
        "got height, width = (4, 5)",
    ),
]


@both
@pytest.mark.parametrize(("arguments", "complaint"), WRONG)
def test_wrong_arguments(module, arguments, complaint):
    arguments = {"kernel_size": 2, **arguments}
    assert error_text(lambda: module.im2col(np.ones((1, 2, 4, 5)), **arguments), ValueError) == f"im2col: {complaint}"
    text = error_text(lambda: module.col2im(np.ones((8, 12)), (1, 2, 4, 5), **arguments), ValueError)
    assert text == f"col2im: {complaint}"


@both
def test_wrong_shapes(module):
    for x, got in ((np.ones((2, 4, 5)), "(2, 4, 5)"), ([[1, 2]], "(1, 2)")):
        text = error_text(lambda x=x: module.im2col(x, 2), ValueError)
        assert text == f"im2col: expected x as an array of 4 axes, got {got}"
    text = error_text(lambda: module.im2col(np.ones((1, 2, 3, 4), np.float16), 2), TypeError)
    assert text == "im2col: expected x of whole numbers, float32 or float64, got float16"
    text = error_text(lambda: module.col2im(np.ones((8, 12)), (1, 2, 4), 2), ValueError)
    assert text == "col2im: expected a shape (N, C, H, W), got (1, 2, 4)"
    text = error_text(lambda: module.col2im(np.ones((12, 8)), (1, 2, 4, 5), 2), ValueError)
    assert text == "col2im: expected cols of shape (8, 12) for a picture (1, 2, 4, 5), got (12, 8)"


@both
def test_more_threads_than_rows_change_nothing(module):
    x = numbers((3, 1, 5, 6))
    assert np.array_equal(module.im2col(x, 1), oracles.im2col(x, (1, 1), (1, 1), (0, 0), (1, 1)))
