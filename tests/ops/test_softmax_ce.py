import numpy as np
import oracles
import pytest
from bounds import UNIT
from checks import assert_close
from strategies import numbers

from tinynet.backend.threads import set_num_threads
from tinynet.ops import softmax_ce
from tinynet.ops.softmax_ce import softmax_ce_backward, softmax_ce_forward

pytestmark = pytest.mark.usefixtures("_threads_as_before")


def test_exp_is_right_to_the_last_place_of_float32():
    x = np.concatenate([-np.logspace(-9, np.log10(86.99), 20_000), -np.linspace(0, 86.99, 20_000)]).astype(np.float32)
    rows = x[None].copy()
    softmax_ce._exp32_rows(rows, 0, x.size)
    unit_in_the_last_place = 2 * UNIT[np.dtype(np.float32)]
    np.testing.assert_allclose(rows[0], np.exp(x.astype(np.float64)), rtol=unit_in_the_last_place)


def test_exp_of_what_is_far_below_is_zero():
    rows = np.array([[0, -87.5, -100, -1e4, -3e38, -np.inf]], np.float32)
    softmax_ce._exp32_rows(rows, 0, rows.shape[1])
    assert rows.tolist() == [[1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 7), (33, 10), (130, 1000)])
def test_agrees_with_the_definition(shape, threads, dtype, monkeypatch):
    set_num_threads(threads)
    monkeypatch.setattr(softmax_ce, "GRAIN", 1)
    logits = 10 * numbers(shape, dtype)
    labels = np.random.default_rng(0).integers(0, shape[1], shape[0])
    loss, kept = softmax_ce_forward(logits, labels)
    p = kept[0]
    z = logits.astype(np.float64)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    few = {"dtype": dtype, "terms": shape[1] + 8}  # a sum of K powers, each of a rounded difference
    largest = np.abs(logits).max()  # the loss is a difference of logits
    assert_close(p, expected, **few)
    assert_close(loss, -np.log(expected[np.arange(len(z)), labels]).mean(), **few, size=largest)
    onehot = labels[:, None] == np.arange(shape[1])
    assert_close(softmax_ce_backward(kept, 0.25), 0.25 * (expected - onehot), **few, size=0.25)
    mean, dlogits = oracles.softmax_ce(logits, labels.tolist())
    assert_close(loss, mean, **few, size=largest)
    assert_close(softmax_ce_backward(kept, 1 / len(z)), dlogits, **few, size=1 / len(z))
