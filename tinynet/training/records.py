"""What is kept of a training run: where it stands, its records, its checkpoints, and how it ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from tinynet.backend.threads import get_num_threads
from tinynet.errors import NonFiniteError, Terminated
from tinynet.io.checkpoints import Checkpoint
from tinynet.layers.layer import Layer
from tinynet.mode import is_plain
from tinynet.optim import SGD
from tinynet.training.diagnosis import explain_non_finite
from tinynet.training.evaluate import Evaluation
from tinynet.training.progress import say
from tinynet.training.provenance import PROVENANCE
from tinynet.training.run_folder import RunFolder, restore, settings

Record = dict[str, Any]


@dataclass
class Tally:
    """Sums over pictures, for their means; of no picture at all the means are 0."""

    loss_sum: float = 0.0
    wrong: int = 0
    seen: int = 0

    def add(self, loss: float, wrong: int, count: int) -> None:
        self.loss_sum, self.wrong, self.seen = self.loss_sum + loss * count, self.wrong + wrong, self.seen + count

    def means(self) -> Record:
        return {"train_loss": self.loss_sum / max(self.seen, 1), "train_error": self.wrong / max(self.seen, 1)}


class Run:
    """A training run as it is written down and taken up again. A `Trainer` is a run that learns.

    A line of the log is one record; `records` holds them too. Errors are fractions, losses in nats:

    start    epochs, parameters, and all of `config`, `provenance` among it
    step     epoch, step, lr, train_loss, train_error: after step 1 and every 50, means since the last such record
    epoch    epoch, step, lr, train_loss, train_error, val_loss, val_top1_error, val_top5_error,
             images_per_second (of training alone), seconds (since fit began, without pauses between resumed parts)
    warning  text: if after 300 steps the loss is still what guessing gives
    final    val_top1_error, val_top5_error, epochs, seconds: the last line of a finished run
    stopped  reason, epoch, step: the last line of a run that failed, whatever the error, or was interrupted

    `config`, which is in config.json and the checkpoints too, and `metadata` get the entry `provenance`: version,
    commit, date and command line of the run's beginning (`tinynet.training.provenance`), which a resumed run keeps.
    """

    def __init__(
        self,
        files: RunFolder,
        model: Layer,
        optimizer: SGD,
        schedule: Any,
        train_loader: Any,
        epochs: int,
        quiet: bool,
        callbacks: Iterable[Callable[[Any, Record], None]],
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ):
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.train_loader, self.epochs = train_loader, epochs
        self._files, self.out = files, files.folder
        self.quiet, self.callbacks = quiet, tuple(callbacks)
        self.config, self.metadata = dict(config or {}), dict(metadata or {})
        self.epoch = self.batch = self.step = 0  # done so far: epochs; batches of the one under way; steps in all
        self.records: list[Record] = []
        self._tally, self._recent = Tally(), Tally()  # of this epoch; since the last record of a step
        self._began = time.perf_counter()
        self._seconds_before = self._epoch_seconds = 0.0  # of the run's parts before this one; training in this epoch
        self._in_a_step = False  # True while what a checkpoint holds does not fit together
        self._num_classes = 0  # not known before a step

    # records

    def _record(self, event: str, **values: Any) -> Record:
        record = {"event": event, **values}
        self.records.append(record)
        self._files.append(record)
        return record

    def _record_start(self) -> None:
        parameters = sum(parameter.size for parameter in self.model.parameters())
        self._record("start", **{"epochs": self.epochs, "parameters": parameters, **self.config})

    def _record_epoch(self, lr: float, val: Evaluation) -> Record:
        """Of the epoch that is over; counts it, and the sums begin anew."""
        measured = {**self._tally.means(), **{f"val_{key}": value for key, value in val._asdict().items()}}
        measured |= {"images_per_second": self._tally.seen / self._epoch_seconds, "seconds": self._seconds()}
        self.epoch, self.batch, self._tally, self._epoch_seconds = self.epoch + 1, 0, Tally(), 0.0
        return self._record("epoch", epoch=self.epoch, step=self.step, lr=lr, **measured)

    def _record_final(self) -> Record:
        last = next(record for record in reversed(self.records) if record["event"] == "epoch")
        errors = {key: last[key] for key in ("val_top1_error", "val_top5_error")}
        return self._record("final", **errors, epochs=self.epoch, seconds=self._seconds())

    def _record_stop(self, reason: str) -> int:
        """The number, from 1, of the epoch that was under way."""
        epoch = min(self.epoch + 1, self.epochs)
        with contextlib.suppress(OSError):  # on a full disk the log takes no more; the error itself says more than this
            self._record("stopped", reason=reason, epoch=epoch, step=self.step)
        return epoch

    def _val_errors(self) -> list[float]:
        return [record["val_top1_error"] for record in self.records if record["event"] == "epoch"]

    def _warn(self, text: str | None) -> None:
        if text:
            self._record("warning", text=text)
            say(f"train: warning: {text}", error=True)

    def _call_back(self, record: Record) -> None:
        for callback in self.callbacks:
            callback(self, record)

    def _call_back_on_start(self) -> None:
        for callback in self.callbacks:
            if hasattr(callback, "on_start"):
                callback.on_start(self)

    def _call_back_on_step(self, record: Record) -> float:
        """How many seconds that took."""
        began = time.perf_counter()
        for callback in self.callbacks:
            if hasattr(callback, "on_step"):
                callback.on_step(self, record)
        return time.perf_counter() - began

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._began

    def _classes_shown(self) -> int:
        return self.config.get("num_classes", self._num_classes)  # a finished run, resumed, makes no step

    def _where(self) -> str:
        return f"epoch {self.epoch + 1}, after step {self.step}, at learning rate {self.optimizer.lr:g}"

    # checkpoints

    def _save_checkpoint(self, best: bool = False) -> None:
        """Whoever calls it has read the results of all steps that were begun."""
        state = {
            **{"epoch": self.epoch, "batch": self.batch, "step": self.step, "seconds": self._seconds()},
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "tally": astuple(self._tally),
            "recent": astuple(self._recent),
            "epochs": self.epochs,
            "epoch_seconds": self._epoch_seconds,
            "settings": settings(self.model, self.optimizer, self.schedule, self.train_loader),
            "threads": get_num_threads(),
            "plain": is_plain(),
            "config": self.config,
            "metadata": self._metadata(),
        }
        self._files.save_checkpoint(self.model, self.optimizer, state, best)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Be where the run was then. Raises ValueError for a checkpoint that does not fit it."""
        state = checkpoint.state
        own = settings(self.model, self.optimizer, self.schedule, self.train_loader)
        restore(checkpoint, own, self.model, self.optimizer, self.schedule)
        least = state["epoch"] + (state["batch"] > 0)
        if self.epochs < least:
            raise ValueError(
                f"{checkpoint.path}: expected epochs of at least {least}, where the run stands, got {self.epochs}"
            )
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self._tally, self._recent = Tally(*state["tally"]), Tally(*state["recent"])
        self._seconds_before, self._epoch_seconds, self.records = state["seconds"], state["epoch_seconds"], []
        self._note_provenance(state["config"].get(PROVENANCE))

    def _note_provenance(self, beginning: Mapping[str, Any] | None) -> None:
        """None: the run was begun by a version that did not note it."""
        for noted in (self.config, self.metadata):
            noted.pop(PROVENANCE, None)
            if isinstance(beginning, Mapping):
                noted[PROVENANCE] = dict(beginning)

    def _report_resumption(self, checkpoint: Checkpoint) -> None:
        where = self._where()
        if self.epoch == self.epochs:
            where = f"the end of epoch {self.epoch}, where it had finished"
        if not self.quiet:
            say(f"resumed in {where}, from {checkpoint.path}")
        for reason in checkpoint.passed_over:
            say(f"train: warning: a newer checkpoint was passed over: {reason}", error=True)
        threads = checkpoint.state["threads"], get_num_threads()
        differ = "its numbers will differ in their last digits from those of a run never stopped"
        if threads[0] != threads[1]:
            text = "the run had {} CPU threads and has {} now"
            say(f"train: warning: {text.format(*threads)}: {differ}", error=True)
        if bool(checkpoint.state.get("plain")) != is_plain():
            how = (
                "goes on in plain mode, which it was not in" if is_plain() else "was in plain mode and goes on without"
            )
            say(f"train: warning: the run {how}: {differ}", error=True)

    def _save_weights(self) -> None:
        self._files.save_weights(self.model, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, **self.metadata}

    # a run that was stopped

    def _explain(self, error: NonFiniteError) -> NonFiniteError:
        """The exception with when it came and what to try, which is recorded."""
        clear = explain_non_finite(self.model, error, self._where())
        self._record_stop(str(clear))
        return clear

    def _keep_everything(self, stop: KeyboardInterrupt | Terminated) -> KeyboardInterrupt | Terminated:
        """A checkpoint, unless a second signal came in the middle of a step; the exception with what can be done."""
        if self._in_a_step:
            kept = "; that step was not finished: the run can be resumed from the checkpoint before it"
        else:
            self._save_checkpoint()
            self._save_weights()
            self._call_back_on_step({"event": "stopped", "epoch": self.epoch, "step": self.step})
            kept = f"; everything is kept in {self.out}, from where the run can be resumed"
        how = "interrupted" if isinstance(stop, KeyboardInterrupt) else "terminated"
        text = f"{how} in epoch {self._record_stop(how)}, after step {self.step}{kept if self.out is not None else ''}"
        return KeyboardInterrupt(text) if isinstance(stop, KeyboardInterrupt) else Terminated(stop.signum, text)
