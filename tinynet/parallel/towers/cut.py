"""A tower's part of a layer, and a parameter that lies in parts on several devices.

Every parameter is cut along its first axis: a convolution's kernels, a linear layer's rows, their biases.
"""

import copy
from types import MethodType
from typing import Any

import numpy as np

from tinynet.backend.device import to_cpu, to_device
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter

KEPT = {"_saved", "_kept", "_where", "_in_parts"}  # by a layer, of what it computed, and where


def part_of(layer: Any, t: int, T: int, reads_all: bool) -> Any:
    """Part t of T of `layer`: its share of the outputs, of all inputs if it `reads_all`, else of its own tower's.

    Raises ValueError for a layer that cannot be cut so.
    """
    part = copy.copy(layer)
    for kept in KEPT:
        vars(part).pop(kept, None)
    if T > 1:
        _cut_sizes(part, layer, t, T, reads_all)
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            known = key in ("weight", "bias") and isinstance(layer, Conv2d | Linear)
            _check(layer, T == 1 or known, T, reads_all)
            rows = len(parameter.data) // T
            setattr(part, key, Parameter(parameter.data[t * rows : (t + 1) * rows].copy()))
    own = {key for key, value in vars(part).items() if value is not vars(layer).get(key)}
    part._own, part._followed = KEPT | own | {"_own", "_followed"}, set()
    return part


def follow(part: Any, layer: Any) -> None:
    """Let the part of a layer have all settings that the layer has now, but for what was cut. A method that was put in
    the place of one of the layer's own is made one of the part."""
    now = {key: value for key, value in vars(layer).items() if key not in part._own}
    for key in part._followed - now.keys():  # it was taken away from the layer
        vars(part).pop(key, None)
    part._followed = set(now)
    for key, value in now.items():
        bound = isinstance(value, MethodType) and value.__self__ is layer
        vars(part)[key] = MethodType(value.__func__, part) if bound else value


def _cut_sizes(part: Any, layer: Any, t: int, T: int, reads_all: bool) -> None:
    if isinstance(layer, Conv2d):
        _check(layer, reads_all == (layer.groups == 1) and layer.out_channels % T == 0, T, reads_all)
        _check(layer, reads_all or layer.groups % T == 0, T, reads_all)
        part.out_channels //= T
        if not reads_all:
            part.in_channels, part.groups = layer.in_channels // T, layer.groups // T
    elif isinstance(layer, Linear):
        _check(layer, reads_all and layer.out_features % T == 0, T, reads_all)
        part.out_features //= T
    elif isinstance(layer, LRN):
        _check(layer, not reads_all and layer.groups % T == 0, T, reads_all)
        part.groups //= T
    else:
        _check(layer, not reads_all and isinstance(layer, (Dropout, ReLU, MaxPool, Flatten)), T, reads_all)
    part.part = t, T


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
    for kept in KEPT:
        vars(own).pop(kept, None)
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            data = np.array(parameter.data)
            setattr(own, key, Parameter(data, parameter.lr_mult, parameter.weight_decay_mult))
    return own
