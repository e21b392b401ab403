"""The files that a training run writes, and reads again when it is resumed."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinynet.checkpoint import FOLDER, WEIGHTS, Checkpoint, Checkpoints, save_weights
from tinynet.files import JsonLines
from tinynet.layers.base import Layer
from tinynet.optim import SGD

LOG = "log.jsonl"


class RunFolder:
    """log.jsonl, weights.safetensors and checkpoints/ in `folder`; with None nothing is written."""

    def __init__(self, folder: str | os.PathLike | None, keep: int):
        self.folder = None if folder is None else Path(folder)
        self.checkpoints = Checkpoints(os.devnull if self.folder is None else self.folder / FOLDER, keep)
        self._log: JsonLines | None = None
        self._saved_at = time.perf_counter()

    def open(self, checkpoint: Checkpoint | None = None) -> list[dict[str, Any]]:
        """Begin a new log; or go on with the one there, of which the lines up to the checkpoint are kept and returned.

        Checkpoints that are newer are set aside. Raises as `JsonLines` does, ValueError to resume without a folder.
        """
        self._saved_at = time.perf_counter()
        if self.folder is None:
            if checkpoint is not None:
                raise ValueError("Trainer: expected `out`, the folder of the run that is resumed, got None")
            return []
        if checkpoint is None:
            self._log = JsonLines(self.folder / LOG)
            return []
        size, crc = checkpoint.state["log"]
        self._log = JsonLines(self.folder / LOG, keep=(size, crc))
        self.checkpoints.set_aside(newer_than=checkpoint.state["step"])
        return self._log.records

    def append(self, record: Mapping[str, Any]) -> None:
        """One line of the log."""
        if self._log is not None:
            self._log.append(record)

    def save_weights(self, model: Layer, metadata: Mapping[str, Any]) -> None:
        if self.folder is not None:
            save_weights(self.folder / WEIGHTS, model, metadata)

    def save_checkpoint(self, model: Layer, optimizer: SGD, state: Mapping[str, Any], best: bool = False) -> None:
        """The log is forced to the disk before: no checkpoint counts on lines that a pulled plug takes."""
        if self._log is not None:
            self._log.sync()
            tensors = {f"model.{name}": parameter.data for name, parameter in model.named_parameters()}
            tensors |= {f"velocity.{i}": velocity for i, velocity in enumerate(optimizer.velocity)}
            log = [self._log.size, self._log.crc]
            self.checkpoints.save({**state, "lr": optimizer.lr, "log": log}, tensors, best=best)
        self._saved_at = time.perf_counter()

    def minutes_since_checkpoint(self) -> float:
        return (time.perf_counter() - self._saved_at) / 60

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def restore(checkpoint: Checkpoint, model: Layer, optimizer: SGD, schedule: Any) -> None:
    """Put weights, velocity, learning rate and the schedule's counters back. Raises ValueError if they do not fit."""
    state, velocity = checkpoint.state, checkpoint.part("velocity")
    try:
        if (schedule is None) != (state["schedule"] is None):
            raise ValueError(f"expected schedule {state['schedule']}, got {schedule}")
        model.load_state_dict(checkpoint.part("model"))
        optimizer.load_state_dict({"lr": state["lr"], "velocity": [velocity[str(i)] for i in range(len(velocity))]})
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
    except (KeyError, TypeError, ValueError) as error:
        text = "expected a checkpoint of this net, optimiser and schedule, got another's"
        raise ValueError(f"{checkpoint.path}: {text}: {error}") from error
