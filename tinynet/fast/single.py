"""One layer's fast twin, called for it: a module with `forward(layer, x)` and `backward(layer, dy)`.

A twin may decline with NotImplemented, for dtypes or sizes that it was not made for: the layer's own lines run then.
"""

from types import ModuleType
from typing import Any

from tinynet.fast import conv2d, dropout, linear, lrn, max_pool, relu, softmax_ce
from tinynet.layers.conv2d import Conv2d
from tinynet.layers.dropout import Dropout
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.lrn import LRN
from tinynet.layers.max_pool import MaxPool
from tinynet.layers.passes import Several, own_backward, own_forward
from tinynet.layers.relu import ReLU
from tinynet.losses.softmax_ce import SoftmaxCE

TWINS: dict[type[Layer], ModuleType] = {
    Conv2d: conv2d,
    Dropout: dropout,
    LRN: lrn,
    Linear: linear,
    MaxPool: max_pool,
    ReLU: relu,
    SoftmaxCE: softmax_ce,
}


def forward(x: Any, layer: Any) -> Any:
    """y of the twin of a layer that is itself (`tinynet.fast.identity`); x may be `Several` arguments."""
    args = x if isinstance(x, Several) else (x,)
    y = TWINS[type(layer)].forward(layer, *args)
    return own_forward(x, layer) if y is NotImplemented else y


def backward(dy: Any, layer: Any) -> Any:
    """dx of the twin; dy may be `Several`, none for a loss."""
    args = dy if isinstance(dy, Several) else (dy,)
    dx = TWINS[type(layer)].backward(layer, *args)
    return own_backward(dy, layer) if dx is NotImplemented else dx
