"""The training loop: steps, validation, a log, progress on the screen, and a clear end when numbers go bad."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinynet.checkpoint import JsonLines, save_weights
from tinynet.errors import NonFiniteError
from tinynet.evaluate import checked_loss, evaluate, label_ranks, weights_gone_bad
from tinynet.layers.base import Layer
from tinynet.layers.softmax_ce import SoftmaxCE
from tinynet.optim import SGD

Record = dict[str, Any]

LOG, WEIGHTS = "log.jsonl", "weights.safetensors"  # in a run's folder
STEPS_PER_RECORD = 50
REMEDY = (
    "Try a learning rate ten times smaller; then look at the scale of the input (mean 0, standard deviation 1) and at "
    "the initial values."
)
BAR_NUMBERS = "loss {train_loss:.3f}, error {train_error:.1%}, {rate:,.0f} images/s"
EPOCH_LINE = (
    "epoch {epoch}/{epochs}: loss {train_loss:.3f}, error {train_error:.1%}; validation loss {val_loss:.3f}, "
    "top-1 error {val_top1_error:.1%}, top-5 error {val_top5_error:.1%}; {images_per_second:,.0f} images/s"
)
FINAL_LINE = (
    "finished after epoch {epochs}, {seconds:.0f} s: validation top-1 error {val_top1_error:.2%}, "
    "top-5 error {val_top5_error:.2%}"
)


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
    record)`.

    With `out`, a folder, the run writes log.jsonl there, each line before training goes on, and after each epoch
    weights.safetensors. A line is one record; `trainer.records` holds them too. Errors are fractions, losses in nats:

    start    epochs, parameters, and all of `config`
    step     epoch, step, lr, train_loss, train_error: after step 1 and every 50, means since the last such record
    epoch    epoch, step, lr, train_loss, train_error, val_loss, val_top1_error, val_top5_error,
             images_per_second (of training alone), seconds (since fit began)
    final    val_top1_error, val_top5_error, epochs, seconds: the last line of a finished run
    stopped  reason, epoch, step: the last line of a run that failed, whatever the error, or was interrupted

    On the screen: a progress bar if it is a terminal, a line an epoch, the result as the last line; with quiet=True
    that line alone.

    Raises ValueError unless `epochs` is a whole number of at least 1, TypeError for a loader without `epoch(number)`,
    which gives batches (x, labels), or a train_loader without len(), the number of batches.
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
        out: str | os.PathLike | None = None,
        quiet: bool = False,
        callbacks: Iterable[Callable[[Trainer, Record], None]] = (),
        config: Mapping[str, Any] | None = None,
    ):
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"Trainer: expected epochs as a whole number of at least 1, got {epochs!r}")
        _check_loader("train_loader", train_loader, epoch="epoch(number)", __len__="len()")
        _check_loader("val_loader", val_loader, epoch="epoch(number)")
        self.model, self.optimizer, self.schedule, self.loss = model, optimizer, schedule, SoftmaxCE()
        self.train_loader, self.val_loader, self.epochs = train_loader, val_loader, epochs
        self.out = None if out is None else Path(out)
        self.quiet, self.callbacks, self.config = quiet, tuple(callbacks), dict(config or {})
        self.epoch = self.step = 0  # done so far
        self.records: list[Record] = []
        self._recent = Tally()  # since the last record of a step

    def fit(self) -> Record:
        """Train; returns the final record.

        Raises NonFiniteError naming the layer whose output or weights went bad first; KeyboardInterrupt after Ctrl-C,
        once the step under way is done and the weights are saved (a second Ctrl-C does not wait); OSError if `out`
        cannot be written or holds a run already.
        """
        self._started = time.perf_counter()
        log = contextlib.nullcontext() if self.out is None else JsonLines(self.out / LOG)
        with log as self._log, _stop_on_ctrl_c() as self._until_ctrl_c:
            input_grad, self.model.input_grad = self.model.input_grad, False  # nobody reads the gradient of a picture
            self.model.train()
            try:
                parameters = sum(parameter.size for parameter in self.model.parameters())
                self._record("start", **{"epochs": self.epochs, "parameters": parameters, **self.config})
                while self.epoch < self.epochs:
                    self._one_epoch()
                final = self._finish()
            except NonFiniteError as error:
                clear = self._explain(error)
                self._record_stop(str(clear))
                raise clear from error
            except KeyboardInterrupt:
                epoch = self._record_stop("interrupted")
                kept = self._save_weights()
                raise KeyboardInterrupt(f"interrupted in epoch {epoch}, after step {self.step}{kept}") from None
            except Exception as error:
                self._record_stop(str(error) or type(error).__name__)
                raise
            finally:
                self.model.input_grad = input_grad
        print(FINAL_LINE.format(**final), flush=True)
        return final

    def _one_epoch(self) -> None:
        tally, rate, began, lr = Tally(), 0.0, time.perf_counter(), self.optimizer.lr
        with self._progress_bar() as bar:
            for x, labels in self._until_ctrl_c(self.train_loader.epoch(self.epoch)):
                loss, wrong = self._one_step(x, labels)
                for means in (tally, self._recent):
                    means.add(loss, wrong, len(labels))
                if self.step == 1 or self.step % STEPS_PER_RECORD == 0:
                    self._record("step", epoch=self.epoch + 1, step=self.step, lr=lr, **self._recent.means())
                    self._recent = Tally()
                rate = tally.seen / (time.perf_counter() - began)
                bar.set_postfix_str(BAR_NUMBERS.format(rate=rate, **tally.means()), refresh=False)
                bar.update()
        if not tally.seen:
            raise ValueError("Trainer: expected at least one picture to learn from, got a loader without any batch")
        val = evaluate(self.model, self._until_ctrl_c(self.val_loader.epoch(0)))
        self.epoch += 1
        measured = {**tally.means(), **{f"val_{key}": value for key, value in val._asdict().items()}}
        measured |= {"images_per_second": rate, "seconds": time.perf_counter() - self._started}
        record = self._record("epoch", epoch=self.epoch, step=self.step, lr=lr, **measured)
        if not self.quiet:
            print(EPOCH_LINE.format(epochs=self.epochs, **record), flush=True)
        self._save_weights()
        if self.schedule is not None:
            self.schedule.step(val.top1_error)
        for callback in self.callbacks:
            callback(self, record)

    def _one_step(self, x: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        """(loss, number of wrong answers) of one batch, and the weights one update further."""
        self.model.at_step(self.step)
        self.optimizer.zero_grad()
        loss, logits = checked_loss(self.model, self.loss, x, labels)
        with np.errstate(over="ignore", invalid="ignore"):  # the check below says more than NumPy's warnings
            self.model.backward(self.loss.backward())
            self.optimizer.step()
        self.step += 1
        if bad := weights_gone_bad(self.model):
            raise NonFiniteError(*bad)
        return loss, int((label_ranks(logits, labels) > 0).sum())

    def _explain(self, error: NonFiniteError) -> NonFiniteError:
        """The error with when it came and what to try."""
        bad = weights_gone_bad(self.model)
        layer, what = bad or (error.layer, str(error).removeprefix(f"{error.layer}: "))
        first = next((layer for _, layer in self.model.named_layers() if not layer.children()), self.model)
        remedy = REMEDY
        if bad:
            remedy += " A wrong backward in one of the layers after it does this too."
        elif layer == str(first) and "expected finite" in what:
            remedy = "It is the first layer: look at the pictures that the loader gives."
        when = f"epoch {self.epoch + 1}, after step {self.step}, at learning rate {self.optimizer.lr:g}"
        return NonFiniteError(layer, f"{what}. Training stopped in {when}. {remedy}")

    # what is written and shown

    def _record(self, event: str, **values: Any) -> Record:
        record = {"event": event, **values}
        self.records.append(record)
        if self._log is not None:
            self._log.append(record)
        return record

    def _record_stop(self, reason: str) -> int:
        """The number, from 1, of the epoch that was under way."""
        epoch = min(self.epoch + 1, self.epochs)
        with contextlib.suppress(OSError):  # on a full disk the log takes no more; the error itself says more than this
            self._record("stopped", reason=reason, epoch=epoch, step=self.step)
        return epoch

    def _save_weights(self) -> str:
        if self.out is None:
            return ""
        save_weights(self.out / WEIGHTS, self.model, {"epoch": self.epoch, "step": self.step})
        return f"; weights and log are in {self.out}"

    def _finish(self) -> Record:
        last = next(record for record in reversed(self.records) if record["event"] == "epoch")
        errors = {key: last[key] for key in ("val_top1_error", "val_top5_error")}
        return self._record("final", **errors, epochs=self.epoch, seconds=time.perf_counter() - self._started)

    def _progress_bar(self) -> tqdm:
        on_screen = sys.stderr is not None and sys.stderr.isatty() and not self.quiet
        columns, rows = shutil.get_terminal_size()  # 80 x 24 if the screen does not tell
        return tqdm(
            desc=f"epoch {self.epoch + 1}/{self.epochs}",
            total=len(self.train_loader),
            disable=not on_screen,
            ascii="utf" not in str(getattr(sys.stderr, "encoding", None)).lower(),  # then # for blocks
            leave=False,
            ncols=columns - 1,
            nrows=rows,
            bar_format="{desc}: {percentage:3.0f}%, {remaining} left{postfix} |{bar:20}|",  # what comes last is cut off
        )


def _check_loader(what: str, loader: Any, **needed: str) -> None:
    if not all(callable(getattr(loader, method, None)) for method in needed):
        raise TypeError(
            f"Trainer: expected {what} to have {' and '.join(needed.values())}, got {type(loader).__name__}; "
            "use a tinynet.data.Loader or a class with these methods"
        )


@contextlib.contextmanager
def _stop_on_ctrl_c() -> Iterator[Callable[[Iterable], Iterator]]:
    """Gives a function that passes batches on until Ctrl-C comes, and then raises KeyboardInterrupt: no step is left
    half done. A second Ctrl-C raises at once. A program's own handler, and threads, which get no signals, are left be.
    """
    came = threading.Event()

    def until_ctrl_c(batches: Iterable) -> Iterator:
        for batch in batches:
            if came.is_set():
                raise KeyboardInterrupt
            yield batch

    def on_ctrl_c(signum: int, frame: Any) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    in_main_thread = threading.current_thread() is threading.main_thread()
    ours = in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        yield until_ctrl_c
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
