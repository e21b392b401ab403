"""tinynet: a from-scratch deep learning library with hand-written backprop."""

from tinynet import checkpoint, data, init, layers, models, optim, random
from tinynet.gradcheck import gradcheck
from tinynet.ops.parallel import get_num_threads, set_num_threads
from tinynet.summary import summary

__version__ = "0.1.0"
__all__ = [
    "checkpoint",
    "data",
    "get_num_threads",
    "gradcheck",
    "init",
    "layers",
    "models",
    "optim",
    "random",
    "set_num_threads",
    "summary",
]
