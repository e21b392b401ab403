"""A small net of AlexNet's kind, with as many towers as wanted, whole or split; and one step of training."""

import numpy as np
from strategies import numbers

from tinynet.device import to_cpu
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential, SoftmaxCE
from tinynet.models.towers import on_devices
from tinynet.optim import SGD
from tinynet.train import Trainer

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


def relative(got, expected):
    """The largest difference, relative to the largest number."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


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
