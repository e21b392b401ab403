"""A small net of AlexNet's kind, with as many towers as wanted, whole or split; and one step of training."""

import numpy as np
from bounds import SIGMAS, UNIT, deviation, lrn_roundings
from fast_conv import Case, variances
from strategies import numbers

from tinynet.backend.device import to_cpu
from tinynet.fast.conv2d import path
from tinynet.inspect.features import activations
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.models.towers import on_devices
from tinynet.optim import SGD
from tinynet.training.trainer import Trainer

SHAPE = 5, 3, 25, 23
LABELS = np.array([0, 5, 3, 3, 1])
# the numbers that each layer reads, there and back, of one picture: maps of 3 x 3 and of 1 x 1, neurons
CROSSING = {"conv3": 2 * 16 * 3 * 3, "fc6": 2 * 16, "fc7": 2 * 24, "fc8": 2 * 16}


def small(devices=None, towers=2, dtype=np.float64, seed=0):
    net = Sequential(
        {
            "conv1": Conv2d(3, 8, 5, stride=2, seed=seed),
            "relu1": ReLU(),
            "lrn1": LRN(3, alpha=0.5, k=1.0, groups=towers),
            "pool1": MaxPool(3, 2, padding=1),
            "conv2": Conv2d(8, 16, 3, padding=1, groups=towers, seed=seed),
            "relu2": ReLU(),
            "lrn2": LRN(3, alpha=0.5, k=1.0, groups=towers),
            "pool2": MaxPool(3, 2, padding=1),
            "conv3": Conv2d(16, 24, 3, padding=1, seed=seed),
            "relu3": ReLU(),
            "conv4": Conv2d(24, 24, 3, padding=1, groups=towers, seed=seed),
            "relu4": ReLU(),
            "conv5": Conv2d(24, 16, 3, padding=1, groups=towers, seed=seed),
            "relu5": ReLU(),
            "pool5": MaxPool(3, 2),
            "flatten": Flatten(),
            "fc6": Linear(16, 24, seed=seed),
            "relu6": ReLU(),
            "drop6": Dropout(0.4, seed),
            "fc7": Linear(24, 16, seed=seed),
            "relu7": ReLU(),
            "drop7": Dropout(0.4, seed),
            "fc8": Linear(16, 7, seed=seed),
        }
    )
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.data += numbers(parameter.shape, np.float32, seed=len(name)) / 4
    return on_devices(net.astype(dtype), towers, devices)


def one_step(net, x, labels, lr=0.05, step=3):
    """{what: array} of one training step with dropout: logits, dx, gradients, updated parameters, velocities."""
    loss, optimizer = SoftmaxCE(), SGD(net.parameters(), lr, weight_decay=0.01)
    net.at_step(step)
    optimizer.zero_grad()
    logits = net(x)
    found = {"logits": to_cpu(logits), "loss": np.array(float(loss(logits, labels)))}
    if (dx := net.backward(loss.backward())) is not None:
        found["dx"] = to_cpu(dx)
    found |= {f"{name}.grad": np.array(parameter.grad) for name, parameter in net.named_parameters()}
    optimizer.step()
    found |= net.state_dict()
    return found | {f"velocity {i}": v for i, v in enumerate(optimizer.state_dict()["velocity"])}


