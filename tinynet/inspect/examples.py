"""A table of examples: for each layer some ways to make one, and an x that fits. A new layer adds its row here.

The tests of every layer, `tinynet check` and `python -m tinynet.fast` all go through it. A mistake shows only where the
numbers let it: two pictures and several channels, sizes that differ between height and width, strides that do not
divide, padding of more than one kind, several groups, shares other than a half.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tinynet.layers.conv2d import Conv2d
from tinynet.layers.dropout import Dropout
from tinynet.layers.flatten import Flatten
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.lrn import LRN
from tinynet.layers.max_pool import MaxPool
from tinynet.layers.relu import ReLU
from tinynet.layers.sequential import Sequential
from tinynet.losses.softmax_ce import SoftmaxCE


class Example(NamedTuple):
    """`build(kind)` makes a layer of the class; `shape` is that of an x, `args` what forward takes besides; `name` is
    that of the layer that meets x, in errors, if it is another.

    The class is an argument so that another of the same name, such as a student's copy, is made in the same way.
    """

    build: Callable[[Any], Layer]
    shape: tuple[int, ...]
    args: tuple[Any, ...] = ()
    name: str = ""


ROWS: dict[type[Layer], tuple[Example, ...]] = {
    Conv2d: (
        Example(lambda new: new(4, 6, (3, 2), (1, 2), (1, 0), groups=2), (2, 4, 5, 6)),
        Example(lambda new: new(3, 4, (2, 3), (2, 1), (0, 1)), (2, 3, 6, 5)),
        Example(lambda new: new(4, 2, 3, 2, 0, bias=False), (3, 4, 6, 7)),  # a last row and column that no window reads
        Example(lambda new: new(2, 3, (3, 2), 2, (2, 1), dilation=(1, 2)), (2, 2, 5, 6)),
    ),
    Dropout: (
        Example(lambda new: new(0.5), (2, 3, 4, 5)),
        Example(lambda new: new(0.8, seed=3), (4, 30)),
        Example(lambda new: new(0.1), (3, 40)),
        Example(lambda new: new(0.0), (2, 3, 4, 5)),
    ),
    Flatten: (
        Example(lambda new: new(), (2, 3, 4, 5)),
        Example(lambda new: new(), (3, 4)),
    ),
    LRN: (
        Example(lambda new: new(3, 0.5, groups=2), (2, 4, 3, 5)),
        Example(lambda new: new(5, 0.3, 0.5, 1.0), (2, 7, 2, 3)),
        Example(lambda new: new(5, 0.4, 1.25, 0.7, groups=2), (3, 8, 1, 2)),
        Example(lambda new: new(1, 0.5), (2, 3, 2, 3)),
    ),
    Linear: (
        Example(lambda new: new(5, 3), (2, 5)),
        Example(lambda new: new(3, 7), (4, 3)),
        Example(lambda new: new(4, 4, bias=False), (3, 4)),
    ),
    MaxPool: (
        Example(lambda new: new((2, 3), 2, (1, 0), ceil_mode=True), (2, 3, 6, 7)),
        Example(lambda new: new(3, 2), (2, 2, 7, 5)),  # windows overlap
        Example(lambda new: new((3, 2), (2, 1), (1, 1)), (2, 3, 5, 4)),
        Example(lambda new: new((2, 3)), (3, 2, 5, 7)),  # and do not fill the picture
    ),
    ReLU: (
        Example(lambda new: new(), (2, 3, 4, 5)),
        Example(lambda new: new(), (3, 7)),
    ),
    Sequential: (
        Example(lambda new: new({"pool": MaxPool(2), "relu": ReLU()}), (2, 3, 4, 6), name="MaxPool 'pool'"),
        Example(lambda new: new(Linear(5, 4), ReLU(), Linear(4, 3)), (3, 5)),
        Example(lambda new: new(ReLU(), Linear(4, 4)), (3, 4)),  # fits in either order
    ),
    SoftmaxCE: (
        Example(lambda new: new(), (2, 5), ([4, 1],)),
        Example(lambda new: new(), (6, 3), ([0, 2, 2, 1, 0, 2],)),
    ),
}


# class: (a function that makes one, the shape of an x, further arguments of forward, the name in errors)
EXAMPLES: dict[type[Layer], tuple[Callable[[], Layer], tuple[int, ...], tuple[Any, ...], str]] = {
    kind: (partial(row[0].build, kind), row[0].shape, row[0].args, row[0].name or kind.__name__)
    for kind, row in ROWS.items()
}
