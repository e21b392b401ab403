import numpy as np
from hypothesis import given
from strategies import fillings

from tinynet.backend.layout import batch_first, batch_last


@given(fillings)
def test_moves_the_batch_and_back(filling):
    x = filling.x((2, 3, 4, 5))
    last = batch_last(x)
    assert last.shape == (3, 4, 5, 2)
    assert last.flags.c_contiguous
    for n, c, h, w in np.ndindex(x.shape):
        assert last[c, h, w, n] == x[n, c, h, w]
    assert np.array_equal(batch_first(last), x)
    assert np.shares_memory(batch_first(last), last)


def test_copies_nothing_that_lies_right():
    x = batch_first(np.arange(24.0).reshape(2, 3, 4, 1))
    assert np.shares_memory(batch_last(x), x)
