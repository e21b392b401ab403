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
from typing import Any

import numpy as np

from tinynet.backend.device import to_cpu
from tinynet.errors import NonFiniteError, Terminated
from tinynet.io.checkpoints import Checkpoint, read_checkpoint
from tinynet.layers.layer import Layer
from tinynet.losses.softmax_ce import SoftmaxCE
from tinynet.optim import SGD
from tinynet.training.diagnosis import chance, not_learning
from tinynet.training.evaluate import evaluate
from tinynet.training.progress import advance, epoch_line, final_line, progress_bar, say
from tinynet.training.provenance import provenance
from tinynet.training.records import Record, Run, Tally
from tinynet.training.run_folder import RunFolder
from tinynet.training.signals import stop_between_batches
from tinynet.training.step import Result, TrainingStep

STEPS_PER_RECORD = 50
STEPS_AHEAD = 4  # of a GPU, that the host may be
STEPS_TO_LEARN = 300  # by then the loss has fallen below chance, or something is amiss


class Trainer(Run):
    """Trains `model` by `optimizer` on `train_loader` for `epochs` epochs; after each it measures on `val_loader`.

    One step: zero the gradients; loss = SoftmaxCE(model(x), labels); backward; optimizer.step(). Dropout masks are a
    function of the step's number. After each epoch come `schedule.step(val_error)` and each `callback(trainer,
    record)`; the callbacks come once more with the "final" record. A callback that has it gets `on_step(trainer,
    record)` too, after each "step" record and, with a "stopped" one, when an interrupted run is saved; and
    `on_start(trainer)` once the run, new or resumed, has its folder for itself: before that nothing may be written
    there. With `patience`, the run ends early once that many epochs in a row brought no new best top-1 error.

    With `out`, a folder, the run writes log.jsonl there, each line before training goes on; config.json with `config`;
    after each epoch weights.safetensors, with `metadata` for whoever uses them; and checkpoints/, from which
    `fit(resume=...)` goes on: before the first step, after each epoch, every `checkpoint_minutes` and when the run is
    interrupted; the last `keep` stay, and the best one. A line of the log is one record, as `trainer.records` holds
    them: see `Run`.

    On the screen: a progress bar if it is a terminal, a line an epoch, last of all the result; with quiet that alone.

    On GPUs the host begins a step without waiting for the one before; what it found is read at most 4 steps later, and
    before each record, checkpoint and validation. graph=True lets the GPU repeat a recorded step: less work for the
    host, the same numbers (`tinynet.training.step`).

    Raises ValueError unless `epochs`, `keep` and `patience` are whole numbers of at least 1, checkpoint_minutes above 0
    and, for graph=True, the model on a GPU; TypeError for a loader without `epoch(number)`, which gives batches (x,
    labels), or a train_loader without len(), their number.
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
        super().__init__(
            RunFolder(out, keep), model, optimizer, schedule, train_loader, epochs, quiet, callbacks, config, metadata
        )
        self.val_loader, self.patience, self.checkpoint_minutes = val_loader, patience, checkpoint_minutes
        self.loss = SoftmaxCE()
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
        if checkpoint is None:
            self._note_provenance(provenance())
        else:
            self._restore(checkpoint)
        self.records += self._files.open(self.config, checkpoint)  # from here on the folder is this run's
        with contextlib.closing(self._files), stop_between_batches() as self._stop, _without_input_grad(self.model):
            self._began, self._in_a_step = time.perf_counter(), False
            self._step = TrainingStep(self.model, self.loss, self.optimizer, self._step.graph)
            self._begun.clear()
            self.model.train()
            if checkpoint is not None:
                self._report_resumption(checkpoint)
                self._save_weights()  # those there may be of another course
            try:
                if checkpoint is None:
                    self._record_start()
                    self._save_checkpoint()
                self._call_back_on_start()
                self._all_epochs()
                final = self._record_final()
                self._call_back(final)
            except NonFiniteError as error:
                raise self._explain(error) from error
            except (KeyboardInterrupt, Terminated) as stop:
                self._stop.deaf = True
                raise self._keep_everything(stop) from None
            except Exception as error:
                self._record_stop(str(error) or type(error).__name__)
                raise
        say(final_line(final, self._classes_shown()))
        return final

    def _all_epochs(self) -> None:
        try:
            while self.epoch < self.epochs and not self._stopped_improving():
                self._one_epoch()
        except (KeyboardInterrupt, Terminated):
            if not self._in_a_step:
                self._stop.deaf = True
                self._read_results()  # if a number went bad before, that is what ends the run
            raise

    def _one_epoch(self) -> None:
        lr = self.optimizer.lr
        self._all_batches(lr)
        if not self._tally.seen:
            raise ValueError("Trainer: expected at least one picture to learn from, got a loader without any batch")
        val = evaluate(self.model, self._stop.until(self.val_loader.epoch(0)))
        best = val.top1_error < min(self._val_errors(), default=math.inf)
        self._in_a_step = True  # no checkpoint of an epoch that is over in part
        record = self._record_epoch(lr, val)
        if self.schedule is not None:
            self.schedule.step(val.top1_error)
        self._in_a_step = False
        self._save_weights()
        self._save_checkpoint(best)
        if not self.quiet:
            say(epoch_line(record, self.epochs, self._classes_shown()))
        self._call_back(record)

    def _all_batches(self, lr: float) -> None:
        """One step for each batch of the epoch that is still to come."""
        began = time.perf_counter() - self._epoch_seconds
        title = f"epoch {self.epoch + 1}/{self.epochs}"
        with (
            progress_bar(title, self.batch, len(self.train_loader), self.quiet) as bar,
            contextlib.closing(self._stop.until(self._batches())) as batches,
        ):
            for x, labels in batches:
                self._in_a_step = True
                self._one_step(x, labels)
                self._read_results(STEPS_AHEAD)
                record = self._record_of_step(lr, x)
                self._in_a_step = False
                if record:
                    began += self._call_back_on_step(record)  # no time of training
                if self._files.minutes_since_checkpoint() > self.checkpoint_minutes:
                    self._read_results()
                    self._save_checkpoint()
                self._epoch_seconds = time.perf_counter() - began
                advance(bar, self._tally.means(), self._tally.seen / self._epoch_seconds)
            self._read_results()
            self._epoch_seconds = time.perf_counter() - began

    def _batches(self) -> Iterator:
        """The batches of this epoch that are still to come."""
        epoch, done = self.train_loader.epoch, self.batch
        if done and "start" in inspect.signature(epoch).parameters:
            return epoch(self.epoch, start=done)
        return itertools.islice(epoch(self.epoch), done, None) if done else epoch(self.epoch)

    def _one_step(self, x: np.ndarray, labels: np.ndarray) -> None:
        """The weights one update further; on a GPU that is begun."""
        result = self._step(x, labels, self.step)
        self.step, self.batch, self._num_classes = self.step + 1, self.batch + 1, result.classes
        self._begun.append((result, len(labels)))

    def _read_results(self, leave: int = 0) -> None:
        """Add up, in their order, what the steps found that are over; waits for all but the last `leave`."""
        while self._begun and (len(self._begun) > leave or self._begun[0][0].ready):
            result, count = self._begun[0]
            try:
                loss, wrong = result.read()
            except (NonFiniteError, ValueError):
                begun_since = self.step - result.steps  # they changed nothing
                self.step, self.batch = self.step - begun_since, self.batch - begun_since
                raise
            self._begun.popleft()  # only now: a signal may have come while it was waited for
            for means in (self._tally, self._recent):
                means.add(loss, wrong, count)

    def _record_of_step(self, lr: float, x: np.ndarray) -> Record | None:
        """After step 1 and every 50. x: the step's batch, for a warning that nothing is learned."""
        if self.step != 1 and self.step % STEPS_PER_RECORD:
            return None
        self._read_results()
        record = self._record("step", epoch=self.epoch + 1, step=self.step, lr=lr, **self._recent.means())
        self._recent = Tally()
        if self.step == STEPS_TO_LEARN:
            self._warn(not_learning(record["train_loss"], self._chance(), self.step, lr, to_cpu(x)))
        return record

    def _chance(self) -> float:
        return chance(self._num_classes, getattr(self.train_loader, "dataset", None))

    def _stopped_improving(self) -> bool:
        errors = self._val_errors()
        return self.patience is not None and bool(errors) and len(errors) - 1 - int(np.argmin(errors)) >= self.patience


@contextlib.contextmanager
def _without_input_grad(model: Layer) -> Iterator[None]:
    """Inside, backward leaves out the gradient of the pictures, which nobody reads."""
    before, model.input_grad = model.input_grad, False
    try:
        yield
    finally:
        model.input_grad = before


def _check_loader(what: str, loader: Any, **needed: str) -> None:
    if not all(callable(getattr(loader, method, None)) for method in needed):
        raise TypeError(
            f"Trainer: expected {what} to have {' and '.join(needed.values())}, got {type(loader).__name__}; "
            "use a tinynet.data.Loader or a class with these methods"
        )
