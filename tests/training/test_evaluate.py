import math
import threading
import tracemalloc

import numpy as np
import pytest
from bounds import roundings

from tinynet import random
from tinynet.data import Loader as PictureLoader
from tinynet.data import shapes
from tinynet.data.augment import TenCrop
from tinynet.errors import NonFiniteError
from tinynet.layers import Dropout, Flatten, Layer, Linear, ReLU, Sequential
from tinynet.training.evaluate import evaluate, label_ranks, predict, predict_parts, weights_gone_bad

# sums of at most ten powers; logits of at most 20 are rounded, and that is a relative error of their powers
SOFTMAX = roundings(10 + 2 * 20, np.float32)


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
    assert errors.loss == pytest.approx(math.log(8), rel=SOFTMAX)


def test_every_picture_counts_the_same_in_batches_of_unequal_size():
    logits = np.random.default_rng(0).normal(0, 3, (7, 9))
    labels = np.arange(7)
    whole = evaluate(Fixed(), [(logits, labels)])
    parts = evaluate(Fixed(), [(logits[:5], labels[:5]), (logits[5:], labels[5:])])
    assert parts == pytest.approx(whole, rel=SOFTMAX)
    by_hand = np.log(np.exp(logits).sum(1)) - logits[np.arange(7), labels]
    assert whole.loss == pytest.approx(by_hand.mean(), rel=SOFTMAX)


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


def softmax(logits):
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum(axis=-1, keepdims=True)


class Scaled(Layer):
    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * np.float32(self.factor)


@pytest.mark.parametrize(("views", "factors"), [(1, [1]), (3, [1]), (1, [1, -2]), (3, [1, -2, 0.5])])
def test_softmax_outputs_are_averaged_over_views_and_models(views, factors):
    V, N, K = views, 5, 7
    x = random.normal((2, V, N, K), 0, "x", dtype=np.float32) * 3
    labels = np.array([[0, 1, 2, 3, 6], [5, 5, 0, 2, 1]])
    batches = [(x[b].reshape(V * N, K), labels[b]) for b in range(2)]
    models = [Scaled(factor) for factor in factors]
    expected = np.mean([softmax(factor * x.astype(float)) for factor in factors], axis=(0, 2)).reshape(2 * N, K)
    found, order = predict(models, batches)
    np.testing.assert_allclose(found, expected, rtol=SOFTMAX)
    assert found.dtype == np.float64
    assert order.tolist() == labels.ravel().tolist()
    result = evaluate(models, batches)
    own = expected[np.arange(2 * N), order]
    assert result.loss == pytest.approx(-np.log(own).mean(), rel=SOFTMAX)
    ranks = (expected > own[:, None]).sum(axis=1)
    assert result.top1_error == (ranks >= 1).mean()
    assert result.top5_error == (ranks >= 5).mean()


@pytest.mark.parametrize(
    "part", [1, 7 * 6 * 2, 1 << 18]
)  # a row; two rows of six logits, of two models and three views
def test_the_parts_are_the_whole_in_its_order(monkeypatch, part):
    monkeypatch.setattr("tinynet.training.evaluate.PART", part)
    V, N, K = 3, 5, 7
    x = random.normal((2, V * N, K), 0, "x", dtype=np.float32) * 3
    batches = list(zip(x, np.arange(2 * N).reshape(2, N) % K, strict=True))
    models = [Fixed(), Scaled(-0.5)]
    parts = list(predict_parts(models, batches))
    assert [len(rows) for rows, _ in parts] == {1: [1] * 10, 84: [2, 2, 1] * 2, 1 << 18: [5, 5]}[part]
    expected = np.mean([softmax(factor * x.astype(float).reshape(2, V, N, K)) for factor in (1, -0.5)], axis=(0, 2))
    whole, labels = predict(models, batches)
    np.testing.assert_allclose(whole, expected.reshape(2 * N, K), rtol=SOFTMAX)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([own for _, own in parts]), np.arange(2 * N) % K)
    np.testing.assert_array_equal(labels, np.arange(2 * N) % K)


