"""Networks, each a list of layers on one screen."""

from tinynet.models.alexnet import PRESETS, alexnet
from tinynet.models.alexnet_mini import alexnet_mini

__all__ = ["PRESETS", "alexnet", "alexnet_mini"]
