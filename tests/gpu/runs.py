"""Small training runs on a simulated GPU, whose records and weights can be compared to the bit."""

import functools

import numpy as np
from cuda_on_cpu.fake_cupy import FakeCupy
from strategies import numbers

from tinynet import optim
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.parallel import EachTower, Exchange, FirstTower, Split
from tinynet.training.trainer import Trainer

SIZES = 4, 4, 4, 3  # of an epoch's batches: the last one is smaller
CLOCKS = "images_per_second", "seconds", "provenance"


class Batches:
    """A loader; at(epoch, batch, x) is called before each batch, and may look at the run, or change x."""

    def __init__(self, at=lambda epoch, k, x: None, seed=0, sizes=SIZES):
        self.at, self.seed, self.sizes = at, seed, sizes

    def __len__(self):
        return len(self.sizes)

    def epoch(self, number, start=0):
        for k in range(start, len(self.sizes)):
            x = numbers((self.sizes[k], 2, 7, 7), np.float32, seed=100 * self.seed + 10 * number + k)
            self.at(number, k, x)
            yield x, (np.arange(len(x)) + k) % 3


def counted(gpu, name):
    """A counter or switch of the simulated GPU; None of a real one, which has none."""
    return getattr(gpu, name) if isinstance(gpu, FakeCupy) else None


def net():
    return Sequential(
        {
            **{"conv": Conv2d(2, 6, 3, padding=1, groups=2), "relu": ReLU(), "lrn": LRN(), "pool": MaxPool(3, 2)},
            **{"flat": Flatten(), "drop": Dropout(0.4), "fc1": Linear(54, 8), "relu1": ReLU(), "drop1": Dropout(0.3)},
            "fc2": Linear(8, 3),
        }
    )


def split(devices):
    """A net of the same kind, in two towers."""
    return Split(
        Sequential(
            {
                **{"conv": Conv2d(2, 6, 3, padding=1), "relu": ReLU(), "lrn": LRN(groups=2), "pool": MaxPool(3, 2)},
                **{"flat": Flatten(), "drop": Dropout(0.4), "fc1": Linear(54, 8), "relu1": ReLU()},
                **{"drop1": Dropout(0.3), "fc2": Linear(8, 3)},
            }
        ),
        devices,
        EachTower("conv", "relu", "lrn", "pool", "flat", "drop"),
        Exchange(),
        EachTower("fc1", "relu1", "drop1"),
        Exchange(),
        FirstTower("fc2"),
    )


def trainer(device="cuda:0", epochs=2, at=None, model=None, sizes=SIZES, **options):
    """device: None for a model that stays where it is."""
    model = net() if model is None else model
    if device is not None:
        model.to(device)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    for parameter in list(model.parameters())[1::2]:
        parameter.lr_mult = 2.0
    schedule = optim.MultiStepLR(optimizer, [1], 0.3)
    loader = Batches(at or (lambda epoch, k, x: None), sizes=sizes)
    return Trainer(
        model, optimizer, loader, Batches(seed=1, sizes=(5,)), epochs=epochs, schedule=schedule, quiet=True, **options
    )


def outcome(run):
    """What a run's fit() found: all records, but for the clock's and the date, and the weights."""
    run.fit()
    records = [{key: value for key, value in record.items() if key not in CLOCKS} for record in run.records]
    return records, {name: value.tobytes() for name, value in run.model.state_dict().items()}


@functools.cache
def expected():
    """The outcome of the plain run, without a graph, on a GPU that is never busy."""
    return outcome(trainer())
