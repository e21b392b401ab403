"""Ctrl-C, and the system's wish that the program end, as something that comes between two batches of a training run."""

import contextlib
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from tinynet.errors import Terminated

# what a program does unless it says otherwise; a handler of its own, or a signal that it ignores (nohup), is left be
USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
for name in ("SIGHUP", "SIGBREAK"):  # the terminal was closed, not on Windows; Ctrl-Break, on Windows alone
    if hasattr(signal, name):
        USUAL[getattr(signal, name)] = signal.SIG_DFL


class Stop:
    """What `stop_between_batches` gives."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.deaf = False  # True while what was learned is being saved: no signal may cut that short

    def until(self, batches: Iterable) -> Generator:
        """Passes batches on until a signal comes, and then raises: no step is left half done."""
        iterator = iter(batches)
        try:
            for batch in iterator:
                self._raise_if_it_came()
                yield batch
            self._raise_if_it_came()
        finally:
            if hasattr(iterator, "close"):
                iterator.close()  # a loader with workers stops them

    def on_signal(self, signum: int, frame: Any) -> None:
        if not self.deaf:
            self.came.append(signum)
            if len(self.came) > 1:
                self._raise_if_it_came()

    def _raise_if_it_came(self) -> None:
        if self.came:
            last = self.came[-1]
            raise KeyboardInterrupt if last == signal.SIGINT else Terminated(last)


@contextlib.contextmanager
def stop_between_batches() -> Iterator[Stop]:
    """Inside, Ctrl-C (SIGINT) raises KeyboardInterrupt, and SIGTERM, SIGHUP and Ctrl-Break raise Terminated, between
    two batches that `stop.until` passes on. A second signal raises at once, wherever the program is.

    Handlers are set in the main thread alone, which gets the signals, and are put back at the end.
    """
    stop, replaced = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        for signum, usual in USUAL.items():
            if signal.getsignal(signum) is usual:
                replaced[signum] = signal.signal(signum, stop.on_signal)
    try:
        yield stop
    finally:
        for signum, before in replaced.items():
            signal.signal(signum, before)
