import numpy as np
import pytest
from checks import error_text, forward_backward
from hypothesis import example, given
from implementations import backward, every_implementation, everywhere, forward, gradchecked
from strategies import Filling, fillings, shapes

from tinynet import gradcheck
from tinynet.errors import GradcheckError
from tinynet.layers import ReLU


@every_implementation(
    given(shapes, fillings),
    example((1, 3, 4, 5), Filling(np.float32, "negative strides", "transposed")),
    example((2, 3, 4, 5), Filling(np.float64, "batch innermost", "Fortran order")),
)
def test_agrees_with_the_definition(shape, filling):
    x = filling.distinct_x(shape)
    y, dx, _ = forward_backward(ReLU(), x, filling.dy)
    dy = filling.dy(shape)
    for index in np.ndindex(shape):
        assert y[index] == (x[index] if x[index] > 0 else 0)
        assert dx[index] == (dy[index] if x[index] > 0 else 0)


@every_implementation(
    given(shapes, fillings),
    share=0.25,
)
def test_gradcheck(shape, filling):
    x = filling.distinct_x(shape)
    report = gradchecked(ReLU(), x, max_checks=30)
    assert report.kinks == []
    assert report.checked["x"] == min(30, x.size)


@everywhere
def test_the_slope_at_zero_is_zero():
    layer = ReLU()
    assert np.array_equal(forward(layer, np.array([-1.0, -0.0, 0.0, 2.0])), [0, 0, 0, 2])
    assert np.array_equal(backward(layer, np.full(4, 3.0)), [0, 0, 0, 3])


def test_gradcheck_reports_a_kink_and_checks_the_rest():
    report = gradcheck(ReLU(), np.array([[-1.0, 0.0, 2.0]]))
    assert report.kinks == [("x", (0, 1))]
    assert report.checked["x"] == 2


def test_gradcheck_of_nothing_but_kinks_fails():
    assert "kink" in error_text(lambda: gradcheck(ReLU(), np.zeros((2, 3))), GradcheckError)


@pytest.mark.parametrize("layout", ["C order", "batch innermost"])
@pytest.mark.parametrize("shape", [(2, 3, 64, 65), (2, 3, 4, 5)])
def test_keeps_the_order_in_memory(shape, layout):
    x = Filling(np.float32, layout).x(shape)
    y = ReLU()(x)
    assert np.argsort(y.strides).tolist() == np.argsort(x.strides).tolist()


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), (6,)])
def test_wrong_shape_of_dy(shape):
    layer = ReLU()
    layer(np.ones((2, 3), np.float32))
    text = error_text(lambda: layer.backward(np.ones(shape, np.float32)), ValueError)
    assert text == f"ReLU: expected dy of shape (2, 3), got {shape}"
