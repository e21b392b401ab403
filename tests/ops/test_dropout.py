import numpy as np
import oracles
import pytest
from bounds import roundings
from strategies import DTYPES, LAYOUTS, numbers

from tinynet.ops.dropout import dropout_backward, dropout_forward
from tinynet.ops.philox import philox_bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_word_i_decides_over_element_i_in_every_layout(layout, dtype):
    x = numbers((2, 3, 4, 5), dtype, layout)
    y, kept = dropout_forward(x, 0.4, 2**35 + 1, 7, 9)
    dx = dropout_backward(numbers(x.shape, dtype, seed=1), kept, 0.4)
    assert y.dtype == dx.dtype == dtype
    rel = roundings(4, dtype)  # 1 - p, its inverse, the product; and 0.6 here
    for i, index in enumerate(np.ndindex(x.shape)):
        stays = oracles.random_word(i, 2**35 + 1, 7, 9) >= 0.4 * 2**32
        assert kept[index] == stays
        assert y[index] == (pytest.approx(x[index] / 0.6, rel=rel) if stays else 0)
        assert dx[index] == (pytest.approx(numbers(x.shape, dtype, seed=1)[index] / 0.6, rel=rel) if stays else 0)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 63), (5, 65), (130, 130), (2, 1, 1, 3), (1, 9, 5, 5)])
def test_the_same_elements_go_whatever_the_order_in_memory(shape):
    """Tiles of 64 and their ends, more pictures than words, several threads and one."""
    x = numbers(shape, np.float32)
    y, kept = dropout_forward(x, 0.5, 3, 4, 5)
    words = philox_bits(x.size, 3, 4, 5).reshape(shape)
    assert np.array_equal(kept, words >= 2**31)
    assert np.array_equal(y, np.where(kept, x * np.float32(2), 0))
    innermost = np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0)
    y_there, kept_there = dropout_forward(innermost, 0.5, 3, 4, 5)
    assert np.array_equal(y_there, y)
    assert np.array_equal(kept_there, kept)
    for array in (y_there, dropout_backward(y_there, kept_there, 0.5)):  # the next layer finds it as it wants it
        assert np.moveaxis(array, 0, -1).flags.c_contiguous


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "T"), [((3, 6), 2), ((5, 130), 2), ((2, 8, 3, 5), 4), ((4, 9, 1, 2), 3)])
def test_a_part_draws_its_part_of_the_whole_mask(shape, T, layout):
    x = numbers(shape, np.float32)
    y, kept = dropout_forward(x, 0.4, 3, 4, 5)
    for t, (part, part_y, part_kept) in enumerate(zip(*(np.split(a, T, axis=1) for a in (x, y, kept)), strict=True)):
        own_y, own_kept = dropout_forward(LAYOUTS[layout](part), 0.4, 3, 4, 5, (t, T))
        assert np.array_equal(own_y, part_y)
        assert np.array_equal(own_kept, part_kept)
        assert np.array_equal(
            dropout_backward(part, own_kept, 0.4), dropout_backward(x, kept, 0.4)[:, part_slice(x, t, T)]
        )


def part_slice(x, t, T):
    size = x.shape[1] // T
    return slice(t * size, (t + 1) * size)
