from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential, init
from tinynet.models.towers import on_devices

# On input of unit variance S, the sum of five squares, is about 5 after He's initial values: alpha = 0.1 makes the
# term 1 + alpha * S about 1.5. The paper's 1e-4 suits its activations, which are in the hundreds; here it would be a
# constant.
ALPHA = 0.1


def alexnet_mini(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    dropout: float = 0.25,
    seed: int = 0,
    *,
    devices: Sequence[str] | None = None,
) -> Any:
    """AlexNet's eight layers for pictures of 28 to 64 pixels: two towers, LRN, overlapping pooling, dropout.

    Input (N, in_channels, image_size, image_size): pixels minus their mean, divided by their standard deviation, so of
    unit variance. conv1 has 5x5 kernels and stride 1, from 48 pixels on stride 2. Initial values: He's normal (He et
    al. 2015), a tenth of it in fc8, so that the first guesses are near 1/K and the loss starts at ln K; biases 0. With
    the paper's own values a net this small stays at chance for minutes, and so it does with the paper's dropout of 0.5:
    half of 256 neurons is too little to begin with. seed decides the initial values and the dropout masks.
    devices: as for `alexnet`; there are two towers.

    Raises ValueError if image_size is too small for three poolings or for a number of devices but one and two.
    """
    features = {
        "conv1": Conv2d(in_channels, 32, 5, stride=1 if image_size < 48 else 2, padding=2),
        "relu1": ReLU(),
        "lrn1": LRN(size=5, alpha=ALPHA, beta=0.75, k=1.0, groups=2),
        "pool1": MaxPool(3, 2),
        "conv2": Conv2d(32, 64, 5, padding=2, groups=2),
        "relu2": ReLU(),
        "lrn2": LRN(size=5, alpha=ALPHA, beta=0.75, k=1.0, groups=2),
        "pool2": MaxPool(3, 2),
        "conv3": Conv2d(64, 96, 3, padding=1),  # reads both towers
        "relu3": ReLU(),
        "conv4": Conv2d(96, 96, 3, padding=1, groups=2),
        "relu4": ReLU(),
        "conv5": Conv2d(96, 64, 3, padding=1, groups=2),
        "relu5": ReLU(),
        "pool5": MaxPool(3, 2),
        "flatten": Flatten(),
    }
    flat = Sequential(features).output_shape((1, in_channels, image_size, image_size))[1]
    classifier = {
        "fc6": Linear(flat, 256),
        "relu6": ReLU(),
        "drop6": Dropout(dropout, seed),
        "fc7": Linear(256, 256),
        "relu7": ReLU(),
        "drop7": Dropout(dropout, seed),
        "fc8": Linear(256, num_classes),
    }
    net = Sequential({**features, **classifier})
    for name, parameter in net.named_parameters():
        if name.endswith("weight"):
            init.he_normal(parameter, seed, name)
        if name == "fc8.weight":
            parameter.data *= np.float32(0.1)
    return on_devices(net, 2, devices)
