"""The training loop: steps, validation, a log, checkpoints, and a clear end when numbers go bad."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.checkpoint import Checkpoint, read_checkpoint
from tinynet.device import to_cpu
from tinynet.diagnosis import explain_non_finite, not_learning
from tinynet.errors import NonFiniteError, Terminated
from tinynet.evaluate import evaluate
from tinynet.layers.base import Layer
from tinynet.layers.softmax_ce import SoftmaxCE
from tinynet.ops.parallel import get_num_threads
from tinynet.optim import SGD
from tinynet.progress import BAR_NUMBERS, progress_bar, say
from tinynet.run_folder import RunFolder, restore, settings
from tinynet.signals import stop_between_batches
from tinynet.step import Result, TrainingStep

Record = dict[str, Any]

STEPS_PER_RECORD = 50
STEPS_AHEAD = 4  # of a GPU, that the host may be
STEPS_TO_LEARN = 300  # by then the loss has fallen below chance, or something is amiss
EPOCH_LINE = (
    "epoch {epoch}/{epochs}: loss {train_loss:.3f}, error {train_error:.1%}; validation loss {val_loss:.3f}, "
    "top-1 error {val_top1_error:.1%}{top5}; {images_per_second:,.0f} images/s"
)
FINAL_LINE = "finished after epoch {epochs}, {seconds:.0f} s: validation top-1 error {val_top1_error:.2%}{top5}"


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


class Trainer:
    """Trains `model` by `optimizer` on `train_loader` for `epochs` epochs; after each it measures on `val_loader`.

    One step: zero the gradients; loss = SoftmaxCE(model(x), labels); backward; optimizer.step(). Dropout masks are a
    function of the step's number. After each epoch come `schedule.step(val_error)` and each `callback(trainer,
    record)`; the callbacks come once more with the "final" record. A callback that has it gets `on_step(trainer,
    record)` too, after each "step" record and, with a "stopped" one, when an interrupted run is saved. With `patience`,
    the run ends early once that many epochs in a row brought no new best top-1 error.

    With `out`, a folder, the run writes log.jsonl there, each line before training goes on; after each epoch
    weights.safetensors, with `metadata` for whoever uses them; and checkpoints/, from which `fit(resume=...)` goes on:
    before the first step, after each epoch, every `checkpoint_minutes` and when the run is interrupted; the last `keep`
    stay, and the best one. A line of the log is one record; `trainer.records` holds them too. Errors are fractions,
    losses in nats:

    start    epochs, parameters, and all of `config`
    step     epoch, step, lr, train_loss, train_error: after step 1 and every 50, means since the last such record
    epoch    epoch, step, lr, train_loss, train_error, val_loss, val_top1_error, val_top5_error,
             images_per_second (of training alone), seconds (since fit began, without pauses between resumed parts)
    warning  text: if after 300 steps the loss is still what guessing gives
    final    val_top1_error, val_top5_error, epochs, seconds: the last line of a finished run
    stopped  reason, epoch, step: the last line of a run that failed, whatever the error, or was interrupted

    On the screen: a progress bar if it is a terminal, a line an epoch, the result as the last line; with quiet=True
    that line alone.

    On a GPU the host begins a step without waiting for the one before; what it found is read when it is there, at the
    latest 4 steps behind, and before each record, checkpoint and validation. graph=True lets the GPU repeat a recorded
    step, which spares the host almost all its work; the numbers are the same (`tinynet.step`).

    Raises ValueError unless `epochs`, `keep` and `patience` are whole numbers of at least 1 and checkpoint_minutes
    is above 0, and for graph=True unless the model is on a GPU; TypeError for a loader without `epoch(number)`, which
    gives batches (x, labels), or a train_loader without len(), the number of batches.
    """

    def __init__(
        self,
        model: Layer,
        optimizer: SGD,
        train_loader: Any,
        val_loader: Any,
        *,
        epochs: int,
        schedule: Any = None,
        patience: int | None = None,
        out: str | os.PathLike | None = None,
        checkpoint_minutes: float = 10.0,
        keep: int = 3,
        graph: bool = False,
        quiet: bool = False,
        callbacks: Iterable[Callable[[Trainer, Record], None]] = (),
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ):
        for what, count in (("epochs", epochs), ("keep", keep), ("patience", 1 if patience is None else patience)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"Trainer: expected {what} as a whole number of at least 1, got {count!r}")
        if not checkpoint_minutes > 0:
            raise ValueError(f"Trainer: expected checkpoint_minutes above 0, got {checkpoint_minutes!r}")
        _check_loader("train_loader", train_loader, epoch="epoch(number)", __len__="len()")
        _check_loader("val_loader", val_loader, epoch="epoch(number)")
        self.model, self.optimizer, self.schedule, self.loss = model, optimizer, schedule, SoftmaxCE()
        self.train_loader, self.val_loader, self.epochs, self.patience = train_loader, val_loader, epochs, patience
        self.out = None if out is None else Path(out)
        self._files, self.checkpoint_minutes = RunFolder(out, keep), checkpoint_minutes
        self.quiet, self.callbacks, self.config = quiet, tuple(callbacks), dict(config or {})
        self.metadata = dict(metadata or {})
        self.epoch = self.batch = self.step = 0  # done so far: epochs; batches of the one under way; steps in all
        self.records: list[Record] = []
        self._tally, self._recent = Tally(), Tally()  # of this epoch; since the last record of a step
        self._seconds_before = self._epoch_seconds = 0.0  # of the run's parts before this one; training in this epoch
        self._in_a_step, self._num_classes = False, 0  # 0: not known before a step
        self._step = TrainingStep(model, self.loss, optimizer, graph)
        self._begun: deque[tuple[Result, int]] = deque()  # steps whose results are not read yet, and their pictures

    def fit(self, resume: str | os.PathLike | Checkpoint | None = None) -> Record:
        """Train; returns the final record.

        resume: a checkpoint in `out`, or `out` itself for its newest good one. The run goes on from there as if it had
        never stopped: on the same machine with the same number of threads every number is the same, to the bit.
        Lines of the log that are newer than the checkpoint are cut off.

        Raises NonFiniteError naming the layer whose output or weights went bad first; KeyboardInterrupt after Ctrl-C
        and Terminated after SIGTERM or SIGHUP, once the step under way is done and a checkpoint is written (a second
        signal does not wait); OSError if `out` cannot be written or holds a run already; and for `resume` what
        `read_checkpoint` raises, and ValueError if the checkpoint does not fit the net, the loader or the log.
        """
        checkpoint = resume if resume is None or isinstance(resume, Checkpoint) else read_checkpoint(resume)
        if checkpoint is not None:
            self._restore(checkpoint)
        self.records += self._files.open(checkpoint)
        with contextlib.closing(self._files), stop_between_batches() as self._stop:
            self._began, self._in_a_step = time.perf_counter(), False
            self._step = TrainingStep(self.model, self.loss, self.optimizer, self._step.graph)
            self._begun.clear()
            if checkpoint is not None:
                self._report_resumption(checkpoint)
                self._files.save_weights(self.model, self._metadata())  # those there may be of another course
            input_grad, self.model.input_grad = self.model.input_grad, False  # nobody reads the gradient of a picture
            self.model.train()
            try:
                if checkpoint is None:
                    parameters = sum(parameter.size for parameter in self.model.parameters())
                    self._record("start", **{"epochs": self.epochs, "parameters": parameters, **self.config})
                    self._save_checkpoint()
                try:
                    while self.epoch < self.epochs and not self._stopped_improving():
                        self._one_epoch()
                except (KeyboardInterrupt, Terminated):
                    if not self._in_a_step:
                        self._stop.deaf = True
                        self._read_results()  # if a number went bad before, that is what ends the run
                    raise
                final = self._finish()
            except NonFiniteError as error:
                when = f"epoch {self.epoch + 1}, after step {self.step}, at learning rate {self.optimizer.lr:g}"
                clear = explain_non_finite(self.model, error, when)
                self._record_stop(str(clear))
                raise clear from error
            except (KeyboardInterrupt, Terminated) as stop:
                raise self._keep_everything(stop) from None
            except Exception as error:
                self._record_stop(str(error) or type(error).__name__)
                raise
            finally:
                self.model.input_grad = input_grad
        say(FINAL_LINE.format(**final, top5=self._top5(final, ".2%")))
        return final

    def _one_epoch(self) -> None:
        began, lr = time.perf_counter() - self._epoch_seconds, self.optimizer.lr
        title = f"epoch {self.epoch + 1}/{self.epochs}"
        with (
            progress_bar(title, self.batch, len(self.train_loader), self.quiet) as bar,
            contextlib.closing(self._stop.until(self._batches())) as batches,
        ):
            for x, labels in batches:
                self._in_a_step, record = True, None
                self._one_step(x, labels)
                self._read_results(STEPS_AHEAD)
                if self.step == 1 or self.step % STEPS_PER_RECORD == 0:
                    self._read_results()
                    record = self._record("step", epoch=self.epoch + 1, step=self.step, lr=lr, **self._recent.means())
                    self._recent = Tally()
                    if self.step == STEPS_TO_LEARN:
                        self._warn(not_learning(record["train_loss"], self._chance(), self.step, lr, to_cpu(x)))
                self._in_a_step = False
                if record:
                    began += self._call_back_on_step(record)  # no time of training
                if self._files.minutes_since_checkpoint() > self.checkpoint_minutes:
                    self._save_checkpoint()
                self._epoch_seconds = time.perf_counter() - began
                rate = self._tally.seen / self._epoch_seconds
                bar.set_postfix_str(BAR_NUMBERS.format(rate=rate, **self._tally.means()), refresh=False)
                bar.update()
            self._read_results()
            self._epoch_seconds = time.perf_counter() - began
        if not self._tally.seen:
            raise ValueError("Trainer: expected at least one picture to learn from, got a loader without any batch")
        val = evaluate(self.model, self._stop.until(self.val_loader.epoch(0)))
        best = val.top1_error < min(self._val_errors(), default=math.inf)
        measured = {**self._tally.means(), **{f"val_{key}": value for key, value in val._asdict().items()}}
        measured |= {"images_per_second": self._tally.seen / self._epoch_seconds, "seconds": self._seconds()}
        self._in_a_step = True  # no checkpoint of an epoch that is over in part
        self.epoch, self.batch, self._tally, self._epoch_seconds = self.epoch + 1, 0, Tally(), 0.0
        record = self._record("epoch", epoch=self.epoch, step=self.step, lr=lr, **measured)
        if self.schedule is not None:
            self.schedule.step(val.top1_error)
        self._in_a_step = False
        self._files.save_weights(self.model, self._metadata())
        self._save_checkpoint(best)
        if not self.quiet:
            say(EPOCH_LINE.format(epochs=self.epochs, **record, top5=self._top5(record, ".1%")))
        self._call_back(record)

    def _batches(self) -> Iterator:
        """The batches of this epoch that are still to come."""
        epoch = self.train_loader.epoch
        if not self.batch:
            return epoch(self.epoch)
        if "start" in inspect.signature(epoch).parameters:
            return epoch(self.epoch, start=self.batch)
        return itertools.islice(epoch(self.epoch), self.batch, None)

    def _one_step(self, x: np.ndarray, labels: np.ndarray) -> None:
        """The weights one update further; on a GPU that is begun."""
        result = self._step(x, labels, self.step)
        self.step, self.batch, self._num_classes = self.step + 1, self.batch + 1, result.classes
        self._begun.append((result, len(labels)))

    def _read_results(self, leave: int = 0) -> None:
        """Add up what the steps found, in their order: of those that are over, and of all but the last `leave`, for
        which it waits."""
        while self._begun and (len(self._begun) > leave or self._begun[0][0].ready):
            result, count = self._begun[0]
            try:
                loss, wrong = result.read()
            except NonFiniteError:
                begun_since = self.step - result.steps  # they changed nothing
                self.step, self.batch = self.step - begun_since, self.batch - begun_since
                raise
            self._begun.popleft()  # only now: a signal may have come while it was waited for
            for means in (self._tally, self._recent):
                means.add(loss, wrong, count)

    def _chance(self) -> float:
        """The loss of guessing, in nats: the entropy of the labels, or ln K if the loader does not tell them."""
        dataset = getattr(self.train_loader, "dataset", None)
        if dataset is None:
            return math.log(self._num_classes)
        shares = np.unique(dataset.labels, return_counts=True)[1] / len(dataset.labels)
        return float(-(shares * np.log(shares)).sum())

    def _top5(self, record: Record, digits: str) -> str:
        """For the screen; nothing with so few classes that every label is among the five most likely."""
        num_classes = self.config.get("num_classes", self._num_classes)  # a finished run, resumed, makes no step
        return "" if num_classes and num_classes <= 5 else f", top-5 error {record['val_top5_error']:{digits}}"

    def _stopped_improving(self) -> bool:
        errors = self._val_errors()
        return self.patience is not None and bool(errors) and len(errors) - 1 - int(np.argmin(errors)) >= self.patience

    def _val_errors(self) -> list[float]:
        return [record["val_top1_error"] for record in self.records if record["event"] == "epoch"]

    # what is written and read again

    def _record(self, event: str, **values: Any) -> Record:
        record = {"event": event, **values}
        self.records.append(record)
        self._files.append(record)
        return record

    def _warn(self, text: str | None) -> None:
        if text:
            self._record("warning", text=text)
            say(f"train: warning: {text}", error=True)

    def _record_stop(self, reason: str) -> int:
        """The number, from 1, of the epoch that was under way."""
        epoch = min(self.epoch + 1, self.epochs)
        with contextlib.suppress(OSError):  # on a full disk the log takes no more; the error itself says more than this
            self._record("stopped", reason=reason, epoch=epoch, step=self.step)
        return epoch

    def _keep_everything(self, stop: KeyboardInterrupt | Terminated) -> KeyboardInterrupt | Terminated:
        """A checkpoint, unless a second signal came in the middle of a step; the exception with what can be done."""
        self._stop.deaf = True
        if self._in_a_step:
            kept = "; that step was not finished: the run can be resumed from the checkpoint before it"
        else:
            self._save_checkpoint()
            self._files.save_weights(self.model, self._metadata())
            self._call_back_on_step({"event": "stopped", "epoch": self.epoch, "step": self.step})
            kept = f"; everything is kept in {self.out}, from where the run can be resumed"
        how = "interrupted" if isinstance(stop, KeyboardInterrupt) else "terminated"
        text = f"{how} in epoch {self._record_stop(how)}, after step {self.step}{kept if self.out is not None else ''}"
        return KeyboardInterrupt(text) if isinstance(stop, KeyboardInterrupt) else Terminated(stop.signum, text)

    def _metadata(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, **self.metadata}

    def _save_checkpoint(self, best: bool = False) -> None:
        self._read_results()
        state = {
            **{"epoch": self.epoch, "batch": self.batch, "step": self.step, "seconds": self._seconds()},
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "tally": astuple(self._tally),
            "recent": astuple(self._recent),
            "epochs": self.epochs,
            "epoch_seconds": self._epoch_seconds,
            "settings": settings(self.model, self.optimizer, self.schedule, self.train_loader),
            "threads": get_num_threads(),
            "config": self.config,
            "metadata": self._metadata(),
        }
        self._files.save_checkpoint(self.model, self.optimizer, state, best)

    def _restore(self, checkpoint: Checkpoint) -> None:
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

    def _report_resumption(self, checkpoint: Checkpoint) -> None:
        where = f"epoch {self.epoch + 1}, after step {self.step}, at learning rate {self.optimizer.lr:g}"
        if self.epoch == self.epochs:
            where = f"the end of epoch {self.epoch}, where it had finished"
        if not self.quiet:
            say(f"resumed in {where}, from {checkpoint.path}")
        for reason in checkpoint.passed_over:
            say(f"train: warning: a newer checkpoint was passed over: {reason}", error=True)
        threads = checkpoint.state["threads"], get_num_threads()
        if threads[0] != threads[1]:
            text = "the run had {} CPU threads and has {} now: its numbers will differ in their last digits"
            say(f"train: warning: {text.format(*threads)} from those of a run never stopped", error=True)

    def _finish(self) -> Record:
        last = next(record for record in reversed(self.records) if record["event"] == "epoch")
        errors = {key: last[key] for key in ("val_top1_error", "val_top5_error")}
        record = self._record("final", **errors, epochs=self.epoch, seconds=self._seconds())
        self._call_back(record)
        return record

    def _call_back(self, record: Record) -> None:
        for callback in self.callbacks:
            callback(self, record)

    def _call_back_on_step(self, record: Record) -> float:
        """How many seconds that took."""
        began = time.perf_counter()
        for callback in self.callbacks:
            if hasattr(callback, "on_step"):
                callback.on_step(self, record)
        return time.perf_counter() - began

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._began


def _check_loader(what: str, loader: Any, **needed: str) -> None:
    if not all(callable(getattr(loader, method, None)) for method in needed):
        raise TypeError(
            f"Trainer: expected {what} to have {' and '.join(needed.values())}, got {type(loader).__name__}; "
            "use a tinynet.data.Loader or a class with these methods"
        )
