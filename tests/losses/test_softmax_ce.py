import math

import numpy as np
import oracles
import pytest
from bounds import roundings
from checks import assert_close, error_text, same_bits
from hypothesis import example, given
from hypothesis import strategies as st
from implementations import backward, current, every_implementation, everywhere, forward, gradchecked
from strategies import DTYPES, Filling, fillings, numbers

from tinynet.backend.device import to_device
from tinynet.losses import SoftmaxCE

sizes = st.integers(1, 6)
LABEL_DTYPES = st.sampled_from([np.int64, np.int32, np.uint8, np.int8, np.uint64])


def labels_for(N, K, seed):
    return np.random.default_rng(seed).integers(0, K, N)


@every_implementation(
    given(sizes, sizes, fillings, LABEL_DTYPES, st.sampled_from([1.0, 30.0])),
    example(1, 5, Filling(np.float64, "negative strides"), np.int64, 1.0),
    example(4, 3, Filling(np.float32, "Fortran order"), np.uint8, 1.0),
)
def test_agrees_with_the_definition(N, K, filling, label_dtype, scale):
    logits = filling.x((N, K)) * filling.dtype(scale)
    labels = labels_for(N, K, filling.seed).astype(label_dtype)
    before = logits.copy(), labels.copy()
    layer = SoftmaxCE()

    loss = forward(layer, logits, labels)
    dlogits = backward(layer)

    expected_loss, expected = oracles.softmax_ce(logits, labels.tolist())
    assert isinstance(loss, float) or (current().device != "cpu" and loss.shape == ())
    assert_close(loss, expected_loss, filling.dtype, size=np.abs(logits).max())  # a difference of logits
    assert_close(dlogits, expected, filling.dtype)
    assert dlogits.dtype == logits.dtype
    assert same_bits(logits, before[0])
    assert same_bits(labels, before[1])
    assert np.array_equal(backward(layer), dlogits)
    tripled = backward(layer, np.float64(3))
    assert_close(tripled, 3 * expected, filling.dtype)
    assert tripled.dtype == logits.dtype


@every_implementation(
    given(sizes, st.integers(2, 6), fillings),
    share=0.25,
)
def test_gradcheck(N, K, filling):
    report = gradchecked(SoftmaxCE(), filling.x((N, K)), labels_for(N, K, filling.seed))
    assert report.kinks == []
    assert report.checked["x"] == N * K


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [1e4, -1e4])
@everywhere
def test_stable_for_huge_logits(dtype, shift):
    layer = SoftmaxCE()
    logits = np.array([[shift, 0, shift - 1], [0, 1, 2]], dtype)
    loss, dlogits = forward(layer, logits, [1, 2]), backward(layer)
    expected_loss, expected = oracles.softmax_ce(logits, [1, 2])
    assert math.isfinite(loss)
    assert_close(loss, expected_loss, dtype)
    assert_close(dlogits, expected, dtype)


@everywhere
def test_both_extremes_in_one_row():
    layer = SoftmaxCE()
    assert forward(layer, np.array([[1e4, -1e4]]), [1]) == 2e4
    assert np.array_equal(backward(layer), [[1, -1]])
    assert forward(layer, np.array([[1e4, -1e4]]), [0]) == 0
    assert np.array_equal(backward(layer), [[0, 0]])


@everywhere
def test_chance_level():
    assert forward(SoftmaxCE(), np.zeros((7, 10)), np.arange(7)) == pytest.approx(
        math.log(10), rel=roundings(7 + 10 + 4)
    )  # sums of 10 and of 7, four more


@everywhere
def test_labels_may_be_a_list():
    logits = numbers((3, 4))
    assert forward(SoftmaxCE(), logits, [3, 0, 2]) == forward(SoftmaxCE(), logits, np.array([3, 0, 2]))


@everywhere
def test_labels_where_the_logits_are():
    """On a GPU they are not looked at, for which the host would have to wait: one that is no class makes NaN."""
    logits, labels, layer = numbers((3, 4)), np.array([3, 0, 2]), SoftmaxCE()
    expected = forward(layer, logits, labels), backward(layer)
    if current().device == "cpu":
        return
    there = to_device(labels, current().device)
    assert forward(layer, logits, there) == expected[0]
    assert np.array_equal(backward(layer), expected[1])
    for label in (-1, 4):
        assert np.isnan(forward(layer, logits, to_device(np.array([3, label, 2]), current().device)))


@pytest.mark.parametrize(("labels", "found"), [([0, 3, 9], "3 at index 1"), ([0, 2, -1], "-1 at index 2")])
def test_labels_out_of_range(labels, found):
    text = error_text(lambda: SoftmaxCE()(np.zeros((3, 3), np.float32), labels), ValueError)
    assert text == f"SoftmaxCE: expected labels in [0, 3), got {found}"


@pytest.mark.parametrize("labels", [[0.0, 1.0], [True, False], ["0", "1"]])
def test_labels_of_a_wrong_dtype(labels):
    text = error_text(lambda: SoftmaxCE()(np.zeros((2, 3), np.float32), labels), TypeError)
    got = np.asarray(labels).dtype
    assert text == f"SoftmaxCE: expected labels of an integer dtype, got {got}; of one-hot rows take .argmax(1)"


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [[0], [1]], [[0, 1]], 1])
def test_labels_of_a_wrong_shape(labels):
    text = error_text(lambda: SoftmaxCE()(np.zeros((2, 3), np.float32), labels), ValueError)
    assert text.startswith("SoftmaxCE: expected labels of shape (2,)")
    assert text.endswith(f"got {np.shape(labels)}")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1, 1)])
def test_wrong_shape_of_logits(shape):
    text = error_text(lambda: SoftmaxCE()(np.zeros(shape, np.float32), [0, 1]), ValueError)
    assert text == f"SoftmaxCE: expected x of shape (N, K), got {shape}"
