"""A tower's part of a layer, and a parameter that lies in parts on several devices.

Every parameter is cut along its first axis: a convolution's kernels, a linear layer's rows, their biases.
"""

import copy
from typing import Any

import numpy as np

from tinynet.backend.device import to_cpu, to_device
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter

KEPT = {"_saved", "_kept"}  # by a layer, of what it computed


def part_of(layer: Any, t: int, T: int, reads_all: bool) -> Any:
    """Part t of T of `layer`: its share of the outputs, of all inputs if it `reads_all`, else of its own tower's.

    Raises ValueError for a layer that cannot be cut so.
    """
    part = copy.copy(layer)
    part.__dict__.pop("_saved", None)
    if type(layer) is Conv2d:
        part._kept = None  # of the whole kernels
    if T > 1:
        _cut_sizes(part, layer, t, T, reads_all)
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            rows = len(parameter.data) // T
            setattr(part, key, Parameter(parameter.data[t * rows : (t + 1) * rows].copy()))
    part._own = KEPT.union(key for key, value in vars(part).items() if value is not vars(layer)[key])
    return part


def follow(part: Any, layer: Any) -> None:
    """Let the part of a layer have all settings that the layer has now, but for what was cut, and for functions: a
    `forward` that was put in the place of the layer's own would compute with the layer, not with the part."""
    settings = ((key, value) for key, value in vars(layer).items() if not callable(value))
    vars(part).update((key, value) for key, value in settings if key not in part._own)


def _cut_sizes(part: Any, layer: Any, t: int, T: int, reads_all: bool) -> None:
    if type(layer) is Conv2d:
        _check(layer, reads_all == (layer.groups == 1) and layer.out_channels % T == 0, T, reads_all)
        _check(layer, reads_all or layer.groups % T == 0, T, reads_all)
        part.out_channels //= T
        if not reads_all:
            part.in_channels, part.groups = layer.in_channels // T, layer.groups // T
    elif type(layer) is Linear:
        _check(layer, reads_all and layer.out_features % T == 0, T, reads_all)
        part.out_features //= T
    elif type(layer) is LRN:
        _check(layer, not reads_all and layer.groups % T == 0, T, reads_all)
        part.groups //= T
    elif type(layer) is Dropout:
        _check(layer, not reads_all, T, reads_all)
        part.part = (t, T)
    else:
        _check(layer, not reads_all and type(layer) in (ReLU, MaxPool, Flatten), T, reads_all)


def _check(layer: Any, fits: bool, T: int, reads_all: bool) -> None:
    if not fits:
        where = "an Exchange before it" if reads_all else "no Exchange before it"
        raise ValueError(f"{layer}: expected a layer that can be cut into {T} towers with {where}, got {layer!r}")


class Parts(Parameter):
    """A whole net's parameter whose rows lie in parts, a tower's each on the tower's device.

    `.data` and `.grad` put the parts together in a copy on the CPU, which is read-only, for nothing would follow if it
    were changed; to set them copies into the parts. What is computed is computed with the parts.
    """

    def __init__(self, parts: list[Parameter], lr_mult: float = 1.0, weight_decay_mult: float = 1.0):
        self._parts, self.lr_mult, self.weight_decay_mult = parts, lr_mult, weight_decay_mult

    @property
    def parts(self) -> list[Parameter]:
        return self._parts

    @property
    def data(self) -> np.ndarray:
        return self._joined([part.data for part in self._parts])

    @data.setter
    def data(self, data: np.ndarray) -> None:
        self.assign(data)

    @property
    def grad(self) -> np.ndarray:
        return self._joined([part.grad for part in self._parts])

    @grad.setter
    def grad(self, grad: np.ndarray) -> None:
        for part, values in zip(self._parts, self.cut(grad), strict=True):
            part.grad = to_device(np.array(values), part.device)

    def assign(self, values: np.ndarray) -> None:
        for part, own in zip(self._parts, self.cut(values), strict=True):
            part.assign(own)

    def join(self, arrays: list[Any]) -> np.ndarray:
        return np.concatenate([to_cpu(array) for array in arrays])

    def cut(self, array: Any) -> list[Any]:
        return np.split(array, np.cumsum([len(part.data) for part in self._parts])[:-1])

    def _joined(self, arrays: list[Any]) -> np.ndarray:
        whole = self.join(arrays)
        whole.flags.writeable = False
        return whole

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad()

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self._parts), *self._parts[0].shape[1:])

    @property
    def size(self) -> int:
        return sum(part.size for part in self._parts)

    @property
    def dtype(self) -> np.dtype:
        return self._parts[0].dtype

    @property
    def device(self) -> str:
        return self._parts[0].device

    def astype(self, dtype: Any) -> None:
        for part in self._parts:
            part.astype(dtype)


def joined_copy(layer: Layer) -> Layer:
    """The same layer with parameters of its own, each in one array on the CPU."""
    own = copy.copy(layer)
    own.__dict__.pop("_saved", None)
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            data = np.array(parameter.data)
            setattr(own, key, Parameter(data, parameter.lr_mult, parameter.weight_decay_mult))
    return own
