"""What does it cost, or gain, to split the paper's net in two towers: on one GPU, and on two?"""

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import gpu_nets
import worker

from tinynet import models
from tinynet.backend import device

Row = dict[str, Any]
ROUNDS, STEPS = 5, 5  # timings of each, steps in one of them


def can_split() -> bool:
    """Whether this tinynet's alexnet takes `devices`."""
    return "devices" in inspect.signature(models.alexnet).parameters


def wait(places: Sequence[str]) -> None:
    """Until these GPUs have done everything."""
    for place in sorted(set(places)):
        with device.on(place):
            device.cupy().cuda.runtime.deviceSynchronize()


def step_on(places: Sequence[str], x: Any, classes: int) -> Callable[[], None]:
    """A training step of the paper's net: whole on one place, or in towers, x on the first of them."""
    split = {"devices": tuple(places)} if len(places) > 1 else {}
    model: Any = models.alexnet("paper", num_classes=classes, **split)  # type: ignore[arg-type]
    model = model if split else model.to(places[0])
    return gpu_nets.step(model, device.to_device(x, places[0]), worker.labels_of(len(x)))


def compare(batch_size: int, choices: Sequence[Sequence[str]], size: int = 227, classes: int = 1000) -> list[Row]:
    """A row for each choice of places, the first of them one GPU alone: seconds of a step by the host's clock, all
    devices waited for, and that GPU's time divided by it."""
    x = gpu_nets.numbers((batch_size, 3, size, size), 64.0)
    steps = {",".join(places): (step_on(places, x, classes), places) for places in choices}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(1 + ROUNDS):
        for name, (step, places) in steps.items():
            wait(places)
            began = time.perf_counter()
            for _ in range(STEPS):
                step()
            wait(places)
            if number:  # the first round compiles
                times[name].append((time.perf_counter() - began) / STEPS)
    medians = {name: sorted(each)[len(each) // 2] for name, each in times.items()}
    one = medians[",".join(choices[0])]
    return [
        {"devices": name, "batch_size": batch_size, "s": median, "speed_up": one / median}
        for name, median in medians.items()
    ]
