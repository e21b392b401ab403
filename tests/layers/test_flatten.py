import numpy as np
from checks import error_text, forward_backward
from hypothesis import example, given
from implementations import every_implementation, gradchecked
from strategies import Filling, fillings, shapes

from tinynet.layers import Flatten


@every_implementation(
    given(shapes, fillings),
    example((2, 3, 4, 5), Filling(np.float64, "batch innermost", "Fortran order")),
    example((3, 2, 4), Filling(np.float32, "negative strides", "transposed")),
)
def test_agrees_with_the_definition(shape, filling):
    x = filling.x(shape)
    y, dx, _ = forward_backward(Flatten(), x, filling.dy)
    assert y.shape == (shape[0], int(np.prod(shape[1:])))
    dy = filling.dy(y.shape)
    for n in range(shape[0]):
        for i, index in enumerate(np.ndindex(shape[1:])):
            assert y[n, i] == x[(n, *index)]
            assert dx[(n, *index)] == dy[n, i]


@every_implementation(
    given(shapes, fillings),
    share=0.15,
)
def test_gradcheck(shape, filling):
    gradchecked(Flatten(), filling.x(shape), max_checks=30)


def test_wrong_shape_of_dy():
    layer = Flatten()
    layer(np.ones((2, 3, 4), np.float32))
    text = error_text(lambda: layer.backward(np.ones((2, 3, 4), np.float32)), ValueError)
    assert text == "Flatten: expected dy of shape (2, 12), got (2, 3, 4)"
