"""What a layer has to do at the least, and what this GPU can do at the most: the floor that a time is compared with.

Operations: two for each multiply-accumulate of a product with weights; backward has two such products, for dx and for
the weights' gradient, or one where nobody reads dx. Bytes: each array that is needed read once, each result written
once. A layer's floor is the longer of operations / rate and bytes / bandwidth; a step's floor is the sum, with what can
go in one pass over memory taken as one pass: ReLU with its neighbours, and LRN with the pooling behind it.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from tinynet.layers import LRN, Conv2d, Flatten, Layer, Linear, MaxPool, ReLU, Sequential

Ceilings = dict[str, float]  # "bandwidth": bytes/s, and operations/s of "fp32", "tf32", "bf16", those that are known
SGD_ARRAYS = 5  # reads weight, velocity and gradient, writes weight and velocity
ITEMSIZE = {"bf16": 2}  # bytes of an activation and of a weight as it is read; 4 in all else


class Work(NamedTuple):
    layer: str
    direction: str
    flops: int
    bytes: int


def floor(work: Work, ceilings: Ceilings, precision: str) -> float | None:
    """Seconds that `work` takes at the least; None if a ceiling that it needs was not measured."""
    key, share = ("tf32", 3) if precision == "tf32x3" else (precision, 1)  # three products for one
    if "bandwidth" not in ceilings or (work.flops and key not in ceilings):
        return None
    products = work.flops * share / ceilings[key] if work.flops else 0.0
    return max(products, work.bytes / ceilings["bandwidth"])


def layer_work(layer: Layer, shape: tuple[int, ...], precision: str = "fp32") -> tuple[Work, Work]:
    """(forward, backward) of one layer alone, for an x of `shape`."""
    size = ITEMSIZE.get(precision, 4)
    X, Y, flops = math.prod(shape), math.prod(layer.output_shape(shape)), 2 * layer.macs(shape)
    if isinstance(layer, Flatten):
        X = Y = 0  # a view
    if isinstance(layer, Conv2d | Linear):
        P, dx = sum(parameter.size for parameter in layer.parameters()), X if layer.input_grad else 0
        forward = Work(layer.name, "forward", flops, (X + Y + P) * size)
        both = 2 if layer.input_grad else 1
        return forward, Work(layer.name, "backward", both * flops, (X + Y + dx + P * layer.input_grad) * size + 4 * P)
    forward = Work(layer.name, "forward", 0, (X + Y) * size)
    needs_x = isinstance(layer, ReLU | LRN)  # beside dy; a mask and the places of maxima are small
    return forward, Work(layer.name, "backward", 0, (X + Y + X * needs_x) * size)


def step_work(net: Sequential, shape: tuple[int, ...], precision: str = "fp32") -> Iterator[Work]:
    """Of a whole training step, passes joined as far as they can be; then the update of all parameters."""
    layers = list(net)
    for layer, follower in zip(layers, [*layers[1:], None], strict=True):
        forward, backward = layer_work(layer, shape, precision)
        if isinstance(layer, LRN) and isinstance(follower, MaxPool):  # its y and dy never reach memory
            read = math.prod(shape) * ITEMSIZE.get(precision, 4)
            forward, backward = forward._replace(bytes=0), backward._replace(bytes=read)
        if not isinstance(layer, ReLU):
            yield from (forward, backward)
        shape = layer.output_shape(shape)
    parameters = sum(parameter.size for parameter in net.parameters())
    yield Work("SGD", "step", 0, SGD_ARRAYS * 4 * parameters)


def step_floor(net: Sequential, shape: tuple[int, ...], ceilings: Ceilings, precision: str) -> float | None:
    """Seconds of a whole training step at the least; None if a ceiling was not measured."""
    times = [floor(work, ceilings, precision) for work in step_work(net, shape, precision)]
    return None if None in times else sum(time for time in times if time is not None)
