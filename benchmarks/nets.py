"""The nets that the benchmarks train, by name."""

from collections.abc import Callable
from typing import NamedTuple

from tinynet import models
from tinynet.layers import Flatten, Layer, Linear, Sequential


class Net(NamedTuple):
    """scale: the input's standard deviation; the paper's net takes raw pixels, and only with such is its LRN's term
    alpha * S not lost beside k."""

    build: Callable[[], Sequential]
    image_size: int
    scale: float


NETS = {
    "mini": Net(models.alexnet_mini, 32, 1.0),
    "paper": Net(lambda: models.alexnet("paper"), 227, 64.0),
    "torchvision": Net(lambda: models.alexnet("torchvision"), 224, 1.0),
}


def build(name: str, image_size: int | None = None) -> Sequential:
    """The net; or, with an image_size, its convolutional part and one Linear to 10 classes, made for that size."""
    net = NETS[name].build()
    if image_size is None:
        return net
    part: dict[str, Layer] = {}
    for layer in net:
        part[layer.name] = layer
        if isinstance(layer, Flatten):
            break
    features = Sequential(part).output_shape((1, 3, image_size, image_size))[1]
    return Sequential({**part, "fc": Linear(features, 10)})
