"""Learning-rate schedules: what becomes of an optimiser's lr after each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinynet.optim.sgd import SGD


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
