import numpy as np
import oracles
import pytest
from bounds import lrn_roundings, roundings
from checks import assert_close, error_text, forward_backward
from hypothesis import example, given
from implementations import backward, every_implementation, everywhere, forward, gradchecked
from strategies import DTYPES, Filling, Normalisation, fillings, normalisations, numbers

import tinynet
from tinynet.layers import LRN

PAPER_LIKE = Normalisation((2, 8, 3, 4), 5, 0.5, 0.75, 2.0, 2)
WIDER_THAN_THE_GROUP = Normalisation((1, 6, 2, 3), 7, 0.5, 0.6, 1.0, 3)


def lrn_of(case):
    return LRN(case.size, case.alpha, case.beta, case.k, case.groups)


@every_implementation(
    given(normalisations(), fillings),
    example(PAPER_LIKE, Filling(np.float64, "batch innermost", "negative strides")),
    example(PAPER_LIKE, Filling(np.float32, "transposed", "sliced")),
    example(WIDER_THAN_THE_GROUP, Filling(np.float64, "sliced", "batch innermost")),
)
def test_agrees_with_naive_loops(case, filling):
    x = filling.x(case.shape)
    y, dx, _ = forward_backward(lrn_of(case), x, filling.dy)
    few, more = (lrn_roundings(case.size, case.beta, way) for way in (False, True))
    assert_close(y, oracles.lrn(x, *case.constants), filling.dtype, few)
    assert_close(dx, oracles.lrn_backward(x, filling.dy(case.shape), *case.constants), filling.dtype, more)


@every_implementation(
    given(normalisations(), fillings),
    example(PAPER_LIKE, Filling()),
    share=0.25,
)
def test_gradcheck(case, filling):
    report = gradchecked(lrn_of(case), filling.x(case.shape), max_checks=30)
    assert report.kinks == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_columns_than_one_block(dtype):
    """The op walks over blocks of columns, 128 for 300 channels: four and a rest. Each column is on its own."""
    constants = 3, 0.5, 0.75, 2.0, 2
    x, dy = (numbers((4, 300, 9, 15), dtype, "batch innermost", seed) for seed in (2, 3))
    threads = tinynet.get_num_threads()
    try:
        tinynet.set_num_threads(1)
        y, dx, _ = forward_backward(LRN(*constants), x, lambda _: dy)
    finally:
        tinynet.set_num_threads(threads)
    for n, h, w in [(0, 0, 0), (3, 8, 14), (2, 2, 1), (1, 2, 2), (0, 4, 4), (3, 6, 5)]:
        column = np.s_[n : n + 1, :, h : h + 1, w : w + 1]
        assert_close(y[column], oracles.lrn(x[column], *constants), dtype)
        assert_close(dx[column], oracles.lrn_backward(x[column], dy[column], *constants), dtype)


@everywhere
def test_the_constants_make_the_term_matter():
    """Chainer's and convnetjs's tests missed a wrong gradient, because their constants made it vanish."""
    x, dy = numbers(PAPER_LIKE.shape), numbers(PAPER_LIKE.shape, seed=1)
    y, dx, _ = forward_backward(lrn_of(PAPER_LIKE), x, lambda _: dy)
    plain = 2.0**-0.75
    assert np.abs(y / x - plain).mean() > 0.1 * plain
    without_neighbours = dy * y / x  # the first term of dx alone
    assert np.abs(dx - without_neighbours).mean() > 0.1 * np.abs(dx).mean()


@pytest.mark.parametrize("groups", [1, 2])
@everywhere
def test_channel_48_and_channel_47(groups):
    """The paper's 96 channels lie 48 a tower: with groups=2 the towers do not see each other, with groups=1 they do."""
    layer = LRN(size=5, alpha=0.5, groups=groups)
    x = numbers((1, 96, 2, 3))
    y = forward(layer, x)
    bright = x.copy()
    bright[:, 48] = 5.0
    difference = np.abs(forward(layer, bright) - y)
    seen_by = [c for c in range(96) if difference[:, c].min() > 0]
    assert seen_by == ([48, 49, 50] if groups == 2 else [46, 47, 48, 49, 50])
    assert not difference[:, [c for c in range(96) if c not in seen_by]].any()

    forward(layer, x)
    dy = np.zeros_like(x)
    dy[:, 48] = 1.0
    dx = np.abs(backward(layer, dy))
    assert [c for c in range(96) if dx[:, c].min() > 0] == seen_by


@everywhere
def test_alpha_is_not_divided_by_size():
    x = np.ones((1, 5, 1, 1))
    y = forward(LRN(5, 0.5, 1.0, 2.0), x)
    assert y[0, 2, 0, 0] == pytest.approx(1 / (2 + 0.5 * 5), rel=roundings(lrn_roundings(5, 1.0)))


@pytest.mark.parametrize("size", [2, 4, 0, -1])
def test_even_sizes_are_refused(size):
    text = error_text(lambda: LRN(size), ValueError)
    assert text == f"LRN: expected an odd size, a window with a centre; got {size}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"groups": 0}, ["groups", "at least 1", "got 0"]),
        ({"k": 0.0}, ["k > 0", "k=0.0"]),
        ({"alpha": -0.1}, ["alpha >= 0", "alpha=-0.1"]),
        ({"alpha": float("nan")}, ["alpha", "nan"]),
        ({"k": float("inf")}, ["k", "inf"]),
        ({"beta": float("nan")}, ["beta", "nan"]),
        ({"groups": 2.0}, ["groups", "whole number", "got 2.0"]),
        ({"size": 3.0}, ["an odd size", "got 3.0"]),
    ],
)
def test_wrong_arguments(arguments, parts):
    text = error_text(lambda: LRN(**arguments), ValueError)
    assert text.startswith("LRN: expected ")
    for part in parts:
        assert part in text


@pytest.mark.parametrize("shape", [(2, 96), (96, 5, 5), (2, 4, 3, 3, 3)])
def test_wrong_shape_of_x(shape):
    text = error_text(lambda: LRN()(np.ones(shape, np.float32)), ValueError)
    assert text == f"LRN: expected x of shape (N, C, H, W), got {shape}"


def test_groups_that_do_not_divide_the_channels():
    layer = LRN(groups=2)
    for use in (layer.forward, lambda x: layer.output_shape(x.shape)):
        text = error_text(lambda use=use: use(np.ones((2, 5, 3, 4), np.float32)), ValueError)
        assert text == "LRN: expected a number of channels divisible by groups=2, got (2, 5, 3, 4)"


def test_wrong_shape_of_dy():
    layer = LRN()
    layer(np.ones((2, 4, 3, 5), np.float32))
    text = error_text(lambda: layer.backward(np.ones((2, 4, 5, 3), np.float32)), ValueError)
    assert text == "LRN: expected dy of shape (2, 4, 3, 5), got (2, 4, 5, 3)"


def test_repr_gives_the_arguments():
    assert repr(LRN(3, 0.5, 0.6, 1.0, 2)) == "LRN(size=3, alpha=0.5, beta=0.6, k=1, groups=2)"
