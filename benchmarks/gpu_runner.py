"""Who does the GPU's work: a process that can be ended, or this one; and the time that all of it may take."""

import os
import threading
import time
from typing import Any, NamedTuple, Protocol

import peers


class Worker(Protocol):
    def ask(self, verb: str, limit: float, **given: Any) -> Any:
        """What worker_gpu.GpuWorker's method `verb` gives. Raises BenchmarkError if it fails or takes too long."""

    def close(self) -> None: ...


class Here:
    """In this process, for a debugger: a crash ends everything, and no limit is kept."""

    def __init__(self) -> None:
        import worker_gpu

        self.worker = worker_gpu.GpuWorker()

    def ask(self, verb: str, limit: float, **given: Any) -> Any:
        try:
            return getattr(self.worker, verb)(**given)
        except Exception as error:  # as in the other process: reported, and the rest goes on
            raise peers.BenchmarkError(f"{type(error).__name__}: {str(error).strip()}") from error

    def close(self) -> None:
        """Nothing to end."""


class Process:
    """In a process of its own. After a failure another one is started: an error of the GPU stays with its process, and
    a kernel that hangs ends with it."""

    def __init__(self) -> None:
        self.peer: peers.Peer | None = None

    def ask(self, verb: str, limit: float, **given: Any) -> Any:
        if self.peer is None:
            self.peer = peers.Peer("gpu", os.cpu_count() or 1)
        over = threading.Event()

        def end(process: Any = self.peer.process) -> None:
            over.set()
            process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            return self.peer.ask(verb, **given)
        except (peers.BenchmarkError, ValueError) as error:  # ValueError: it was ended in the middle of its answer
            self.close()
            raise peers.BenchmarkError(f"no end within {limit:.0f} s" if over.is_set() else str(error)) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        if self.peer is not None:
            self.peer.__exit__()
            self.peer = None


class Budget(NamedTuple):
    """Seconds for everything, from `began` on by time.monotonic."""

    seconds: float
    began: float

    def left(self) -> float:
        return self.began + self.seconds - time.monotonic()
