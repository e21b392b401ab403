import numpy as np
import oracles
import pytest
from checks import assert_close, error_text, forward_backward
from hypothesis import example, given
from hypothesis import strategies as st
from implementations import backward, current, every_implementation, everywhere, forward, gradchecked
from strategies import DTYPES, Filling, fillings, numbers, shapes

import tinynet
from tinynet.backend.device import on
from tinynet.layers import Dropout, Linear, Sequential

shares = st.sampled_from([0.1, 0.25, 0.5, 0.9])


def kept(shape, p, seed, stream, step):
    """By the definition: element i is kept if random word i is at least p * 2**32."""
    words = [oracles.random_word(i, seed, stream, step) for i in range(int(np.prod(shape)))]
    return np.array([word >= p * 2**32 for word in words]).reshape(shape)


@every_implementation(
    given(shapes, fillings, shares, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 2)),
    example((2, 3, 4, 5), Filling(np.float32, "batch innermost", "negative strides"), 0.5, 2**40 + 3, 9, 12),
)
def test_agrees_with_the_definition(shape, filling, p, seed, stream, step):
    layer = Dropout(p, seed, stream).at_step(step)
    x = filling.distinct_x(shape)
    y, dx, _ = forward_backward(layer, x, filling.dy)
    mask = kept(shape, p, seed, stream, step)
    assert_close(y, np.where(mask, x.astype(np.float64) / (1 - p), 0), filling.dtype)
    assert_close(dx, np.where(mask, filling.dy(shape).astype(np.float64) / (1 - p), 0), filling.dtype)
    assert layer.step == step + 1


@every_implementation(
    given(shapes, fillings, shares),
    share=0.25,
)
def test_gradcheck(shape, filling, p):
    gradchecked(Dropout(p), filling.x(shape), max_checks=30)


@every_implementation(
    given(shapes, fillings, shares),
    example((2, 3, 4, 5), Filling(np.float32, "sliced", "transposed"), 0.5),
    share=0.5,
)
def test_evaluation_is_the_identity(shape, filling, p):
    layer = Dropout(p).eval()
    x = filling.x(shape)
    y, dx, _ = forward_backward(layer, x, filling.dy)
    assert np.array_equal(y, x)
    assert np.array_equal(dx, filling.dy(shape))
    assert layer.step == 0
    assert not np.array_equal(forward(layer.train(), np.ones((8, 9))), np.ones((8, 9)))


@everywhere
def test_no_dropout_draws_nothing():
    x = numbers((4, 5))
    layer = Dropout(0.0)
    assert np.array_equal(forward(layer, x), x)
    assert np.array_equal(backward(layer, x), x)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@everywhere
def test_the_share_and_the_mean(p):
    """100,000 draws: the share that is dropped has a standard deviation of at most 0.0016."""
    y = forward(Dropout(p), np.ones((100, 1000)))
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    assert np.mean(y == 0) == pytest.approx(p, abs=0.008)
    assert y.mean() == pytest.approx(1, abs=0.04)


@everywhere
def test_each_training_step_draws_another_mask_and_at_step_repeats_it():
    x = np.ones((6, 7))
    layer = Dropout(0.5, seed=3)
    masks = [forward(layer, x) for _ in range(3)]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[1], masks[2])
    for step in (2, 0, 1):  # in any order, as a resumed run may ask
        assert np.array_equal(forward(layer.at_step(step), x), masks[step])


@everywhere
def test_evaluation_between_two_steps_changes_no_mask():
    x = np.ones((6, 7))
    plain, interrupted = Dropout(0.5), Dropout(0.5)
    forward(plain, x), forward(interrupted, x)
    forward(interrupted.eval(), x)
    assert np.array_equal(forward(plain, x), forward(interrupted.train(), x))


