"""Ctrl-C, and the system's wish that the program end, as something that comes between two batches of a training run."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from tinynet.errors import Terminated

# what a program does unless it says otherwise; a handler of its own, or a signal that it ignores (nohup), is left be
USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):  # the terminal was closed; not on Windows
    USUAL[signal.SIGHUP] = signal.SIG_DFL


@contextlib.contextmanager
def stop_between_batches() -> Iterator[Callable[[Iterable], Generator]]:
    """Gives a function that passes batches on until a signal comes, and then raises: no step is left half done.

    Ctrl-C (SIGINT) raises KeyboardInterrupt; SIGTERM, and SIGHUP where it exists, raise Terminated. A second signal
    raises at once. Handlers are set in the main thread alone, which gets the signals, and are put back at the end.
    """
    came: list[int] = []

    def until_a_signal(batches: Iterable) -> Generator:
        iterator = iter(batches)
        try:
            for batch in iterator:
                if came:
                    raise _stop(came[0])
                yield batch
            if came:
                raise _stop(came[0])
        finally:
            if hasattr(iterator, "close"):
                iterator.close()  # a loader with workers stops them

    def on_signal(signum: int, frame: Any) -> None:
        came.append(signum)
        if len(came) > 1:
            raise _stop(signum)

    replaced = {}
    if threading.current_thread() is threading.main_thread():
        for signum, usual in USUAL.items():
            if signal.getsignal(signum) is usual:
                replaced[signum] = signal.signal(signum, on_signal)
    try:
        yield until_a_signal
    finally:
        for signum, before in replaced.items():
            signal.signal(signum, before)


def _stop(signum: int) -> BaseException:
    return KeyboardInterrupt() if signum == signal.SIGINT else Terminated(signum)