@pytest.mark.parametrize("known", [True, False])
def test_all_probabilities_take_their_memory_once(known):
    N, K, B = 3000, 500, 20  # 12 MB
    x, labels = batch(random.normal((B, K), 0, "x"), range(B))

    class Endless(Loader):
        def epoch(self, number):
            return ((x, labels) for _ in range(N // B))

    loader = Endless()
    if known:
        loader.dataset = range(N)
    tracemalloc.start()
    probabilities, _ = predict(Fixed(), loader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert probabilities.shape == (N, K)
    np.testing.assert_array_equal(probabilities, np.tile(probabilities[:B], (N // B, 1)))
    assert peak < 1.3 * probabilities.nbytes


def test_a_data_set_of_another_length_than_the_loader_says_is_no_matter():
    x, labels = batch(random.normal((4, 3), 0, "x"), [0, 1, 2, 0])
    whole = predict(Fixed(), [(x, labels)])[0]
    for length in (0, 2, 3, 4, 9):
        loader = Loader((x[:3], labels[:3]), (x[3:], labels[3:]))
        loader.dataset = range(length)
        np.testing.assert_array_equal(predict(Fixed(), loader)[0], whole)


def test_a_list_of_one_model_is_that_model():
    batches = [batch(random.normal((6, 9), 0, "x"), range(6))]
    assert evaluate([Fixed()], batches) == evaluate(Fixed(), batches)
    for one, other in zip(predict([Fixed()], batches), predict(Fixed(), batches), strict=True):
        assert np.array_equal(one, other)


def test_the_same_model_twice_and_the_same_view_twice_change_nothing():
    x, labels = batch(random.normal((6, 9), 0, "x") * 4, range(6))
    alone = evaluate(Fixed(), [(x, labels)])
    assert evaluate([Fixed(), Fixed()], [(x, labels)]) == pytest.approx(alone, rel=SOFTMAX)
    assert evaluate(Fixed(), [(np.concatenate([x, x]), labels)]) == pytest.approx(alone, rel=SOFTMAX)


def test_a_probability_too_small_for_a_number_has_a_finite_loss():
    x, labels = batch([[0, 5000]], [0])
    assert evaluate([Fixed(), Fixed()], [(x, labels)]).loss == 5000
    assert predict(Fixed(), [(x, labels)])[0].tolist() == [[0, 1]]


def test_ten_crops_of_a_loader():
    train = shapes(7, 16)
    model = Sequential(Flatten(), Linear(3 * 11 * 11, 10))
    found, labels = predict(model, PictureLoader(train, 4, shuffle=False, view=TenCrop(11), workers=1))
    assert np.array_equal(labels, train.labels)
    crops = [(top, left) for top, left in ((0, 0), (0, 5), (5, 0), (5, 5), (2, 2))]
    unit = (train.images / 255).astype(np.float32)
    parts = [unit[:, :, top : top + 11, left : left + 11][..., ::way] for way in (1, -1) for top, left in crops]
    weight, terms = np.abs(model[1].weight.data.reshape(10, -1)), 3 * 11 * 11 + 1
    logit = max((weight @ part.reshape(len(part), -1).T).max() for part in parts)  # what is added up for one, at most
    # the error of a logit is a relative one of its probability, twice: computed here and there
    allowed = 2 * roundings(terms, np.float32) * logit + SOFTMAX
    np.testing.assert_allclose(found, np.mean([softmax(model(part)) for part in parts], axis=0), rtol=2 * allowed)


def test_every_model_answers_in_evaluation_mode():
    x, labels = batch(random.normal((6, 9), 0, "x"), range(6))
    models = [Fixed(), Sequential(Dropout(0.9))]
    assert np.array_equal(predict(models, [(x, labels)])[0], predict([Fixed(), Fixed()], [(x, labels)])[0])


def test_every_model_is_back_in_its_own_mode():
    models = [Sequential(Dropout(0.5)), Sequential(Dropout(0.5)).eval()]
    good, bad = batch([[1, 2]], [0]), batch([[np.nan, 2]], [0])
    predict(models, [good])
    assert [model[0].training for model in models] == [True, False]
    with pytest.raises(NonFiniteError, match="Dropout"):
        predict(models, [bad])
    assert [model[0].training for model in models] == [True, False]


def test_after_an_error_the_loaders_workers_have_ended():
    model = Sequential(Flatten(), Linear(3, 2))  # not what 3 x 16 x 16 pixels need
    with pytest.raises(ValueError, match="Linear") as caught:
        evaluate(model, PictureLoader(shapes(60, 16), 4, workers=2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tinynet loader")]
    assert caught.traceback  # still held


def test_batches_of_other_numbers_of_classes_are_refused():
    for K in (1, 2, 4):  # one column would fit into any row
        with pytest.raises(ValueError, match=f"predict: expected 3 classes in every batch, as in the first, got {K}"):
            predict(Fixed(), [batch([[1, 2, 3]], [0]), batch([[1.0] * K], [0])])


class First(Layer):
    """The first two logits alone."""

    def forward(self, x):
        return x[:, :2]


@pytest.mark.parametrize("ask", [evaluate, predict])
@pytest.mark.parametrize(
    ("models", "batches", "error", "complaint"),
    [
        ([], [batch([[1, 2]], [0])], ValueError, "expected a model or a list of at least one, got an empty list"),
        ([Fixed(), len], [batch([[1, 2]], [0])], TypeError, "expected models that are a tinynet Layer, got builtin"),
        ([Fixed(), First()], [batch([[1, 2, 3]], [0])], ValueError, r"same number of classes, got \[3, 2\]"),
        (Fixed(), [batch([[1, 2]] * 5, [0, 1])], ValueError, "for 2 labels and V views of each picture, got 5"),
        (Fixed(), [batch([[1, 2]], [0, 1])], ValueError, r"expected x of V \* 2 pictures, .* got 1"),
        (Fixed(), [batch([[1, 2]], [])], ValueError, "for 0 labels"),
        (Fixed(), [], ValueError, "expected at least one picture"),
        ([Fixed(), Fixed()], [], ValueError, "expected at least one picture"),
        ([Fixed(), Fixed()], [batch([[np.inf, 2]], [0])], NonFiniteError, "Fixed: gave NaN or infinity as its output"),
    ],
)
def test_what_cannot_be_answered_is_refused(ask, models, batches, error, complaint):
    with pytest.raises(error, match=complaint):
        ask(models, batches)
