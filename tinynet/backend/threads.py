"""Run a compiled loop on all cores, by plain Python threads.

A kernel is compiled with `nogil=True` and without numba's own `parallel=True`, so threads of Python can run it at the
same time. That keeps three promises which numba's threading layers do not: several Python threads may be in compiled
code at once (numba's `workqueue` layer aborts the process then), nothing but numba itself need be installed, and each
output element is computed by one thread in a fixed order, so results do not depend on timing.
"""

import contextvars
import functools
import importlib
import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Loop:
    """A compiled loop, which imports numba when it is first called: a program that never calls one needs no numba.

    `py_func` is the Python function. All other attributes are those of numba's dispatcher, which is made when the first
    of them is asked for.
    """

    def __init__(self, function: Callable, options: dict[str, Any], needs: str | None = None):
        functools.update_wrapper(self, function)
        self.py_func, self._options, self._needs = function, options, needs
        self._run: Callable = self._first

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    def _first(self, *args: Any) -> Any:
        return self.dispatcher(*args)

    @property
    def dispatcher(self) -> Any:
        """What numba makes of the function. It compiles for each new combination of argument types, one thread at a
        time."""
        if "_dispatcher" not in self.__dict__:
            # no lock, as numba takes its own when it asks for a loop that another one calls; the first one made counts
            self._run = self.__dict__.setdefault("_dispatcher", self._made())
        return self.__dict__["_dispatcher"]

    @property
    def _numba_type_(self) -> Any:
        """By this numba takes a loop that another loop calls for the dispatcher."""
        return self.dispatcher._numba_type_

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dispatcher, name)

    def _made(self) -> Any:
        numba = importlib.import_module("numba")
        if self._needs is not None:
            importlib.import_module(self._needs)
        try:
            return numba.njit(nogil=True, error_model="numpy", cache=True, **self._options)(self.py_func)
        except RuntimeError:  # numba: "cannot cache function ...: no locator available"
            return numba.njit(nogil=True, error_model="numpy", **self._options)(self.py_func)


def compiled(needs: str | None = None, **options: Any) -> Any:
    """A decorator that compiles loops, and keeps them for the next program where it may write: beside their source, or
    in the user's cache. Elsewhere each program compiles them anew. Division by zero gives inf, as in NumPy: only then
    can such a loop be vectorised. needs: a module that must be imported before the loop is compiled."""
    return lambda function: Loop(function, options, needs)


kernel: Any = compiled()

_lock = threading.Lock()
_tasks: SimpleQueue = SimpleQueue()  # (context, loop, arguments, done, bell), see parallel_for
_workers = 0  # threads that wait for tasks: as many as were ever wanted at once, since one that sleeps costs nothing
_num_threads: int | None = None
_share: contextvars.ContextVar[int | None] = contextvars.ContextVar("share of the threads", default=None)


def get_num_threads() -> int:
    """The number of threads that compiled loops run on; see `set_num_threads`, and `limit_threads`."""
    return _share.get() or _all_threads()


def _all_threads() -> int:
    global _num_threads
    if _num_threads is None:
        wanted = os.environ.get("TINYNET_NUM_THREADS", "")
        if wanted and not (wanted.isdecimal() and int(wanted) >= 1):
            raise ValueError(f"TINYNET_NUM_THREADS: expected a whole number of at least 1, got {wanted!r}")
        _num_threads = int(wanted) if wanted else _usable_cores()
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Run compiled loops and matrix products on `num_threads` threads. The default is the cores this process may use,
    or the environment variable TINYNET_NUM_THREADS.

    Raises ValueError unless num_threads is a whole number of at least 1.
    """
    global _num_threads
    if not isinstance(num_threads, int) or isinstance(num_threads, bool) or num_threads < 1:
        raise ValueError(f"set_num_threads: expected a whole number of at least 1, got {num_threads!r}")
    _num_threads = num_threads


def limit_threads(num_threads: int) -> None:
    """From now on this Python thread (its context, to be exact) computes on `num_threads` threads, whatever the others
    do: its share, where several compute at once."""
    _share.set(num_threads)


def parallel_for(loop: Callable[..., None], length: int, *args: Any, grain: int = 1) -> None:
    """Call `loop(*args, start, stop)` for ranges that together cover range(length): one a thread, of `grain` at least.

    The caller's context, NumPy's errstate among it, holds in every thread; an exception in one is raised here. A loop
    must not call parallel_for itself: all workers might wait for a worker.
    """
    loop = loop.dispatcher if isinstance(loop, Loop) else loop
    parts = max(1, min(get_num_threads(), length // grain))
    bounds = [length * part // parts for part in range(parts + 1)]
    if parts > 1:
        _start_workers(max(parts, _all_threads()) - 1)  # enough for all who have a share of the threads
    bell: SimpleQueue = SimpleQueue()  # rings after each entry in `done`
    given: list[None] = []
    done: list[BaseException | None] = []
    tasks = [(contextvars.copy_context(), loop, (*args, *ends), done, bell) for ends in itertools.pairwise(bounds[1:])]
    try:
        given.extend(map(_tasks.put, tasks))  # one call: Ctrl-C comes before or after, not between put and count
        loop(*args, 0, bounds[1])
        while len(done) < len(given):
            bell.get()
    finally:  # again after Ctrl-C: who catches it may use the arrays, and no thread may still be writing there
        while len(done) < len(given):
            bell.get()
    for error in done:
        if error is not None:
            try:
                raise error
            finally:
                del error, done  # or the error, its traceback and this frame would keep each other, and the arrays


def _start_workers(wanted: int) -> None:
    global _workers
    if _workers < wanted:
        with _lock:
            while _workers < wanted:
                threading.Thread(target=_work, args=(_tasks,), name=f"tinynet-{_workers}", daemon=True).start()
                _workers += 1


def _work(tasks: SimpleQueue) -> None:
    while True:
        context, loop, arguments, done, bell = tasks.get()
        try:
            context.run(loop, *arguments)
            done.append(None)
        except BaseException as error:
            done.append(error)
        bell.put(None)
        del context, loop, arguments, done, bell  # a thread that waits keeps no array alive


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: the cores this process was given, not all that exist
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _forget_workers() -> None:
    global _tasks, _workers, _lock
    _tasks, _workers, _lock = SimpleQueue(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_forget_workers)
