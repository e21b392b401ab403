"""Matrix products on the threads of `parallel_for`, each with a single-threaded BLAS of its own.

BLAS libraries bring their own pool of threads, which spin while they wait for each other. Beside our own pool, or
beside another busy program, that costs up to ten times the product itself; here each thread computes its part of the
result alone, and they meet once, at the end. While a product runs, BLAS is limited to one thread in the whole process.
"""

import threading

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.ops import buffers
from tinynet.ops.parallel import parallel_for

SMALL = 1 << 20  # multiplications; a product below is not worth a second thread


class _OneThreadBlas:
    """A context that any number of threads may be inside at once: the first one in sets the limit, the last one out
    lifts it."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.controller: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.controller is None:
                self.controller = ThreadpoolController()  # finds the BLAS that NumPy has loaded
            if self.inside == 0:
                self.limit = self.controller.limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *failure: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.limit.restore_original_limits()


_one_thread_blas = _OneThreadBlas()


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """a @ b for matrices or equal stacks of them: (..., M, K) @ (..., K, N) -> (..., M, N), into `out` if given."""
    (M, K), N = a.shape[-2:], b.shape[-1]
    if out is None:
        out = buffers.empty((*a.shape[:-1], N), np.result_type(a, b))
    product = _columns if N >= M else _rows
    if out.size * K < SMALL:
        np.matmul(a, b, out=out)
    else:
        with _one_thread_blas:
            parallel_for(product, max(M, N), a, b, out)
    return out


def _rows(a: np.ndarray, b: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    np.matmul(a[..., start:stop, :], b, out=out[..., start:stop, :])


def _columns(a: np.ndarray, b: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    np.matmul(a, b[..., start:stop], out=out[..., start:stop])
