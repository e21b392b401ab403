"""Softmax with cross-entropy, and its gradient. CUDA twin: `kernels/softmax_ce.cu`.

Arrays here are (K, N): classes, and the pictures of the batch innermost. Each thread takes some pictures through all
steps, while they are in its cache.
"""

from typing import Any

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.threads import kernel, parallel_for

GRAIN = 1 << 17  # values a thread, at the least

# exp(r) for |r| <= ln(2) / 2, to the last place of float32 (Cephes, expf.c), highest power first
POLYNOMIAL = tuple(
    np.float32(c) for c in (1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665796e-2, 1.6666665e-1, 0.5, 1, 1)
)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950), np.float32(0.693359375), np.float32(-2.12194440e-4)
SMALLEST = np.float32(-87)  # below, exp is taken as 0: less than 2e-38


@kernel
def _exp32(x):
    """exp(x) for a float32 x <= 0, as instructions that the compiler can make vectors of: 2**i * exp(r)."""
    i = np.floor(x * LOG2_E + np.float32(0.5))
    r = x - i * LN2_HIGH - i * LN2_LOW
    value = POLYNOMIAL[0]
    for c in POLYNOMIAL[1:]:
        value = value * r + c
    power = np.int32((np.int32(max(i, np.float32(-126))) + np.int32(127)) << np.int32(23)).view(np.float32)
    return value * power if x > SMALLEST else np.float32(0)


@kernel
def _shift(logits, labels, shifted, loss, start, stop):
    """shifted = logits - the largest of the picture's; loss = -shifted at the label."""
    largest = logits[0, start:stop].copy()
    for k in range(1, len(logits)):
        row = logits[k, start:stop]
        for n in range(len(largest)):
            largest[n] = max(largest[n], row[n])
    for k in range(len(logits)):
        row, out = logits[k, start:stop], shifted[k, start:stop]
        for n in range(len(largest)):
            out[n] = row[n] - largest[n]
    for n in range(start, stop):
        loss[n] = -shifted[labels[n], n]


@kernel
def _exp32_rows(x, start, stop):
    for k in range(len(x)):
        row = x[k, start:stop]
        for n in range(len(row)):
            row[n] = _exp32(row[n])


@kernel
def _normalise(p, loss, start, stop):
    """p /= its sum over the classes; loss += ln(sum)."""
    total = np.zeros(stop - start, p.dtype)
    for k in range(len(p)):
        row = p[k, start:stop]
        for n in range(len(row)):
            total[n] += row[n]
    for n in range(start, stop):
        loss[n] += np.log(total[n - start])
        total[n - start] = 1 / total[n - start]
    for k in range(len(p)):
        row = p[k, start:stop]
        for n in range(len(row)):
            row[n] *= total[n]


@kernel
def _scale(p, dlogits, factor, start, stop):
    for k in range(len(p)):
        row, out = p[k, start:stop], dlogits[k, start:stop]
        for n in range(len(row)):
            out[n] = row[n] * factor


@with_gpu_twin
def softmax_ce_forward(logits: np.ndarray, labels: np.ndarray) -> tuple[float, Any]:
    """The mean over the pictures of -ln softmax(logits)[label], for logits (N, K); and what backward needs. On a GPU
    the mean is an array () there: float(mean) waits for it."""
    z = np.ascontiguousarray(logits.T)
    K, N = z.shape
    p, loss = buffers.empty(z.shape, z.dtype), np.empty(N, z.dtype)

    def some(start: int, stop: int) -> None:
        _shift(z, labels, p, loss, start, stop)
        if p.dtype == np.float32:
            _exp32_rows(p, start, stop)
        else:
            np.exp(p[:, start:stop], out=p[:, start:stop])
        _normalise(p, loss, start, stop)

    parallel_for(some, N, grain=-(-GRAIN // K))
    return float(np.mean(loss, dtype=np.float64)), (p.T, labels)


@with_gpu_twin
def softmax_ce_wrong(logits: np.ndarray, kept: Any, loss: Any, wrong: np.ndarray, bad: np.ndarray) -> None:
    """wrong (1,) += the pictures whose label is not the most likely class, the first among equals. bad (3,): [0] = 1 if
    `loss`, a logit or, by bad[1], a weight is NaN or infinite; [2] = 1 if a logit is. On a GPU nothing is waited for.

    kept and loss: what `softmax_ce_forward` gave for these logits (N, K). A flag that is set stays.
    """
    wrong += np.count_nonzero(logits.argmax(axis=1) != kept[1])
    bad[2] |= not np.isfinite(logits).all()
    bad[0] |= bool(bad[1] or bad[2] or not np.isfinite(loss))


@with_gpu_twin
def softmax_ce_backward(kept: Any, factor: float) -> np.ndarray:
    """dlogits (N, K) = factor * (softmax(logits) - onehot(labels)); `kept` is forward's."""
    p, labels = kept
    K, N = p.T.shape
    dlogits = buffers.empty((K, N), p.dtype)
    factor = p.dtype.type(factor)
    parallel_for(_scale, N, p.T, dlogits, factor, grain=-(-GRAIN // K))
    dlogits[labels, np.arange(N)] -= factor
    return dlogits.T
