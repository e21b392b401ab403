"""One layer a file: forward, and backward directly below it."""

from tinynet.layers.conv2d import Conv2d
from tinynet.layers.dropout import Dropout
from tinynet.layers.flatten import Flatten
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.lrn import LRN
from tinynet.layers.max_pool import MaxPool
from tinynet.layers.parameter import Parameter
from tinynet.layers.relu import ReLU
from tinynet.layers.sequential import Sequential
from tinynet.layers.windows import col2im, im2col

__all__ = [
    "LRN",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "Parameter",
    "ReLU",
    "Sequential",
    "col2im",
    "im2col",
]
