"""Layer: what every layer has, so that a layer's own file holds only its mathematics."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from tinynet.backend.device import checked_device, cpu_copy, cupy, to_device, zeros
from tinynet.backend.precision import checked_precision
from tinynet.checks import FLOATS, device_of, is_on_a_gpu
from tinynet.errors import BackwardBeforeForwardError, NonFiniteError
from tinynet.layers import passes
from tinynet.layers.parameter import Parameter

Size = int | str  # of one axis: a number that must match, or a letter for any
SETTINGS = {"algorithm": "auto", "precision": "fp32"}  # for the fast twins: repr shows what is not as here


class Layer:
    """One step of a network: y = forward(x), and dx = backward(dy), which also adds into each parameter's .grad.

    A new layer is a class with these two methods. Whatever Parameter or Layer it keeps as an attribute is found by
    `parameters`, `state_dict`, `train` and the others below; `__init__` need not be called.

    The methods are the lesson: who calls `layer.forward(x)` or `layer.backward(dy)` runs their lines. A net's passes,
    and `layer(x)`, may take a fast twin that gives the same numbers up to rounding (`tinynet.fast`), unless the layer
    is no longer what the twin was written for, or `tinynet.plain()` holds.
    """

    name = ""  # given by the Sequential that holds the layer: "conv1"
    training = True  # Dropout acts only then; see train() and eval()
    window: Any = None  # (kernel_size, stride, padding, dilation), four pairs, of a layer that slides a window
    preprocessing: Any = None  # of a run's net: what lies between a picture and x (`tinynet.load_run`)
    input_grad = True  # False: backward may return None, for the first layer of a net, whose dx nobody reads
    part = 0, 1  # (t, T): this is part t of T equal parts of a whole layer, cut along axis 1 (`tinynet.parallel`)
    algorithm = SETTINGS["algorithm"]  # of a convolution's fast twin: see `tinynet.fast.conv2d`
    _precision = SETTINGS["precision"]
    _as_written: ClassVar[dict[str, Any]] = {}  # the functions of a class's own statement, by name

    def __init_subclass__(cls, **options: Any) -> None:
        """Lets forward and backward run on the device of their arrays, and notes the class's functions as they are
        written, so that one put in their place later is noticed."""
        super().__init_subclass__(**options)
        for name in {"forward", "backward"} & vars(cls).keys():
            setattr(cls, name, _on_its_device(vars(cls)[name]))
        cls._as_written = {name: value for name, value in vars(cls).items() if callable(value)}

    def __setattr__(self, key: str, value: Any) -> None:
        parts = {f"{key}.{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {key: value}
        for name, part in parts.items():
            if isinstance(part, Layer) and not part.name:
                part.name = name
        super().__setattr__(key, value)

    def forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no forward: write forward(self, x), which returns y")

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        raise NotImplementedError(
            f"{type(self).__name__} has no backward: write backward(self, dy), which takes dL/dy, of y's shape, "
            "returns dx = dL/dx, of x's shape, and adds each parameter's gradient into its .grad"
        )

    def __call__(self, *args: Any) -> Any:
        return passes.forward(self, *args)

    def placed(self, x: np.ndarray) -> np.ndarray:
        """x on the device where this layer computes: itself, or a copy."""
        return to_device(x, self.device or "cpu")

    def whole(self) -> Any:
        """Itself; of a split net a copy on one device (`tinynet.parallel`)."""
        return self

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of y for an x of `shape`; ValueError if x would not fit. A layer that does not say is tried out."""
        return copy.deepcopy(self).eval()(zeros(shape, np.float32, self.device or "cpu")).shape

    def macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of one forward for an x of `shape`; only products with weights count."""
        return 0

    # what forward keeps for backward

    @property
    def saved(self) -> Any:
        """What forward kept for backward: one tuple. BackwardBeforeForwardError if read before any forward."""
        try:
            kept = self.__dict__["_saved"]
        except KeyError:
            self._check_not_in_parts()
            raise BackwardBeforeForwardError(f"{self}: backward came before forward; call forward(x) first") from None
        if isinstance(kept, Later):
            kept = self.__dict__["_saved"] = kept.make()
        return kept

    @saved.setter
    def saved(self, kept: Any) -> None:
        self.__dict__["_saved"] = kept

    # checks

    @property
    def xp(self) -> Any:
        """numpy, or cupy if the last x was on a GPU: what makes arrays beside it."""
        return np if self.__dict__.get("_where", "cpu") == "cpu" else cupy()

    def check_input(self, x: np.ndarray, shape: tuple[Size, ...] | None = None, finite: bool = True) -> None:
        """Raises TypeError unless x is a float32 or float64 array, ValueError unless it has the `shape`, in which a
        letter stands for any size, and NonFiniteError, unless finite=False, if it holds NaN or infinity. On a GPU an
        answer would make the host wait at every layer: NaN goes on to the loss, which the trainer looks at."""
        self.__dict__.pop("_saved", None)  # of an earlier forward: should this one fail, backward must not use it
        self._check_not_in_parts()
        self.__dict__["_where"] = self._check_array("x", x, shape)
        if finite:
            self.check_finite(x)

    def _check_not_in_parts(self) -> None:
        if "_in_parts" in self.__dict__:
            raise ValueError(
                f"{self}: expected a part of this layer, which computes in its tower, got the whole layer: a function "
                "in the place of one of its methods takes the part as its self, types.MethodType(function, layer); "
                "whole() of a split net is a copy on one device"
            )

    def check_finite(self, x: np.ndarray) -> None:
        """Raises NonFiniteError if x, which is on the CPU, holds NaN or infinity."""
        if isinstance(x, np.ndarray) and not np.isfinite(x).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
            raise NonFiniteError(str(self), f"expected finite numbers in x, got {x[index]} at index {index}")

    def check_dy(self, dy: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raises TypeError or ValueError unless dy is a float array of y's shape."""
        self._check_array("dy", dy, shape)

    def _check_array(self, what: str, array: np.ndarray, shape: tuple[Size, ...] | None) -> str:
        """The array's device."""
        try:
            where = device_of(array)
        except TypeError as error:
            raise TypeError(f"{self}: {what}: {error}") from None
        if (own := self.device) and own != where:
            raise ValueError(
                f"{self}: expected {what} on {own}, where the layer's parameters are, got one on {where}; "
                "tinynet.to_device moves arrays, model.to(device) a model"
            )
        if array.dtype not in FLOATS:
            raise TypeError(
                f"{self}: expected {what} of dtype float32 or float64, got {array.dtype}; use .astype(np.float32)"
            )
        self.check_shape(what, array.shape, shape)
        return where

    def check_shape(self, what: str, got: tuple[int, ...], expected: tuple[Size, ...] | None) -> None:
        """Raises ValueError unless `got` matches `expected` (None: any), has an axis and no axis of length 0."""
        if expected is None:
            fits = len(got) > 0
        else:
            fits = len(got) == len(expected) and all(
                isinstance(e, str) or e == g for e, g in zip(expected, got, strict=True)
            )
        if not fits:
            wanted = "of at least one axis" if expected is None else f"of shape ({', '.join(map(str, expected))})"
            raise ValueError(f"{self}: expected {what} {wanted}, got {got}")
        if 0 in got:
            raise ValueError(f"{self}: expected {what} with at least one element, got shape {got}")

    # the tree of layers and parameters

    def children(self) -> dict[str, Layer]:
        """The layers inside this one, by name."""
        return {key: value for key, value in self._parts() if isinstance(value, Layer)}

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of all attributes, and of the items of those that are lists or tuples: ("blocks.0", ...)."""
        for key, value in vars(self).items():
            if isinstance(value, (list, tuple)) and key != "_saved":
                yield from ((f"{key}.{i}", item) for i, item in enumerate(value))
            else:
                yield key, value

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """(dotted name, layer) for all layers inside, in order, and theirs."""
        for key, child in self.children().items():
            yield prefix + key, child
            yield from child.named_layers(f"{prefix}{key}.")

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), such as ("conv1.weight", ...), in order."""
        for key, value in self._parts():
            if isinstance(value, Parameter):
                yield prefix + key, value
        for key, child in self.children().items():
            yield from child.named_parameters(f"{prefix}{key}.")

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, in order."""
        return (parameter for _, parameter in self.named_parameters())

    def zero_grad(self) -> None:
        """Set every parameter's gradient to zero."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def train(self, mode: bool = True) -> Self:
        """Training mode for this layer and all inside: Dropout drops."""
        self.training = mode
        for child in self.children().values():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode: Dropout passes everything."""
        return self.train(False)

    def at_step(self, step: int) -> Self:
        """Let random layers draw what belongs to training step `step`: a resumed or repeated step draws the same."""
        for child in self.children().values():
            child.at_step(step)
        return self

    @property
    def precision(self) -> str:
        """ "fp32", "tf32x3", "tf32" or "bf16": of this layer's products on a GPU, see `tinynet.backend.precision`. The
        CPU computes in full precision. Raises ValueError for any other name."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = checked_precision(precision, str(self))

    def set_precision(self, precision: str) -> Self:
        """Let every layer inside that has a matrix of weights, as Conv2d and Linear do, compute in "fp32" (the
        default), "tf32x3", "tf32" or "bf16" when on a GPU: see `tinynet.backend.precision`.

        Raises ValueError for any other name.
        """
        checked_precision(precision, str(self))
        if any(isinstance(value, Parameter) and len(value.shape) > 1 for _, value in self._parts()):
            self.precision = precision
        for child in self.children().values():
            child.set_precision(precision)
        return self

    @property
    def device(self) -> str | None:
        """ "cpu" or "cuda:K", where this layer's own parameters, or else the first of those inside, are; None if there
        are none."""
        return next((parameter.device for parameter in self.parameters()), None)

    def to(self, device: str) -> Self:
        """Move all parameters to `device`: "cpu", "cuda" or "cuda:K". Arrays decide where a layer computes, so its
        input must be there too.

        Raises ValueError for any other name, DeviceError for a GPU that is not there, cannot be used or has no room.
        """
        device = checked_device(device)
        moved = [(p, to_device(p.data, device), to_device(p.grad, device)) for p in self.parameters()]
        for parameter, data, grad in moved:  # only now, so that an error leaves the model whole where it was
            parameter.data, parameter.grad = data, grad
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """Convert all parameters in place, to float64 for gradient checks or back."""
        for parameter in self.parameters():
            parameter.astype(dtype)
        return self

    # weights out and in

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter's data, by name, on the CPU."""
        return {name: cpu_copy(parameter.data) for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], strict: bool = True) -> None:
        """Copy `state` into the parameters of the same names, each keeping its own dtype.

        With strict=False, names that are missing here or there are passed over; a wrong shape is an error always.
        Raises KeyError for missing or unexpected names, ValueError for wrong shapes or dtypes; nothing is loaded then.
        """
        own = dict(self.named_parameters())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(f"{self}: state does not fit: missing {missing}, unexpected {unexpected}")
        common = own.keys() & state.keys()
        new = {key: np.asarray(state[key]) for key in sorted(common)}
        wrong = [
            f"{key}: expected {own[key].shape}, got {a.shape}" for key, a in new.items() if a.shape != own[key].shape
        ]
        strange = {key: a.dtype for key, a in new.items() if not np.can_cast(a.dtype, own[key].dtype, "same_kind")}
        wrong += [f"{key}: expected real numbers, got {dtype}" for key, dtype in strange.items()]
        if wrong:
            raise ValueError(f"{self}: state does not fit: {'; '.join(wrong)}")
        for key, array in new.items():
            own[key].assign(array)

    def __str__(self) -> str:
        kind = type(self).__name__
        return f"{kind} '{self.name}'" if self.name else kind

    def options(self) -> str:
        """The constructor's arguments, for repr()."""
        return ""

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in SETTINGS}
        more = [f"{name}={value!r}" for name, value in values.items() if value != SETTINGS[name]]
        return f"{type(self).__name__}({', '.join([self.options()] * bool(self.options()) + more)})"


def _on_its_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method itself; with arrays of a GPU, on that one, as CuPy wants it. backward() of a loss: on its x's."""

    @functools.wraps(method)
    def run(self: Layer, *args: Any, **options: Any) -> Any:
        given = *args, *options.values()
        if given and isinstance(given[0], np.ndarray):
            self.__dict__["_where"] = "cpu"
        elif self.__dict__.get("_where", "cpu") != "cpu" or any(map(is_on_a_gpu, given)):
            with passes.at_home(self, given):
                return method(self, *args, **options)
        return method(self, *args, **options)

    return run


class Later:
    """A `saved` that is made when it is first read: what a fast twin keeps where hardly anybody will ask for it."""

    def __init__(self, make: Callable[[], tuple[Any, ...]]):
        self.make = make
