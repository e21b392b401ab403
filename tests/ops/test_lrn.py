import numpy as np
import oracles
import pytest
from bounds import lrn_roundings
from checks import assert_close
from strategies import LAYOUTS, numbers

from tinynet.ops.lrn import lrn_backward, lrn_forward

CONSTANTS = 3, 0.5, 0.6, 1.0, 2
FORWARD, BACKWARD = (lrn_roundings(3, 0.75, way) for way in (False, True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_naive_loops_in_every_layout(layout):
    x, dy = numbers((3, 6, 2, 4), layout=layout), numbers((3, 6, 2, 4), layout=layout, seed=1)
    assert_close(lrn_forward(x, *CONSTANTS), oracles.lrn(x, *CONSTANTS), terms=FORWARD)
    assert_close(lrn_backward(x, dy, *CONSTANTS), oracles.lrn_backward(x, dy, *CONSTANTS), terms=BACKWARD)


def test_two_square_roots_are_the_power():
    """beta = 0.75 takes another way than every other power: both must meet."""
    x = numbers((2, 4, 3, 5)) * 3
    near = np.nextafter(0.75, 1)  # the next number: it changes the power by less than its rounding does
    assert_close(lrn_forward(x, 3, 0.5, 0.75, 2.0, 1), lrn_forward(x, 3, 0.5, near, 2.0, 1), terms=FORWARD)
    dy = np.ones_like(x)
    got, expected = (lrn_backward(x, dy, 3, 0.5, beta, 2.0, 1) for beta in (0.75, near))
    assert_close(got, expected, terms=BACKWARD)
