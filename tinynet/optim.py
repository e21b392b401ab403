"""Stochastic gradient descent with momentum, as the paper has it, and its learning-rate schedules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinynet.device import assign, cpu_copy, to_cpu, to_device, zeros_like
from tinynet.layers.base import Parameter
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
        for device in dict.fromkeys(places):  # each updates what it holds
            here = [i for i, place in enumerate(places) if place == device]
            sgd_steps(
                [self._parts[i][1].data for i in here],
                [self.velocity[i] for i in here],
                [self._parts[i][1].grad for i in here],
                self.momentum,
                [rates[i] for i in here],
                [decays[i] for i in here],
                self.bad.get(device),
            )

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


class StepLR:
    """lr ← gamma * lr every `step_size` epochs; call step() after each epoch."""

    def __init__(self, optimizer: SGD, step_size: int, gamma: float = 0.1):
        if step_size < 1 or not 0 < gamma <= 1:
            raise ValueError(f"StepLR: expected step_size >= 1 and 0 < gamma <= 1, got {step_size} and {gamma}")
        self.optimizer, self.step_size, self.gamma = optimizer, step_size, gamma
        self.epoch = 0

    def step(self, val_error: float | None = None) -> None:
        """An epoch is over. `val_error` is not used: every schedule can be called alike."""
        self.epoch += 1
        if self.epoch % self.step_size == 0:
            self.optimizer.lr *= self.gamma

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; JSON can hold it. The learning rate itself is the optimiser's."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`. Raises KeyError for the state of another schedule."""
        self.epoch = state["epoch"]


class MultiStepLR:
    """lr ← gamma * lr after each of the epochs in `milestones`, counted from 1; call step() after each epoch."""

    def __init__(self, optimizer: SGD, milestones: Sequence[int], gamma: float = 0.1):
        if any(milestone < 1 for milestone in milestones) or not 0 < gamma <= 1:
            raise ValueError(
                f"MultiStepLR: expected milestones of at least 1 and 0 < gamma <= 1, got {milestones} and {gamma}"
            )
        self.optimizer, self.milestones, self.gamma = optimizer, sorted(milestones), gamma
        self.epoch = 0

    def step(self, val_error: float | None = None) -> None:
        """An epoch is over. `val_error` is not used: every schedule can be called alike."""
        self.epoch += 1
        self.optimizer.lr *= self.gamma ** self.milestones.count(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; JSON can hold it. The learning rate itself is the optimiser's."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`. Raises KeyError for the state of another schedule."""
        self.epoch = state["epoch"]


class ReduceLROnPlateau:
    """The paper's schedule: lr ← factor * lr each time the validation error stops improving, at most max_drops times.

    "Stops improving": for more than `patience` epochs in a row no error was below the best so far by more than
    `threshold` (a fraction: 0.001 is a tenth of a per cent). Section 5 divides by 10 and did so three times.
    """

    def __init__(
        self, optimizer: SGD, factor: float = 0.1, patience: int = 3, threshold: float = 1e-3, max_drops: int = 3
    ):
        if not 0 < factor < 1 or patience < 0 or threshold < 0 or max_drops < 0:
            raise ValueError(
                "ReduceLROnPlateau: expected 0 < factor < 1 and patience, threshold, max_drops >= 0; got "
                f"{factor}, {patience}, {threshold}, {max_drops}"
            )
        self.optimizer, self.factor, self.patience = optimizer, factor, patience
        self.threshold, self.max_drops = threshold, max_drops
        self.best: float | None = None
        self.bad_epochs = self.drops = 0

    def step(self, val_error: float) -> None:
        """An epoch is over, with this validation error (a fraction). Raises ValueError if it is NaN."""
        if val_error != val_error:
            raise ValueError("ReduceLROnPlateau: expected a validation error, got NaN")
        if self.best is None or val_error < self.best - self.threshold:
            self.best, self.bad_epochs = val_error, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.patience and self.drops < self.max_drops:
            self.optimizer.lr *= self.factor
            self.drops, self.bad_epochs = self.drops + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; JSON can hold it. The learning rate itself is the optimiser's."""
        return {"best": self.best, "bad_epochs": self.bad_epochs, "drops": self.drops}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`. Raises KeyError for the state of another schedule."""
        self.best, self.bad_epochs, self.drops = state["best"], state["bad_epochs"], state["drops"]
