import math

import numpy as np
import pytest
from checks import assert_close
from hypothesis import given
from hypothesis import strategies as st

from tinynet import random
from tinynet.inspect import features as module
from tinynet.inspect.features import activations, features, layer_names, nearest
from tinynet.layers import Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Sequential
from tinynet.training.evaluate import evaluation_mode

X = random.normal((3, 2, 5, 4), 0, "x").astype(np.float32)


def some_net():
    return Sequential(
        {
            "conv1": Conv2d(2, 3, (2, 3), seed=1),
            "top": Sequential(
                {"relu": ReLU(), "flatten": Flatten(), "drop": Dropout(0.5, seed=2), "fc": Linear(24, 6, seed=3)}
            ),
            "last": Linear(6, 4, seed=4),
        }
    )


NAMES = ["conv1", "top.relu", "top.flatten", "top.drop", "top.fc", "last"]


class Explodes(Layer):
    def forward(self, x):
        raise RuntimeError("it was asked to compute")


# activations


def test_each_layers_output_is_what_it_gives_in_a_forward():
    net = some_net().eval()
    kept = activations(net, X)
    assert list(kept) == layer_names(net) == NAMES
    x = net["conv1"](X)
    np.testing.assert_array_equal(kept["conv1"], x)
    for name in ("relu", "flatten", "drop", "fc"):
        x = net["top"][name](x)
        np.testing.assert_array_equal(kept[f"top.{name}"], x)
    np.testing.assert_array_equal(kept["last"], net(X))


def test_dropout_passes_everything_and_every_mode_is_as_it_was():
    net = some_net().train()
    net["top"]["relu"].training = False
    before = {name: layer.training for name, layer in net.named_layers()}
    kept = activations(net, X)
    np.testing.assert_array_equal(kept["top.drop"], kept["top.flatten"])
    assert {name: layer.training for name, layer in net.named_layers()} == before
    assert net.training
    with pytest.raises(ValueError, match="expected x of shape"):
        activations(net, X[:, :1])
    assert {name: layer.training for name, layer in net.named_layers()} == before


def test_the_named_layers_alone_in_the_nets_order_and_not_further():
    net = Sequential({"first": ReLU(), "second": ReLU(), "third": Explodes()})
    kept = activations(net, X, ["second", "first"])
    assert list(kept) == ["first", "second"]
    assert list(activations(net, X, "second")) == ["second"]
    with pytest.raises(RuntimeError, match="asked to compute"):
        activations(net, X)


def test_unknown_names_are_named_with_those_there_are():
    with pytest.raises(KeyError, match=r"layers out of conv1, top.relu, .*, last; got 'fc', 'top'"):
        activations(some_net(), X, ["fc", "last", "top"])


def test_what_is_no_sequential():
    with pytest.raises(TypeError, match="expected a Sequential, got ReLU; put it into one"):
        activations(ReLU(), X)


def test_evaluation_mode_ends_with_an_error():
    net = some_net().train()
    context = evaluation_mode(net)
    context.__enter__()
    assert not any(layer.training for _, layer in net.named_layers())
    assert not context.__exit__(RuntimeError, RuntimeError("stop"), None)
    assert all(layer.training for _, layer in net.named_layers())


# features of many pictures


def batches(*sizes, views=1):
    start = 0
    for n in sizes:
        x = random.normal((n * views, 2, 5, 4), 0, "batch", step=start).astype(np.float32)
        yield x, np.zeros(n, np.int64)
        start += n


def test_features_of_all_batches_one_row_a_picture():
    net = some_net()
    found = features(net, batches(4, 4, 3), "conv1")
    assert found.shape == (11, 24)
    whole = np.concatenate([x for x, _ in batches(4, 4, 3)])
    expected = activations(net, whole)["conv1"].reshape(11, 24)
    assert_close(found, expected, np.float32, terms=2 * 13)  # sums of 12 products and a bias, twice
    np.testing.assert_array_equal(features(net, batches(4, 4, 3), "conv1", limit=6), found[:6])
    np.testing.assert_array_equal(features(net, batches(4, 4, 3), "conv1", limit=99), found)