def off_by(error, expected):
    """A copy with one wrong number, by so much of the largest."""
    wrong = np.array(expected)
    wrong.flat[wrong.size // 2] += error * np.abs(wrong).max()
    return wrong


def relative(got, expected):
    """The largest difference, relative to the largest number."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def rounding(net, shape, dtype=np.float64, logits=1.0):
    """(of the logits, of all that a training step computes): how far two orders of all sums may lie apart in a whole
    net, as `relative` measures it. logits: the largest.

    The errors of layers behind each other are independent, and keep their size beside the numbers on their way through
    other layers, where ReLU and pooling choose the same numbers (`margin`). So their variances are added up, twice for
    two nets. The loss's gradient is p - 1 or p: a logit's error is its relative error, twice, as p sums to one.
    """
    forward = backward = 0.0
    for layer in net:
        if isinstance(layer, Conv2d):
            N, C, H, W = shape
            case = Case(N, C // layer.groups, layer.out_channels // layer.groups, H, W, *layer.window, layer.groups)
            y, dx, dweight = variances(case, path(layer, shape) == "winograd")
        elif isinstance(layer, Linear):
            y, dx, dweight = (deviation(n) ** 2 for n in (*layer.weight.shape[::-1], shape[0]))
        elif isinstance(layer, LRN):
            y, dx, dweight = (*(lrn_roundings(layer.size, layer.beta, way) / 3 for way in (False, True)), 0)
        else:
            y = dx = dweight = 1 / 3
        forward, backward = forward + y, backward + dx + dweight
        shape = layer.output_shape(shape)
    once = SIGMAS * UNIT[np.dtype(dtype)] * np.sqrt(2 * forward)
    factor = max(1, 2 * float(np.abs(logits).max()))
    return once, once * np.sqrt(factor**2 + 1 + backward / forward)


def assert_alike(got, expected, forward, step, moved=0.0):
    """Two results of `one_step` lie no further apart than `rounding` says; `moved`: or so much more, behind choices
    that rounding decided."""
    assert got.keys() == expected.keys()
    for what, array in expected.items():
        assert got[what].shape == array.shape, what
        bound = forward if what in ("logits", "loss") else step + moved
        found = relative(got[what], array)
        assert found <= bound, f"{what}: expected a relative difference of at most {bound:.3g}, got {found:.3g}"


def margin(net, x, step=3):
    """The smallest distance to another choice of any ReLU or pooling of a whole net, relative to the largest number
    among which it chooses: rounding that is smaller changes no choice, and no gradient by more than itself."""
    least = np.inf
    net.at_step(step)
    for layer in net:
        if isinstance(layer, ReLU):
            least = min(least, np.abs(x).min() / np.abs(x).max())
        elif isinstance(layer, MaxPool):
            first, second = two_largest(layer, x)
            apart = (first - second)[first > 0]  # the others are all 0, as a ReLU made them, and stay so
            least = min(least, apart.min() / np.abs(x).max())
        x = layer.forward(x)
    return float(least)


def windows(layer, x):
    """What a pooling chooses from, (N, C, OH, OW, pixels)."""
    (KH, KW), (SH, SW), (PH, PW), _ = layer.window
    padded = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=-np.inf)
    seen = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), (2, 3))[:, :, ::SH, ::SW]
    return seen.reshape(*seen.shape[:4], KH * KW)


def choices_that_differ(whole, net, x):
    """How many ReLUs let another number through in one net than in the other, and poolings choose another pixel."""
    layers = [(name, layer) for name, layer in whole.named_layers() if isinstance(layer, (LRN, ReLU, MaxPool))]
    ours, theirs = (activations(each, x, [name for name, _ in layers]) for each in (whole, net))
    count = 0
    for (before, _), (name, layer) in zip([layers[-1], *layers], layers, strict=False):
        if isinstance(layer, ReLU):
            count += np.count_nonzero((ours[name] > 0) != (theirs[name] > 0))
        elif isinstance(layer, MaxPool):
            here, there = (windows(layer, found[before]).argmax(axis=-1) for found in (ours, theirs))
            count += np.count_nonzero(here != there)
    return count


def two_largest(layer, x):
    return np.moveaxis(np.sort(windows(layer, x), axis=-1)[..., :-3:-1], -1, 0)


class Batches:
    """Two batches an epoch, the same in each."""

    def __len__(self):
        return 2

    def epoch(self, number):
        return ((numbers(SHAPE, seed=seed), LABELS) for seed in range(2))


def trained(devices, epochs, folder, resume=False):
    """Weights and velocities after so many epochs of a run in `folder`, which goes on there on other `devices`."""
    net = small(devices)
    optimizer = SGD(net.parameters(), 0.02)
    trainer = Trainer(net, optimizer, Batches(), Batches(), epochs=epochs, out=folder, quiet=True)
    trainer.fit(resume=folder if resume else None)
    velocity = {f"velocity {i}": v for i, v in enumerate(optimizer.state_dict()["velocity"])}
    return net.state_dict() | velocity
