"""Small nets and steps that together launch every kernel which the library uses.

LAYERS compute what the CPU does, COARSE less exactly: tests/gpu/test_precision.py says how much less. Each is
name: (a function that makes the layer, shape of x).
"""

import numpy as np
from checks import using
from strategies import numbers

from tinynet import optim
from tinynet.backend.device import to_cpu, to_device, zeros
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.layers.passes import backward
from tinynet.losses import SoftmaxCE
from tinynet.ops.augment import crops
from tinynet.ops.softmax_ce import softmax_ce_wrong

PICTURES, FEW_CHANNELS = (4, 6, 7, 5), (4, 2, 7, 5)

LAYERS = {
    "conv": (lambda: Conv2d(6, 8, 3, padding=1), PICTURES),
    "conv, all options": (
        lambda: Conv2d(6, 8, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(1, 2), groups=2),
        PICTURES,
    ),
    "conv by im2col": (lambda: using(Conv2d(6, 4, 3, bias=False, groups=2), algorithm="im2col"), PICTURES),
    "conv, odd sizes": (lambda: Conv2d(3, 5, 5, stride=2, padding=2), (3, 3, 11, 10)),
    "conv in tf32x3": (lambda: using(Conv2d(6, 8, 3, padding=1), precision="tf32x3"), PICTURES),
    "relu": (ReLU, PICTURES),
    "lrn": (LRN, PICTURES),
    "lrn of 3 channels": (lambda: LRN(3, 0.1, 0.6, 1.0, groups=2), PICTURES),
    "pool": (lambda: MaxPool(3, 2), FEW_CHANNELS),
    "pool, all options": (lambda: MaxPool((2, 3), (2, 1), (1, 1), ceil_mode=True), FEW_CHANNELS),
    "pool of many places": (lambda: MaxPool(17, 1), (2, 1, 17, 19)),
    "dropout": (lambda: Dropout(0.4, seed=7), PICTURES),
    "dropout of rows": (lambda: Dropout(0.5), (5, 7)),
    "flatten": (Flatten, PICTURES),
    "linear": (lambda: Linear(7, 5), (4, 7)),
    "linear without bias": (lambda: Linear(7, 5, bias=False), (1, 7)),
    "net with large windows": (
        lambda: Sequential(Conv2d(1, 4, 2), ReLU(), LRN(3), MaxPool(17), Flatten(), Linear(4, 3)),
        (33, 1, 18, 18),
    ),
    # 33 pictures: from 32 on, ReLU, LRN and pooling are one pass
    "net with an LRN of 3 channels": (
        lambda: Sequential(Conv2d(2, 8, 3), ReLU(), LRN(3), MaxPool(3, 2), Flatten(), Linear(32, 3)),
        (33, 2, 7, 7),
    ),
    "net": (lambda: Sequential(Conv2d(2, 8, 3), ReLU(), LRN(), MaxPool(3, 2), Flatten(), Linear(32, 3)), (33, 2, 7, 7)),
}

COARSE = {
    f"conv in {precision}": (
        lambda precision=precision: using(Conv2d(6, 8, 3, padding=1), precision=precision),
        PICTURES,
    )
    for precision in ("tf32", "bf16")
}


def results(layer, x, dy, device):
    """y, dx and the gradients, all brought back to the CPU."""
    layer.to(device)
    layer.zero_grad()
    y = layer(to_device(x, device))
    dx = backward(layer, to_device(dy, device))
    return [to_cpu(array) for array in (y, dx, *(parameter.grad for parameter in layer.parameters()))]


def one_update(device, dtype=np.float32):
    """The loss, the wrong answers, and all parameters after a step of a net with a loss and an optimiser."""
    model, loss = Sequential(Flatten(), Linear(12, 5), ReLU(), Linear(5, 4)).astype(dtype), SoftmaxCE()
    optimizer = optim.SGD(model.to(device).parameters(), lr=0.1)
    optimizer.zero_grad()
    logits, flags = model(to_device(numbers((5, 3, 2, 2), dtype), device)), zeros((4,), np.int32, device)
    value = loss(logits, np.array([0, 3, 1, 1, 2]))
    softmax_ce_wrong(logits, loss.saved, value, flags[:1], flags[1:])
    model.backward(loss.backward())
    optimizer.bad = {device: flags[1:]}
    optimizer.step()
    return [np.array(float(value), dtype), to_cpu(flags).astype(dtype), *model.state_dict().values()]


def cropped(device):
    """x of some crops that hang over the edges of their pictures."""
    images, places = np.arange(3 * 2 * 6 * 5, dtype=np.uint8).reshape(3, 2, 6, 5), np.array([0, -2, 3, 1])
    scale = np.ones(2, np.float32), np.zeros((2, 4, 5), np.float32)
    args = np.array([2, 0, 1, 1]), places, places[::-1], places > 0, np.ones((4, 2)), (4, 5), *scale
    return to_cpu(crops(to_device(images, device), *args))