def test_of_several_views_the_mean():
    net = some_net()
    found = features(net, batches(2, views=3), "top.fc")
    ((x, _),) = batches(2, views=3)
    each = activations(net, x)["top.fc"]
    assert_close(found, np.array([each[n::2].mean(axis=0) for n in range(2)]), np.float32, terms=2 * 4)


def test_a_loader_is_read_in_epoch_0_and_not_beyond_the_limit():
    class Loader:
        def epoch(self, number):
            assert number == 0
            yield X, np.zeros(3, np.int64)
            raise RuntimeError("one batch is enough")

    assert features(some_net(), Loader(), "last", limit=3).shape == (3, 4)
    assert features(some_net(), Loader(), "last", limit=2).shape == (2, 4)
    with pytest.raises(RuntimeError, match="one batch"):
        features(some_net(), Loader(), "last", limit=4)


def test_features_of_nothing():
    with pytest.raises(ValueError, match="expected at least one picture"):
        features(some_net(), [], "last")
    with pytest.raises(ValueError, match="expected limit to be at least 1, got 0"):
        features(some_net(), batches(2), "last", limit=0)
    for labels in (np.zeros(2, int), np.zeros(0, int)):
        with pytest.raises(ValueError, match=rf"V views of each picture, got 3 for {len(labels)} labels"):
            features(some_net(), [(X, labels)], "last")


# neighbours


@given(st.integers(1, 12), st.integers(0, 4), st.integers(1, 5), st.integers(1, 30), st.integers(0, 99), st.booleans())
def test_nearest_is_what_looking_at_all_gives(N, Q, F, block, seed, single):
    """Small whole numbers: many are equally near."""
    dtype = np.float32 if single else np.float64
    table = (random.bits((N, F), seed, "table") % 3).astype(dtype)
    queries = (random.bits((Q, F), seed, "queries") % 3).astype(dtype)
    k = 1 + seed % N
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = nearest(queries, table, k)
    expected = [sorted(range(N), key=lambda n: (math.dist(query, table[n]), n))[:k] for query in queries]
    assert found.shape == (Q, k)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_near_ones_far_from_the_origin_are_told_apart():
    table = np.float64(1e8) + np.array([[3e-3], [1e-3], [2e-3], [0.0]])
    assert nearest(table[3:], table, 4).tolist() == [[3, 1, 2, 0]]


def test_distances_of_integers_do_not_wrap_around():
    assert nearest(np.array([[250]], np.uint8), np.array([[4], [200]], np.uint8), 1).tolist() == [[1]]


@pytest.mark.parametrize(
    ("queries", "table", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros((4, 2)), 1, r"of the same F, got \(2, 3\) and \(4, 2\)"),
        (np.zeros(3), np.zeros((4, 3)), 1, r"got \(3,\) and \(4, 3\)"),
        (np.zeros((2, 3)), np.zeros(3), 1, r"got \(2, 3\) and \(3,\)"),
        (np.zeros((2, 3)), np.zeros((4, 3)), 5, r"expected k in \[1, 4\], for 4 features, got 5"),
        (np.zeros((2, 3)), np.zeros((4, 3)), 0, "got 0"),
        (np.zeros((1, 1)), np.array([[0], [np.nan]]), 1, "expected finite features"),
        (np.full((1, 1), np.inf), np.full((2, 1), np.inf), 1, "expected finite features"),
        (np.full((1, 1), 1e200), np.zeros((2, 1)), 1, "too large to square"),
        (np.full((1, 1), np.inf), np.zeros((2, 1)), 1, "expected finite features"),
    ],
)
def test_what_has_no_neighbours(queries, table, k, message):
    with pytest.raises(ValueError, match=f"nearest: .*{message}"):
        nearest(queries, table, k)
