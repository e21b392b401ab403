"""AlexNet: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012."""

import math
from collections.abc import Sequence
from typing import Any

from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential, init
from tinynet.models.towers import on_devices

TOWERS = (1, 2, 4, 8, 16, 32)  # what divides the layers' widths


def paper(num_classes: int, dropout: float, seed: int, towers: int = 2) -> Sequential:
    """The net of the paper's text: two towers, as groups=2 in conv2, conv4, conv5. Input (N, 3, 227, 227).

    227 and not the paper's 224: the original code rounds conv1's output up to 55 and reads three missing rows and
    columns as zero; a 227 crop without padding gives the same 55.
    """
    net = Sequential(
        {
            "conv1": Conv2d(3, 96, 11, stride=4),
            "relu1": ReLU(),
            "lrn1": LRN(size=5, alpha=1e-4, beta=0.75, k=2.0, groups=towers),
            "pool1": MaxPool(3, 2),
            "conv2": Conv2d(96, 256, 5, padding=2, groups=towers),
            "relu2": ReLU(),
            "lrn2": LRN(size=5, alpha=1e-4, beta=0.75, k=2.0, groups=towers),
            "pool2": MaxPool(3, 2),
            "conv3": Conv2d(256, 384, 3, padding=1),  # reads both towers
            "relu3": ReLU(),
            "conv4": Conv2d(384, 384, 3, padding=1, groups=towers),
            "relu4": ReLU(),
            "conv5": Conv2d(384, 256, 3, padding=1, groups=towers),
            "relu5": ReLU(),
            "pool5": MaxPool(3, 2),
            "flatten": Flatten(),
            "fc6": Linear(256 * 6 * 6, 4096),
            "relu6": ReLU(),
            "drop6": Dropout(dropout, seed),
            "fc7": Linear(4096, 4096),
            "relu7": ReLU(),
            "drop7": Dropout(dropout, seed),
            "fc8": Linear(4096, num_classes),
        }
    )
    for name, parameter in net.named_parameters():  # section 5
        if name.endswith("weight"):
            init.normal(parameter, 0.01, seed, name)
        elif name.removesuffix(".bias") in ("conv2", "conv4", "conv5", "fc6", "fc7"):
            init.constant(parameter, 1.0)  # gives the ReLUs positive inputs, so that learning starts at once
    return net


def torchvision(num_classes: int, dropout: float, seed: int) -> Sequential:
    """torchvision's `alexnet`: the single tower of "One weird trick" (Krizhevsky 2014). Input (N, 3, 224, 224).

    No groups, no LRN, padding 2 in conv1, dropout before fc6 and fc7; initial values PyTorch's. torchvision's adaptive
    average pooling before fc6 changes nothing at 224 and is left out.
    """
    net = Sequential(
        {
            "conv1": Conv2d(3, 64, 11, stride=4, padding=2),
            "relu1": ReLU(),
            "pool1": MaxPool(3, 2),
            "conv2": Conv2d(64, 192, 5, padding=2),
            "relu2": ReLU(),
            "pool2": MaxPool(3, 2),
            "conv3": Conv2d(192, 384, 3, padding=1),
            "relu3": ReLU(),
            "conv4": Conv2d(384, 256, 3, padding=1),
            "relu4": ReLU(),
            "conv5": Conv2d(256, 256, 3, padding=1),
            "relu5": ReLU(),
            "pool5": MaxPool(3, 2),
            "flatten": Flatten(),
            "drop6": Dropout(dropout, seed),
            "fc6": Linear(256 * 6 * 6, 4096),
            "relu6": ReLU(),
            "drop7": Dropout(dropout, seed),
            "fc7": Linear(4096, 4096),
            "relu7": ReLU(),
            "fc8": Linear(4096, num_classes),
        }
    )
    bound = 0.0
    for name, parameter in net.named_parameters():
        if name.endswith("weight"):
            bound = 1 / math.sqrt(init.fan_in(parameter))
        init.uniform(parameter, bound, seed, name)  # a bias takes the bound of the weight before it
    return net


PRESETS = {"paper": paper, "torchvision": torchvision}


def alexnet(
    preset: str = "paper",
    num_classes: int = 1000,
    dropout: float = 0.5,
    seed: int = 0,
    *,
    towers: int | None = None,
    devices: Sequence[str] | None = None,
) -> Any:
    """The eight-layer net: preset "paper" (60,965,224 parameters at 1000 classes) or "torchvision" (61,100,840).

    seed decides the initial values and the dropout masks. Input: raw 0-255 RGB minus the mean picture for "paper"
    (section 2), values of about unit variance for "torchvision".

    devices: ("cuda:0",) for one GPU; as many as there are towers, ("cuda:0", "cuda:1") or ("cpu", "cpu"), for the same
    net split over them (a Split, see `tinynet.models.towers`; else it is a Sequential). The paper's net has two towers,
    or another number on request.

    Raises ValueError for an unknown preset or an impossible number of towers or devices, DeviceError for a GPU that
    cannot be used.
    """
    if preset not in PRESETS:
        raise ValueError(f"alexnet: expected a preset out of {', '.join(PRESETS)}; got {preset!r}")
    if preset == "torchvision" and towers in (None, 1):
        return on_devices(torchvision(num_classes, dropout, seed), 1, devices)
    towers = 2 if towers is None else towers
    if preset == "torchvision" or towers not in TOWERS:
        possible = "1" if preset == "torchvision" else ", ".join(map(str, TOWERS))
        raise ValueError(f"alexnet: expected for {preset!r} a number of towers out of {possible}; got {towers!r}")
    return on_devices(paper(num_classes, dropout, seed, towers), towers, devices)
