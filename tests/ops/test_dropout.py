import numpy as np
import oracles
import pytest
from strategies import DTYPES, LAYOUTS, numbers

from tinynet.ops.dropout import dropout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_word_i_decides_over_element_i_in_every_layout(layout, dtype):
    x = numbers((2, 3, 4, 5), dtype, layout)
    y = dropout(x, 0.4, 2**35 + 1, 7, 9)
    assert y.dtype == dtype
    for i, index in enumerate(np.ndindex(x.shape)):
        kept = oracles.random_word(i, 2**35 + 1, 7, 9) >= 0.4 * 2**32
        assert y[index] == (pytest.approx(x[index] / 0.6, rel=1e-6) if kept else 0)