def test_the_mask_depends_on_seed_stream_step_and_index_alone():
    shape = (64, 7, 30, 20)  # large enough for several threads
    ones = np.ones(shape)
    mask = Dropout(0.5, seed=1, stream="drop6").at_step(5)(ones)
    layouts = [Filling(dtype, layout) for dtype in DTYPES for layout in ("batch innermost", "negative strides")]
    for filling in layouts:
        x = np.abs(filling.x(shape)) + 1
        assert np.array_equal(Dropout(0.5, 1, "drop6").at_step(5)(x) != 0, mask != 0)
    threads = tinynet.get_num_threads()
    try:
        tinynet.set_num_threads(3)
        assert np.array_equal(Dropout(0.5, 1, "drop6").at_step(5)(ones), mask)
    finally:
        tinynet.set_num_threads(threads)
    for other in (Dropout(0.5, 2, "drop6"), Dropout(0.5, 1, "drop7"), Dropout(0.5, 1, "drop6").at_step(1)):
        if other.step == 0:
            other.at_step(5)
        assert np.mean((other(ones) == 0) == (mask == 0)) == pytest.approx(0.5, abs=0.01)  # 268,800 draws: 0.001


@everywhere
def test_a_smaller_batch_gets_the_first_rows_of_the_mask():
    """Index in the batch, not the order of calls: part of a batch draws what it draws in the whole."""
    whole = forward(Dropout(0.5).at_step(4), np.ones((10, 6)))
    assert np.array_equal(forward(Dropout(0.5).at_step(4), np.ones((3, 6))), whole[:3])


@everywhere
def test_a_backward_of_its_own_lines_after_a_forward_of_any():
    """As if somebody put another backward in its place just now: on a GPU the twin keeps no mask, but makes it."""
    layer, x, dy = Dropout(0.4, seed=5).at_step(3), numbers((4, 3, 5)), numbers((4, 3, 5), seed=1)
    forward(layer, x)
    expected = backward(layer, dy)
    there = current().send(dy)
    with on(current().device):
        own = layer.backward(there)
    assert_close(current().bring(own), expected)
    assert_close(backward(layer, dy), expected)


def test_two_dropouts_of_a_net_draw_different_masks():
    net = Sequential({"drop6": Dropout(0.5), "fc": Linear(40, 40), "drop7": Dropout(0.5)})
    x = np.ones((5, 40))
    first, second = net["drop6"](x), net["drop7"](x)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, Dropout(0.5, stream="drop6")(x))
    assert np.array_equal(second, Dropout(0.5, stream="drop7")(x))


def test_at_step_reaches_every_dropout_of_a_net():
    net = Sequential(Dropout(0.5), Sequential(Linear(4, 40), Dropout(0.5)))
    x = np.ones((5, 4))
    first, second = net(x), net(x)
    assert not np.array_equal(first, second)
    assert net.at_step(0) is net
    assert np.array_equal(net(x), first)
    assert np.array_equal(net.at_step(1)(x), second)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_wrong_share(p):
    text = error_text(lambda: Dropout(p), ValueError)
    assert text == f"Dropout: expected 0 <= p < 1, the share that is dropped; got {p}"


def test_wrong_shape_of_dy():
    layer = Dropout(0.5)
    layer(np.ones((2, 3), np.float32))
    text = error_text(lambda: layer.backward(np.ones((3, 2), np.float32)), ValueError)
    assert text == "Dropout: expected dy of shape (2, 3), got (3, 2)"


def test_wrong_seed():
    text = error_text(lambda: Dropout(0.5, seed=-1), ValueError)
    assert text == "seed: expected a whole number in [0, 2**64), got -1"


def test_wrong_step():
    text = error_text(lambda: Sequential(Dropout(0.5)).at_step(-3), ValueError)
    assert text == "step: expected a whole number in [0, 2**32), got -3"


def test_wrong_stream():
    text = error_text(lambda: Dropout(0.5, stream=0.5)(np.ones(3)), ValueError)
    assert text == "stream: expected a whole number in [0, 2**32), got 0.5"


def test_repr_gives_the_share():
    assert repr(Dropout(0.25)) == "Dropout(p=0.25)"
