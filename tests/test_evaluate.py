import math

import numpy as np
import pytest

from tinynet.errors import NonFiniteError
from tinynet.evaluate import evaluate, label_ranks, weights_gone_bad
from tinynet.layers import Dropout, Layer, Linear, ReLU, Sequential


class Fixed(Layer):
    """Passes its input through: the loader's x are the logits."""

    def forward(self, x):
        return x


class Loader:
    def __init__(self, *batches):
        self.batches, self.epochs_read = batches, []

    def epoch(self, number):
        self.epochs_read.append(number)
        return iter(self.batches)


def batch(rows, labels):
    return np.array(rows, np.float32), np.array(labels)


def test_errors_and_loss_by_hand():
    even = [[0.0] * 8]  # a tie of eight
    # ranks: 0 of eight equal: the lowest class number wins; 5: five equal classes stand before it
    errors = evaluate(Fixed(), [batch(even, [0]), batch(even, [5]), batch(even, [4])])
    assert errors.top1_error == pytest.approx(2 / 3)
    assert errors.top5_error == pytest.approx(1 / 3)
    assert errors.loss == pytest.approx(math.log(8), rel=1e-6)


def test_every_picture_counts_the_same_in_batches_of_unequal_size():
    logits = np.random.default_rng(0).normal(0, 3, (7, 9))
    labels = np.arange(7)
    whole = evaluate(Fixed(), [(logits, labels)])
    parts = evaluate(Fixed(), [(logits[:5], labels[:5]), (logits[5:], labels[5:])])
    assert parts == pytest.approx(whole)
    by_hand = np.log(np.exp(logits).sum(1)) - logits[np.arange(7), labels]
    assert whole.loss == pytest.approx(by_hand.mean())


def test_ranks_against_a_stable_sort():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 4, (200, 12)).astype(np.float32)  # many ties
    labels = rng.integers(0, 12, 200)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    np.testing.assert_array_equal(label_ranks(logits, labels), expected)
    np.testing.assert_array_equal(label_ranks(logits, labels) == 0, logits.argmax(1) == labels)


def test_labels_may_be_a_list():
    logits = np.random.default_rng(2).normal(0, 3, (4, 7))
    assert evaluate(Fixed(), [(logits, [6, 0, 3, 3])]) == evaluate(Fixed(), [(logits, np.array([6, 0, 3, 3]))])


@pytest.mark.parametrize(("classes", "top5_error"), [(5, 0.0), (6, 1.0)])
def test_top5_error_is_zero_by_definition_below_six_classes(classes, top5_error):
    worst = batch([np.arange(classes, 0, -1)], [classes - 1])
    assert evaluate(Fixed(), [worst])[:2] == (1.0, top5_error)


def test_evaluates_epoch_0_of_a_loader_in_eval_mode():
    model = Sequential(Dropout(0.9))
    loader = Loader(batch(np.ones((4, 3)) * [3, 2, 1], [0, 0, 0, 0]))
    assert evaluate(model, loader).top1_error == 0  # with dropout, some rows would be all zero or worse
    assert loader.epochs_read == [0]
    assert model[0].step == 0


def test_every_layer_is_back_in_its_own_mode_after_success_and_failure():
    model = Sequential({"frozen": Dropout(0.5), "free": Dropout(0.5)})
    model["frozen"].eval()
    good, bad = batch([[1, 2]], [0]), batch([[np.nan, 2]], [0])
    evaluate(model, [good])
    assert (model.training, model["frozen"].training, model["free"].training) == (True, False, True)
    with pytest.raises(NonFiniteError):
        evaluate(model, [bad])
    assert (model.training, model["frozen"].training, model["free"].training) == (True, False, True)


def test_no_picture_is_an_error():
    with pytest.raises(ValueError, match="expected at least one picture"):
        evaluate(Fixed(), [])


def test_infinity_that_only_the_loss_meets_is_the_last_layers():
    model = Sequential({"fc1": Linear(2, 2), "inner": Sequential({"relu": ReLU(), "fc2": Linear(2, 2)})})
    for layer in (model["fc1"], model["inner"]["fc2"]):
        layer.weight.data[...] = 3e38
    model["fc1"].weight.data[...] = 1
    with pytest.raises(NonFiniteError, match=r"Linear 'inner\.fc2': gave NaN or infinity as its output") as caught:
        evaluate(model, [batch([[9, 9]], [0])])
    assert caught.value.layer == str(model["inner"]["fc2"])


def test_an_infinite_loss_of_finite_logits_is_the_last_layers():
    model = Sequential({"last": Fixed()})
    with pytest.raises(NonFiniteError, match=r"Fixed 'last': gave an output so large, 3e\+38, that the loss is inf"):
        evaluate(model, [batch([[3e38, -3e38]], [1])])


def test_weights_gone_bad_names_the_layer_nearest_to_the_loss():
    model = Sequential({"a": Linear(2, 2), "b": Linear(2, 2), "c": Linear(2, 2)})
    assert weights_gone_bad(model) is None
    model["a"].weight.data[0, 1] = np.nan
    assert weights_gone_bad(model) == ("Linear 'a'", "its weight holds NaN or infinity")
    model["b"].bias.data[1] = -np.inf
    assert weights_gone_bad(model) == ("Linear 'b'", "its bias holds NaN or infinity")
    lone = Linear(2, 2)
    lone.weight.data[0, 0] = np.inf
    assert weights_gone_bad(lone) == ("Linear", "its weight holds NaN or infinity")
