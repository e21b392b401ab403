"""kernels/softmax_ce.cu: loss and gradient of naive loops, and what becomes of labels that are no class."""

import numpy as np
import oracles
from bounds import roundings
from checks import assert_close, assert_within
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import (
    C_NAME,
    Launch,
    batch_first,
    batch_last,
    batches,
    blank,
    both_dtypes,
    check_source,
    launches,
    normal,
    orders,
    seeds,
)

from tinynet.losses import SoftmaxCE
from tinynet.ops.softmax_ce import softmax_ce_wrong

classes = st.one_of(st.integers(1, 12), st.integers(30, 70))  # 32 threads share them


def forward(kernel, grid, order, logits, labels):
    """(mean, loss, p) for logits (N, K)."""
    dtype, (N, K) = logits.dtype.type, logits.shape
    loss, p, mean = blank(N, dtype), blank((K, N), dtype), blank(1, np.float64)
    run = Launch((grid,), (32, 32), order)
    run(kernel(f"softmax_ce_forward<{C_NAME[dtype]}>"), batch_last(logits), labels, loss, p, K, N)
    Launch((1,), (256,), order)(kernel(f"softmax_ce_mean<{C_NAME[dtype]}>"), loss, mean, N)
    return mean[0], loss, batch_first(p)


def backward(kernel, launch, p, labels, factor):
    dtype, (N, K) = p.dtype.type, p.shape
    dlogits = blank((K, N), dtype)
    name = f"softmax_ce_backward<{C_NAME[dtype]}>"
    launch(kernel(name), batch_last(p), labels, dlogits, K, N, float(dtype(factor)))
    return batch_first(dlogits)


def draw(N, K, spread, dtype, seed):
    labels = np.random.default_rng(seed).integers(0, K, N)
    return normal((N, K), dtype, seed) * dtype(spread), labels


def test_source():
    # 1024 threads have 64 registers each, and exp of a double wants many; float64 is for gradient checks
    check_source("softmax_ce", globals(), "tinynet/ops/softmax_ce.py", {"softmax_ce_forward<double>": 12})


@both_dtypes
@given(grid=st.integers(1, 3), order=orders, N=batches, K=classes, spread=st.sampled_from([1, 30, 1e4]), seed=seeds)
def test_softmax_ce_forward(kernel, dtype, grid, order, N, K, spread, seed):
    logits, labels = draw(N, K, spread, dtype, seed)
    mean, loss, p = forward(kernel, grid, order, logits, labels)
    naive_mean, naive_dlogits = oracles.softmax_ce(logits, labels)
    terms, largest = K + 8, np.abs(logits).max()  # a sum of K powers; a loss is a difference of logits
    assert_close(mean, naive_mean, dtype, terms, largest)
    assert_close(p.sum(axis=1, dtype=np.float64), 1, dtype, terms)
    assert_close(p, naive_dlogits * N + np.eye(K)[labels], dtype, terms)
    assert_close(mean, SoftmaxCE().forward(logits, labels), dtype, 2 * terms, largest)
    assert_close(mean, loss.mean(dtype=np.float64), terms=N, size=np.abs(loss).max())


@both_dtypes
@given(order=orders, N=st.one_of(batches, st.integers(250, 600)), seed=seeds)
def test_softmax_ce_mean(kernel, dtype, order, N, seed):
    loss, mean = normal(N, dtype, seed), blank(1, np.float64)
    Launch((1,), (256,), order)(kernel(f"softmax_ce_mean<{C_NAME[dtype]}>"), loss, mean, N)
    assert_within(mean[0], loss.mean(dtype=np.float64), 2 * roundings(N) * np.abs(loss).mean(dtype=np.float64))


@both_dtypes
@given(
    grid=st.integers(1, 3),
    order=orders,
    N=batches,
    K=classes,
    value=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    mean=st.sampled_from([0.5, np.nan, np.inf]),
    weights=st.booleans(),
    seed=seeds,
)
def test_softmax_ce_wrong(kernel, dtype, grid, order, N, K, value, mean, weights, seed):
    logits, labels = draw(N, K, 1, dtype, seed)
    logits = np.round(logits * 2)  # so that some are equal
    if value is not None:
        logits[seed % N, seed % K] = value
    wrong, bad = np.array([100], np.int32), np.array([0, weights, 0], np.int32)
    expected = wrong.copy(), bad.copy()
    run = Launch((grid,), (32, 32), order)
    args = batch_last(logits), labels, np.array([mean]), wrong, bad, K, N
    run(kernel(f"softmax_ce_wrong<{C_NAME[dtype]}>"), *args)
    softmax_ce_wrong(logits, (None, labels), mean, *expected)
    assert bad.tolist() == expected[1].tolist()
    assert bad.tolist() == [weights or value is not None or not np.isfinite(mean), weights, value is not None]
    if value is None:  # else a run ends, and nobody counts
        assert wrong[0] == expected[0][0]
        pairs = zip(logits, labels, strict=True)
        beaten = [any(z > row[k] or (z == row[k] and i < k) for i, z in enumerate(row)) for row, k in pairs]
        assert wrong[0] == 100 + sum(beaten)


@both_dtypes
@given(launch=launches(1, 2), N=batches, K=classes, seed=seeds)
def test_softmax_ce_backward(kernel, dtype, launch, N, K, seed):
    logits, labels = draw(N, K, 3, dtype, seed)
    _, _, p = forward(kernel, 1, "forward", logits, labels)
    dlogits = backward(kernel, launch, p, labels, 1 / N)
    _, naive = oracles.softmax_ce(logits, labels)
    assert_close(dlogits * N, naive * N, dtype, K + 10)
    twin = SoftmaxCE()
    twin.forward(logits, labels)
    assert_close(dlogits * N, twin.backward() * N, dtype, 2 * (K + 10))


@both_dtypes
@given(launch=launches(1, 2), N=batches, K=classes, wrong=st.sampled_from([-1, 0, -(2**63), 2**32]), seed=seeds)
def test_a_label_that_is_no_class_gives_nan(kernel, dtype, launch, N, K, wrong, seed):
    logits, labels = draw(N, K, 3, dtype, seed)
    at = seed % N
    labels[at] = wrong or K  # K: the first that is too large; 2**32: the lower half of its bits is the class 0
    mean, loss, p = forward(kernel, 1, "reversed", logits, labels)
    dlogits = backward(kernel, launch, p, labels, 1 / N)
    assert np.isnan(mean)
    assert np.flatnonzero(np.isnan(loss)).tolist() == [at]
    assert np.isnan(dlogits[at]).all()
    assert np.isfinite(np.delete(dlogits, at, axis=0)).all()


@both_dtypes
@given(N=batches, K=st.integers(2, 40), value=st.sampled_from([np.nan, np.inf]), seed=seeds)
def test_a_logit_that_is_not_finite_gives_nan(kernel, dtype, N, K, value, seed):
    logits, labels = draw(N, K, 3, dtype, seed)
    at = seed % N
    logits[at, seed % K] = value
    mean, loss, p = forward(kernel, 2, "forward", logits, labels)
    assert np.isnan(mean)
    assert np.flatnonzero(np.isnan(loss)).tolist() == [at]
    assert np.isnan(p[at]).all()
