"""MaxPool's twin: the place of each maximum is noted in training, and made later, if at all, in evaluation."""

from functools import partial
from typing import Any

from tinynet.backend.layout import batch_first, batch_last
from tinynet.checks import Pair
from tinynet.fast.inputs import check_input
from tinynet.layers.layer import Later
from tinynet.ops.max_pool import index_type, max_pool, max_pool_backward, max_pool_forward


def forward(pool: Any, x: Any) -> Any:
    check_input(pool, x)
    output, window = pool.output_shape(x.shape)[2:], pool.window[:3]
    if pool.training:
        y, place = max_pool_forward(x, output, *window)
        pool.saved = x.shape, batch_first(place)
        return y
    # nobody but a picture of the gradient asks for the places
    pool.saved = Later(partial(_shape_and_places, x, output, window))
    return max_pool(x, output, *window)


def _shape_and_places(x: Any, output: Pair, window: tuple[Pair, Pair, Pair]) -> tuple[Any, Any]:
    return x.shape, batch_first(max_pool_forward(x, output, *window)[1])


def backward(pool: Any, dy: Any) -> Any:
    shape, place = pool.saved
    pool.check_dy(dy, pool.output_shape(shape))
    return max_pool_backward(dy, places(pool, place), shape[2:], *pool.window[:3])


def places(pool: Any, place: Any) -> Any:
    """`place` as the ops have it: (C, OH, OW, N), of the smallest whole numbers that do."""
    return batch_last(place.astype(index_type(pool.window[0]), copy=False))
