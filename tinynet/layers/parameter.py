"""Parameter: an array that is learnt, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinynet.backend.device import as_type, assign, on
from tinynet.checks import FLOATS, device_of


class Parameter:
    """An array that is learnt: `.data`, and `.grad` of the same shape, to which every backward adds.

    `zero_grad` only notes that the gradient is zero; memory is written when `.grad` is next read, or by the next
    backward. So take `.grad` afresh after a zero_grad instead of keeping the array.

    `data` is an array; or None with a `shape` and a `draw`, a function that gives the initial values when they are
    first needed. By then a Sequential has given the layer its name, by which they are drawn. `lr_mult` and
    `weight_decay_mult` multiply the optimiser's learning rate and weight decay for this parameter.
    """

    def __init__(
        self,
        data: np.ndarray | None,
        lr_mult: float = 1.0,
        weight_decay_mult: float = 1.0,
        *,
        shape: tuple[int, ...] = (),
        draw: Callable[[], np.ndarray] | None = None,
    ):
        if data is not None and (not isinstance(data, np.ndarray) or data.dtype not in FLOATS):
            got = getattr(data, "dtype", type(data).__name__)
            raise TypeError(f"Parameter: expected a NumPy array of float32 or float64, got {got}")
        self._data, self._draw = data, draw
        self._grad = np.zeros(shape, np.float32) if data is None else np.zeros_like(data)
        self._grad_is_zero = False  # True: by a zero_grad, whatever the array still holds
        self.lr_mult = lr_mult
        self.weight_decay_mult = weight_decay_mult

    @property
    def data(self) -> np.ndarray:
        if self._data is None:
            if self._draw is None:
                raise ValueError("Parameter: expected data, or a shape and a draw; got neither")
            self._data = self._draw()
        return self._data

    @data.setter
    def data(self, data: np.ndarray) -> None:
        self._data = data

    @property
    def grad(self) -> np.ndarray:
        if self._grad_is_zero:
            with on(self.device):
                self._grad.fill(0)
            self._grad_is_zero = False
        return self._grad

    @grad.setter
    def grad(self, grad: np.ndarray) -> None:
        self._grad, self._grad_is_zero = grad, False

    def zero_grad(self) -> None:
        """Set the gradient to zero."""
        self._grad_is_zero = True

    def of_type(self, dtype: DTypeLike) -> np.ndarray:
        """data in this dtype: itself, or a copy."""
        return self.data.astype(dtype, copy=False)

    def add_to_grad(self, gradient: np.ndarray) -> None:
        """grad += gradient, on whichever device they are."""
        with on(self.device):
            self.grad += gradient

    def fresh_grad(self, dtype: DTypeLike) -> np.ndarray | None:
        """The array of grad for somebody who writes the whole of it, just after a zero_grad, if it has this dtype and
        is in C order; else None. It counts as written from now on."""
        if not (self._grad_is_zero and self._grad.dtype == dtype and self._grad.flags.c_contiguous):
            return None
        self._grad_is_zero = False
        return self._grad

    @property
    def shape(self) -> tuple[int, ...]:
        return self._grad.shape

    @property
    def size(self) -> int:
        return self._grad.size

    @property
    def dtype(self) -> np.dtype:
        return self._grad.dtype

    @property
    def device(self) -> str:
        """Where its arrays are: "cpu" or "cuda:K"."""
        return device_of(self._grad)

    def assign(self, values: np.ndarray) -> None:
        """Copy `values` into data, which keeps its dtype and its place."""
        assign(self.data, values.astype(self.dtype, copy=False))

    @property
    def parts(self) -> list[Parameter]:
        """Itself; of a split net's parameter the parts, each on its own device (`tinynet.parallel`)."""
        return [self]

    def join(self, arrays: list[Any]) -> Any:
        """One array of this parameter's shape out of one for each part."""
        return arrays[0]

    def cut(self, array: Any) -> list[Any]:
        """The reverse of `join`: views."""
        return [array]

    def astype(self, dtype: DTypeLike) -> None:
        """Convert data and grad in place."""
        self.data, self.grad = as_type(self.data, dtype), as_type(self.grad, dtype)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"
