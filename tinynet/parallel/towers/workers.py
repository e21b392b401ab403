"""The threads of the towers, and what they hand each other during one pass, forward or backward."""

import contextvars
import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue
from typing import Any


class Stopped(Exception):  # noqa: N818 - nothing went wrong in the tower that it ends
    """The pass is over, because another tower failed or the caller was interrupted."""


class Meeting:
    """What the towers hand each other during one pass. All of it is kept until the pass is over: a copy may be under
    way on a GPU after the host has given the order."""

    def __init__(self) -> None:
        self._changed, self._stopped = threading.Condition(), False
        self._given: dict[Hashable, Any] = {}
        self.crossed: dict[str, int] = {}  # bytes, by the name of the exchange

    def give(self, key: Hashable, value: Any) -> None:
        with self._changed:
            self._given[key] = value
            self._changed.notify_all()

    def take(self, key: Hashable) -> Any:
        """What was given under `key`, for which this thread waits. Raises Stopped if it will not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or key in self._given)
            if self._stopped:
                raise Stopped
            return self._given[key]

    def count(self, name: str, nbytes: int) -> None:
        with self._changed:
            self.crossed[name] = self.crossed.get(name, 0) + nbytes

    def stop(self) -> None:
        """Wake all who wait: the pass is over."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Worker:
    """A thread that does one task after another. It starts with the first and ends with this object."""

    def __init__(self, name: str):
        self.name = name
        self._thread: threading.Thread | None = None
        self.tasks: SimpleQueue = SimpleQueue()

    def start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # a forked child has none of its parent's threads
            self.tasks = SimpleQueue()
            self._thread = threading.Thread(target=_work, args=(self.tasks,), name=self.name, daemon=True)
            self._thread.start()
            weakref.finalize(self, self.tasks.put, None).atexit = False

    def __reduce__(self) -> Any:  # a copy has a thread of its own
        return Worker, (self.name,)


def _work(tasks: SimpleQueue) -> None:
    while (given := tasks.get()) is not None:
        task, finished = given
        task()
        del given, task  # before the caller goes on: it lets go of arrays, and a thread that is done keeps none alive
        finished()


def together(workers: Sequence[Worker], task: Callable[[int], Any], stop: Callable[[], None]) -> tuple[list, list]:
    """task(i) on each worker i, in the caller's context. (results, errors), None where there is none.

    As soon as one fails, or Ctrl-C comes, `stop` is called, upon which the others must end soon; they are waited for.
    """
    results: list[Any] = [None] * len(workers)
    errors: list[BaseException | None] = [None] * len(workers)
    done: list[None] = []
    bell: SimpleQueue = SimpleQueue()  # rings after each entry in `done`
    given: list[None] = []

    def run(i: int) -> None:
        try:
            results[i] = task(i)
        except BaseException as error:
            if not isinstance(error, Stopped):
                errors[i] = error
            stop()

    def finished() -> None:
        done.append(None)
        bell.put(None)

    for worker in workers:
        worker.start()
    tasks = [(functools.partial(contextvars.copy_context().run, run, i), finished) for i in range(len(workers))]
    try:
        # one call: Ctrl-C comes before or after, not in between
        given.extend(map(SimpleQueue.put, [worker.tasks for worker in workers], tasks))
        while len(done) < len(given):
            bell.get()
    except BaseException:
        stop()
        raise
    finally:  # again after Ctrl-C: who catches it may use the model, and no thread may still be writing there
        while len(done) < len(given):
            bell.get()
    return results, errors
