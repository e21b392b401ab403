"""The files that a training run writes, and reads again when it is resumed."""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinynet.backend.device import to_cpu
from tinynet.io.checkpoints import FOLDER, WEIGHTS, Checkpoint, Checkpoints, save_weights
from tinynet.io.files import JsonLines, atomic_write
from tinynet.layers.layer import Layer
from tinynet.optim import SGD
from tinynet.parallel import Split

LOG, CONFIG = "log.jsonl", "config.json"
NUMBER = (int, float)
# what the state of a checkpoint holds; a file that someone made up may hold anything
STATE: dict[str, type | tuple[type, ...]] = {
    **{"epoch": int, "batch": int, "step": int, "epochs": int, "threads": int, "lr": NUMBER},
    **{"seconds": NUMBER, "epoch_seconds": NUMBER},
    **{"tally": list, "recent": list, "log": list, "settings": dict, "config": dict, "metadata": dict},
    "schedule": (dict, type(None)),
}


class RunFolder:
    """log.jsonl, config.json, weights.safetensors and checkpoints/ in `folder`; with None nothing is written.

    Whoever opened the log owns the folder: nothing is written into it before, so that a run that is refused, because
    another one is in there, leaves all as it was.
    """

    def __init__(self, folder: str | os.PathLike | None, keep: int):
        self.folder = None if folder is None else Path(folder)
        self.checkpoints = Checkpoints(os.devnull if self.folder is None else self.folder / FOLDER, keep)
        self._log: JsonLines | None = None
        self._saved_at = time.perf_counter()

    def open(self, config: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> list[dict[str, Any]]:
        """Begin a new log, and put `config` into config.json; or go on with the log there, of which the lines up to the
        checkpoint are kept and returned.

        Checkpoints that are newer are set aside. Raises as `JsonLines` and `atomic_write` do, ValueError to resume
        without a folder.
        """
        self._saved_at = time.perf_counter()
        if self.folder is None:
            if checkpoint is not None:
                raise ValueError("Trainer: expected `out`, the folder of the run that is resumed, got None")
            return []
        if checkpoint is None:
            self._begin(self.folder, config)
            return []
        size, crc = checkpoint.state["log"]
        self._log = JsonLines(self.folder / LOG, keep=(size, crc))
        try:  # in this order: whoever is killed in between finds no checkpoint that counts on lines that are gone
            self.checkpoints.set_aside(newer_than=checkpoint.state["step"])
            self._log.cut()
        except BaseException:
            self.close()
            raise
        return self._log.records

    def _begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        text = (json.dumps(config, indent=2, allow_nan=False) + "\n").encode()
        try:
            self._log = JsonLines(folder / LOG)
        except FileExistsError as error:
            expected = f"expected a folder without a run, got {folder}, which holds {LOG} of a run that began before"
            raise FileExistsError(
                error.errno, f"{expected}; nothing in it was changed; choose another folder"
            ) from error
        try:
            atomic_write(folder / CONFIG, text)
        except BaseException:  # no run began: the next one may have the folder
            self.close()
            with contextlib.suppress(OSError):
                (folder / LOG).unlink()
            raise

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
            tensors = {f"model.{name}": to_cpu(parameter.data) for name, parameter in model.named_parameters()}
            tensors |= {f"velocity.{i}": velocity for i, velocity in enumerate(optimizer.whole_velocity())}
            log = [self._log.size, self._log.crc]
            self.checkpoints.save({**state, "lr": optimizer.lr, "log": log}, tensors, best=best)
        self._saved_at = time.perf_counter()

    def minutes_since_checkpoint(self) -> float:
        return (time.perf_counter() - self._saved_at) / 60

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def settings(model: Layer, optimizer: SGD, schedule: Any, train_loader: Any) -> dict[str, Any]:
    """What decides the numbers of a run beside its state; JSON can hold it."""
    parts = {
        "net": repr(model.net if isinstance(model, Split) else model),  # a run may go on on other devices
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "lr_mult": [parameter.lr_mult for parameter in optimizer.parameters],
        "weight_decay_mult": [parameter.weight_decay_mult for parameter in optimizer.parameters],
        "batches": len(train_loader),
        "batch_size": getattr(train_loader, "batch_size", None),
        "loader's seed": getattr(train_loader, "seed", None),
        "schedule": None,
    }
    if schedule is not None:
        changing = schedule.state_dict()
        fixed = {key: value for key, value in vars(schedule).items() if key not in changing and key != "optimizer"}
        parts["schedule"] = [type(schedule).__name__, fixed]
    return json.loads(json.dumps(parts, default=str))


def restore(
    checkpoint: Checkpoint, own_settings: Mapping[str, Any], model: Layer, optimizer: SGD, schedule: Any
) -> None:
    """Put weights, velocity, learning rate and the schedule's counters back.

    Raises ValueError, before anything is changed, for a state that no run wrote or one of other settings, which are
    named; and for other shapes.
    """
    state = checkpoint.state
    sizes = {"tally": 3, "recent": 3, "log": 2}
    strange = [key for key, kind in STATE.items() if not isinstance(state.get(key), kind)]
    strange += [
        key
        for key, size in sizes.items()
        if key not in strange and (len(state[key]) != size or not all(isinstance(item, NUMBER) for item in state[key]))
    ]
    counts = ("epoch", "batch", "step", "seconds", "threads")
    if strange or min(state[key] for key in counts) < 0 or not isinstance(state["log"][0], int) or state["log"][0] < 1:
        raise ValueError(f"{checkpoint.path}: expected the state of a run, got one whose {strange or 'counts'} are odd")
    for key, own in own_settings.items():
        if (then := state["settings"].get(key)) != own:
            was, now = _first_difference(then, own)
            raise ValueError(
                f"{checkpoint.path}: expected the run's {key}, {was}, got {now}; resume with the same net, optimiser, "
                "schedule and loader"
            )
    velocity = checkpoint.part("velocity")
    try:
        model.load_state_dict(checkpoint.part("model"))
        velocities = [velocity[str(i)] for i in range(len(velocity))]
        optimizer.load_state_dict({"lr": state["lr"], "velocity": velocities})
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
    except (KeyError, TypeError, ValueError) as error:
        text = "expected a checkpoint of this net, optimiser and schedule, got another's"
        raise ValueError(f"{checkpoint.path}: {text}: {error}") from error


def _first_difference(then: Any, now: Any) -> tuple[str, str]:
    """The two as text, of long ones the first line or item that differs."""
    if isinstance(then, str) and isinstance(now, str):
        then, now = then.splitlines(), now.splitlines()
    if isinstance(then, list) and isinstance(now, list):
        for one, other in itertools.zip_longest(then, now, fillvalue="nothing"):
            if one != other:
                return repr(one).strip("' "), repr(other).strip("' ")
    return repr(then), repr(now)
