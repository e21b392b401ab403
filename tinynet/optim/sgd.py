"""Stochastic gradient descent with momentum, as the paper has it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

from tinynet.backend.device import assign, cpu_copy, device_of, on, to_cpu, to_device, zeros_like
from tinynet.errors import RunsPlainWarning
from tinynet.layers.parameter import Parameter
from tinynet.mode import is_plain
from tinynet.ops.elementwise import sgd_steps


class SGD:
    """v ← momentum * v - weight_decay * lr * w - lr * g;  w ← w + v  (Krizhevsky et al. 2012, section 5).

    g is the parameter's .grad: the mean over the batch, since the loss is. The learning rate stands inside the
    velocity, so a change of `lr` acts on new gradients only; PyTorch's SGD multiplies the whole velocity by it, and
    the two differ right after a change. Each parameter's own lr_mult and weight_decay_mult multiply lr and
    weight_decay. What is kept of a parameter is on the parameter's device; of a split net's, each part on its own.

    `lr` may be set at any time. So may `bad`, {GPU: flags of `tinynet.ops.softmax_ce.softmax_ce_wrong`}, that stop all
    updates there. Raises ValueError for a negative or non-finite setting or if there is no parameter.
    """

    _as_written: ClassVar[dict[str, Any]] = {}  # what `tinynet.fast.identity` looks at
    _told = False

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 5e-4
    ):
        self.parameters = list(parameters)
        strange = [type(parameter).__name__ for parameter in self.parameters if not isinstance(parameter, Parameter)]
        if strange:
            raise TypeError(f"SGD: expected parameters, such as model.parameters(), got {strange[0]}")
        if not self.parameters or len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ValueError("SGD: expected at least one parameter, and each once only")
        for name, value, bound in (("momentum", momentum, 1.0), ("weight_decay", weight_decay, float("inf"))):
            if not 0 <= value < bound:
                raise ValueError(f"SGD: expected 0 <= {name} < {bound}, got {value}")
        self.momentum, self.weight_decay = momentum, weight_decay
        self.lr = lr
        self.bad: Mapping[str, Any] = {}
        self._parts = [(parameter, part) for parameter in self.parameters for part in parameter.parts]
        self.velocity = [zeros_like(part.data) for _, part in self._parts]

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        if not 0 <= lr < float("inf"):
            raise ValueError(f"SGD: expected a finite lr >= 0, got {lr}")
        self._lr = lr

    def step(self) -> None:
        """One update of every parameter from its .grad."""
        places = [part.device for _, part in self._parts]
        for i, place in enumerate(places):  # the state follows a model that was moved
            self.velocity[i] = to_device(self.velocity[i], place)
        rates, decays = self.rates(), self.decays()
        many = self._update_each if self.runs_own_lines() else sgd_steps
        for device in dict.fromkeys(places):  # each updates what it holds
            here = [i for i, place in enumerate(places) if place == device]
            many(
                [self._parts[i][1].data for i in here],
                [self.velocity[i] for i in here],
                [self._parts[i][1].grad for i in here],
                self.momentum,
                [rates[i] for i in here],
                [decays[i] for i in here],
                self.bad.get(device),
            )

    def update(self, w: Any, v: Any, grad: Any, lr: float, decay: float) -> None:
        """Change the weights w and their velocity v in place; w, v, grad: of one shape.

        These lines run in plain mode, and always if this method was replaced. Otherwise `sgd_steps` does the same in
        one pass over memory.
        """
        v[...] = self.momentum * v - lr * (decay * w + grad)
        w += v

    def runs_own_lines(self) -> bool:
        """Whether the lines of `update` run: in plain mode, and where it is not what `sgd_steps` was written for."""
        if is_plain():
            return True
        from tinynet.fast import identity

        written = SGD._as_written["update"]
        changed = type(self).update is not written or "update" in vars(self) or identity.of(SGD).changed()
        if changed and not self._told:
            self._told = True
            text = "its update runs as it is written, for it is not what the fast one was written for"
            warnings.warn(f"{type(self).__name__}: {text}", RunsPlainWarning, stacklevel=3)
        return bool(changed)

    def _update_each(
        self,
        ws: Sequence[Any],
        vs: Sequence[Any],
        gradients: Sequence[Any],
        momentum: float,
        lrs: Sequence[float],
        decays: Sequence[float],
        bad: Any = None,
    ) -> None:
        """`sgd_steps` by `update`. On a GPU the host does not wait for the flags: the update is made, and taken back
        there if the first of them is set."""
        with on(device_of(ws[0])):
            for w, v, gradient, lr, decay in zip(ws, vs, gradients, lrs, decays, strict=True):
                before = () if bad is None else (w.copy(), v.copy())
                self.update(w, v, gradient, lr, decay)
                if bad is not None:
                    stopped = bad[0] != 0
                    for array, value in zip((w, v), before, strict=True):
                        np.copyto(array, value, where=stopped)
                    bad[1:2] |= ~stopped & ~np.isfinite(w).all()

    def rates(self) -> list[float]:
        """The learning rate of each array of weights."""
        return [self.lr * parameter.lr_mult for parameter, _ in self._parts]

    def decays(self) -> list[float]:
        """The weight decay of each array of weights."""
        return [self.weight_decay * parameter.weight_decay_mult for parameter, _ in self._parts]

    def zero_grad(self) -> None:
        """Set every gradient to zero; backward adds to what is there."""
        for parameter in self.parameters:
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """{"lr": float, "velocity": [a copy of each, in the parameters' order]}: what a resumed run needs."""
        return {"lr": self.lr, "velocity": [cpu_copy(v) for v in self.whole_velocity()]}

    def whole_velocity(self) -> list[np.ndarray]:
        """The velocity of each parameter as one array on the CPU."""
        velocity = iter(self.velocity)
        return [to_cpu(p.join([next(velocity) for _ in p.parts])) for p in self.parameters]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`. Raises ValueError if there are other velocities; nothing is loaded then."""
        new, own = [np.asarray(v) for v in state["velocity"]], self.whole_velocity()
        if [(v.shape, v.dtype) for v in new] != [(v.shape, v.dtype) for v in own]:
            raise ValueError(
                f"SGD: expected velocities of shapes {[v.shape for v in own]}, got {[v.shape for v in new]}: "
                "the state of another net's optimiser, or of another dtype?"
            )
        self.lr = state["lr"]
        parts = [part for parameter, values in zip(self.parameters, new, strict=True) for part in parameter.cut(values)]
        for v, values in zip(self.velocity, parts, strict=True):
            assign(v, values)


SGD._as_written = {name: value for name, value in vars(SGD).items() if isinstance(value, FunctionType)}
