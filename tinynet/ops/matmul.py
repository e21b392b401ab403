"""Matrix products on the threads of `parallel_for`, each with a single-threaded BLAS of its own.

BLAS libraries bring their own pool of threads, which spin while they wait for each other. Beside our own pool, or
beside another busy program, that costs up to ten times the product itself; here each thread computes its part of the
result alone, and they meet once, at the end. While a product runs, every BLAS in the process is limited to one thread,
as far as threadpoolctl knows it: Apple's Accelerate, which it does not, keeps its own ways.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.threads import parallel_for
from tinynet.mode import is_plain

SMALL = 1 << 20  # multiplications; a product below is not worth a second thread


class _OneThreadBlas:
    """A context that any number of threads may be inside at once: the first one in sets the limit, the last one out
    lifts it."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.libraries: list[Any] | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.libraries is None:
                from threadpoolctl import ThreadpoolController  # at the first product: plain mode comes to none here

                self.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            if self.inside == 0:
                self.before = [library.num_threads for library in self.libraries]
                self._limit([1] * len(self.libraries))
            self.inside += 1

    def __exit__(self, *failure: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self._limit(self.before)

    def _limit(self, limits: list[int]) -> None:
        for library, limit in zip(self.libraries or [], limits, strict=True):
            # threadpoolctl lets one thread alone set limits, so that threads do not fight over them; here they take
            # turns
            give_up_control = getattr(library, "clear_controlling_thread", lambda force: None)
            give_up_control(force=True)
            library.set_num_threads(limit)
            give_up_control(force=True)


_one_thread_blas = _OneThreadBlas()

if hasattr(os, "register_at_fork"):  # a forked child is inside no product, whatever its parent's threads were doing
    os.register_at_fork(after_in_child=_one_thread_blas.__init__)  # type: ignore[misc]


@contextlib.contextmanager
def one_thread_blas() -> Iterator[None]:
    """Inside, every BLAS product runs on the thread that calls it, for code that has its own threads.

    BLAS computes on stale values beyond a matrix's edge too, and the flags that they raise would be warnings about
    nothing, so they are off; NaN and infinity in a result are found by the next layer's check of its input.
    """
    with np.errstate(over="ignore", invalid="ignore"), _one_thread_blas:
        yield


@with_gpu_twin
def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None, precision: str = "fp32") -> np.ndarray:
    """a @ b for matrices or equal stacks of them: (..., M, K) @ (..., K, N) -> (..., M, N), into `out` if given, which
    is neither a nor b. precision: on a GPU (`tinynet.backend.precision`)."""
    (M, K), N = a.shape[-2:], b.shape[-1]
    if out is None:
        out = buffers.empty((*a.shape[:-1], N), np.result_type(a, b))
    if is_plain():  # by NumPy's BLAS, on as many threads as that takes
        np.matmul(a, b, out=out)
        return out
    product = _columns if N >= M else _rows
    with one_thread_blas():  # small products too: the number of BLAS threads can change the last bits
        if out.size * K < SMALL:
            np.matmul(a, b, out=out)
        else:
            parallel_for(product, max(M, N), a, b, out)
    return out


def _rows(a: np.ndarray, b: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    np.matmul(a[..., start:stop, :], b, out=out[..., start:stop, :])


def _columns(a: np.ndarray, b: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    np.matmul(a, b[..., start:stop], out=out[..., start:stop])
