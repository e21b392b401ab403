"""Networks, each a list of layers on one screen."""

from tinynet.models.alexnet import alexnet
from tinynet.models.alexnet_mini import alexnet_mini

__all__ = ["alexnet", "alexnet_mini"]
