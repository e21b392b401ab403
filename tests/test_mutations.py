"""Can the checks fail? Errors that people really make are planted in every backward, and gradcheck must catch each."""

import re

import numpy as np
import pytest
from strategies import distinct_numbers, numbers

from tinynet import gradcheck
from tinynet.errors import GradcheckError
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE


def conv():
    """A 3x3 kernel, so that its axes can be mixed up; all else lopsided."""
    return Conv2d(4, 6, 3, stride=(1, 2), padding=(1, 0), groups=2)


def normalisation():
    return LRN(3, alpha=0.5, beta=0.75, k=1.0, groups=2)


def pool():
    return MaxPool(3, stride=(2, 1), padding=(0, 1))


def drop():
    return Dropout(0.75, seed=3)


def two_layers():
    return Sequential({"fc": Linear(4, 4), "out": Linear(4, 4)})


# layer: how to make it, an input of which every entry counts, further arguments of forward
ORIGINALS = {
    Conv2d: (conv, numbers((3, 4, 5, 6)), ()),
    ReLU: (ReLU, distinct_numbers((3, 4, 2, 3)), ()),
    LRN: (normalisation, numbers((3, 6, 2, 3)), ()),
    MaxPool: (pool, distinct_numbers((3, 2, 5, 6)), ()),
    Dropout: (drop, numbers((4, 5, 6)), ()),
    Linear: (lambda: Linear(4, 4), numbers((4, 4)), ()),
    Flatten: (Flatten, numbers((3, 2, 4, 5)), ()),
    SoftmaxCE: (SoftmaxCE, numbers((4, 5)), (np.array([4, 0, 2, 0]),)),
    Sequential: (two_layers, numbers((3, 4)), ()),
}


def grads_of(layer, dy):
    """dx and what one right backward adds to each .grad; the .grad themselves are left alone."""
    before = {name: parameter.grad.copy() for name, parameter in layer.named_parameters()}
    dx = super(type(layer), layer).backward(dy)
    added = {}
    for name, parameter in layer.named_parameters():
        added[name] = parameter.grad - before[name]
        parameter.grad[...] = before[name]
    return dx, added


def mutant_of(kind, backward):
    """A layer as in ORIGINALS with another backward(self, dy), its input and the other arguments."""
    make, x, args = ORIGINALS[kind]
    layer = make()
    layer.__class__ = type(kind.__name__, (kind,), {"backward": backward})
    return layer, x, args


def with_parameters(change):
    """backward whose parameter gradients went through `change(name, gradient, layer, dy)`; dx is right."""

    def backward(self, dy):
        dx, added = grads_of(self, dy)
        for name, parameter in self.named_parameters():
            parameter.grad += change(name, added[name], self, dy)
        return dx

    return backward


def only(wanted, change):
    """`with_parameters` for one of them."""
    return with_parameters(lambda name, grad, layer, dy: change(grad, layer, dy) if name == wanted else grad)


def with_dx(change):
    """backward whose dx went through `change(dx, layer, dy)`; the parameters' gradients are right."""

    def backward(self, dy):
        dx, added = grads_of(self, dy)
        for name, parameter in self.named_parameters():
            parameter.grad += added[name]
        return change(dx, self, dy)

    return backward


def with_other_weight(change):
    """dx as it is for `change(weight)`."""

    def other_dx(dx, layer, dy):
        weight = layer.weight.data
        layer.weight.data = np.ascontiguousarray(change(weight))
        try:
            return grads_of(layer, dy)[0]
        finally:
            layer.weight.data = weight

    return with_dx(other_dx)


def overwriting(self, dy):
    dx, added = grads_of(self, dy)
    for name, parameter in self.named_parameters():
        parameter.grad[...] = added[name]
    return dx


def without(part):
    """backward that sees nothing of this part of dy."""

    def backward(self, dy):
        dy = dy.copy()
        dy[part] = 0
        return super(type(self), self).backward(dy)

    return backward


def changing_dy(self, dy):
    dx = super(type(self), self).backward(dy)
    dy *= 0.5
    return dx


def unevenly_scaled(factor):
    """Every entry off by a share of its own, between factor / 2 and factor."""
    return lambda grad, *_: grad * (1 + factor * np.linspace(0.5, 1, grad.size).reshape(grad.shape))


def lrn_terms(self, dy, window_sum=None, power=None, factor=2.0):
    """dx of LRN from its formula in NumPy, term by term, with a term replaced."""
    (x,) = self.saved

    def window(values, groups=self.groups, shift=0):
        total, per_group = np.zeros_like(values), values.shape[1] // groups
        for c in range(values.shape[1]):
            first, last = c - self.size // 2 + shift, c + self.size // 2 + shift
            for j in range(max(first, c // per_group * per_group), min(last, (c // per_group + 1) * per_group - 1) + 1):
                total[:, c] += values[:, j]
        return total

    scale = self.k + self.alpha * window(x * x)
    ratio = dy * x * scale ** (-self.beta - 1 if power is None else power)
    spread = window(ratio, **(window_sum or {}))
    return dy * scale**-self.beta - factor * self.alpha * self.beta * x * spread


def pool_routes(self, dy, route, overlap=np.add):
    """dx of MaxPool window by window; `route(window, place)` gives the share of each pixel under the window."""
    shape, place, _ = self.saved
    (KH, KW), stride, padding, _ = self.window
    N, C, H, W = shape
    dx = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]))
    for n, c, i, j in np.ndindex(dy.shape):
        where = np.s_[n, c, i * stride[0] : i * stride[0] + KH, j * stride[1] : j * stride[1] + KW]
        dx[where] = overlap(dx[where], dy[n, c, i, j] * route(divmod(int(place[c, i, j, n]), KW)))
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]


def at(kh, kw):
    share = np.zeros((3, 3))
    share[kh, kw] = 1
    return share


def nonzero_of_last(old, new):
    return np.where(new != 0, new, old)


def softmax_part(self, N=None, axis=1, onehot=1.0, shift=0, dy=1.0):
    (p, labels), _ = self.saved
    p = p / p.sum(axis=axis, keepdims=True)
    rows = np.arange(len(labels))
    p[rows, (labels + shift) % p.shape[1]] -= onehot
    return p * dy / (N or len(labels))


def fresh_mask(self, dy):
    return Dropout(self.p, self.seed).at_step(self.step)(dy)  # forward has moved on to the next step


def in_forward_order(self, dy):
    for layer in self:
        dy = layer.backward(dy)
    return dy


def last_layer_skipped(self, dy):
    return self[0].backward(dy)


# (layer, the planted error, backward, what the report must name: the array, then words of the cause)
MUTANTS = [
    (Conv2d, "kernel not flipped", with_other_weight(lambda w: w[..., ::-1, ::-1]), ["dx", "kernel not flipped"]),
    (Conv2d, "kernel flipped along its width only", with_other_weight(lambda w: w[..., ::-1]), ["dx"]),
    (Conv2d, "kernel transposed in dx", with_other_weight(lambda w: w.swapaxes(2, 3)), ["dx"]),
    (Conv2d, "towers swapped in dx", with_other_weight(lambda w: np.roll(w, 3, axis=0)), ["dx"]),
    (Conv2d, "dweight transposed", only("weight", lambda g, *_: g.swapaxes(2, 3)), ["weight.grad", "transposed"]),
    (Conv2d, "dweight flipped", only("weight", lambda g, *_: g[..., ::-1, ::-1]), ["weight.grad", "flipped"]),
    (
        Conv2d,
        "dweight a mean over the batch",
        only("weight", lambda g, *_: g / 3),
        ["weight.grad", "1/N once too often"],
    ),
    (Conv2d, "dweight of the wrong sign", only("weight", lambda g, *_: -g), ["weight.grad", "wrong sign"]),
    (Conv2d, "dweight never written", only("weight", lambda g, *_: 0 * g), ["weight.grad", "zero everywhere"]),
    (
        Conv2d,
        "bias not summed over pixels",
        only("bias", lambda g, layer, dy: dy[:, :, 0, 0].sum(axis=0)),
        ["bias.grad", "bias not summed"],
    ),
    (
        Conv2d,
        "bias not summed over the batch",
        only("bias", lambda g, layer, dy: dy[0].sum(axis=(1, 2))),
        ["bias.grad", "bias not summed"],
    ),
    (
        Conv2d,
        "bias a mean over pixels",
        only("bias", lambda g, layer, dy: g / (5 * 2)),
        ["bias.grad", "constant factor"],
    ),
    (Conv2d, "last column of dy dropped", without(np.s_[..., -1]), ["dx", "term dropped"]),
    (Conv2d, "last picture dropped", without(np.s_[-1]), ["dx", "term dropped"]),
    (Conv2d, "padding forgotten", with_dx(lambda dx, *_: np.roll(dx, 1, axis=2)), ["dx"]),
    (Conv2d, "gradient overwritten", overwriting, ["weight.grad", "overwritten"]),
    (Conv2d, "dy changed in place", changing_dy, ["dy", "changed in place"]),
    (Conv2d, "dx not returned", with_dx(lambda *_: None), ["dx", "returned None"]),
    (ReLU, "mask forgotten", with_dx(lambda dx, layer, dy: dy.copy()), ["dx"]),
    (ReLU, "mask inverted", with_dx(lambda dx, layer, dy: dy - dx), ["dx"]),
    (ReLU, "mask of dy, not of y", with_dx(lambda dx, layer, dy: dy * (dy > 0)), ["dx"]),
    (ReLU, "times y, not times its sign", with_dx(lambda dx, layer, dy: dy * layer.saved[0]), ["dx"]),
    (ReLU, "wrong sign", with_dx(lambda dx, *_: -dx), ["dx", "wrong sign"]),
    (ReLU, "a mean over the batch", with_dx(lambda dx, *_: dx / 3), ["dx", "1/N once too often"]),
    (LRN, "neighbours' term dropped", lambda self, dy: lrn_terms(self, dy, factor=0.0), ["dx", "term dropped"]),
    (LRN, "2 forgotten", lambda self, dy: lrn_terms(self, dy, factor=1.0), ["dx"]),
    (LRN, "plus between the terms", lambda self, dy: lrn_terms(self, dy, factor=-2.0), ["dx"]),
    (LRN, "alpha divided by size", lambda self, dy: lrn_terms(self, dy, factor=2 / 3), ["dx"]),
    (LRN, "power -beta for -beta - 1", lambda self, dy: lrn_terms(self, dy, power=-self.beta), ["dx"]),
    (LRN, "groups forgotten", lambda self, dy: lrn_terms(self, dy, window_sum={"groups": 1}), ["dx"]),
    (LRN, "window off by one", lambda self, dy: lrn_terms(self, dy, window_sum={"shift": 1}), ["dx"]),
    (LRN, "wrong sign", with_dx(lambda dx, *_: -dx), ["dx", "wrong sign"]),
    (MaxPool, "overlap overwritten", lambda self, dy: pool_routes(self, dy, lambda p: at(*p), nonzero_of_last), ["dx"]),
    (
        MaxPool,
        "to all pixels of the window",
        lambda self, dy: pool_routes(self, dy, lambda p: np.full((3, 3), 1 / 9)),
        ["dx"],
    ),
    (MaxPool, "kh and kw swapped", lambda self, dy: pool_routes(self, dy, lambda p: at(*p[::-1])), ["dx"]),
    (MaxPool, "to the first pixel of the window", lambda self, dy: pool_routes(self, dy, lambda p: at(0, 1)), ["dx"]),
    (MaxPool, "wrong sign", with_dx(lambda dx, *_: -dx), ["dx", "wrong sign"]),
    (MaxPool, "last row of dy dropped", without(np.s_[:, :, -1]), ["dx", "dropped"]),
    (Dropout, "mask not scaled", with_dx(lambda dx, layer, dy: dx * 0.25), ["dx", "constant factor", "0.25"]),
    (Dropout, "scaled twice", with_dx(lambda dx, layer, dy: dx * 4), ["dx", "4 x numeric"]),
    (Dropout, "mask forgotten", with_dx(lambda dx, layer, dy: dy.copy()), ["dx"]),
    (Dropout, "mask inverted", with_dx(lambda dx, layer, dy: dy * 4 - dx), ["dx"]),
    (Dropout, "a mask of its own", fresh_mask, ["dx"]),
    (Linear, "dweight transposed", only("weight", lambda g, *_: g.T), ["weight.grad", "transposed"]),
    (Linear, "weight transposed in dx", with_other_weight(lambda w: w.T), ["dx"]),
    (Linear, "bias not summed", only("bias", lambda g, layer, dy: dy[0]), ["bias.grad", "bias not summed"]),
    (Linear, "bias summed over the wrong axis", only("bias", lambda g, layer, dy: dy.sum(axis=1)), ["bias.grad"]),
    (
        Linear,
        "dweight a mean over the batch",
        only("weight", lambda g, *_: g / 4),
        ["weight.grad", "1/N once too often"],
    ),
    (Linear, "last input's term dropped", without(np.s_[:, -1]), ["dx", "term dropped"]),
    (Linear, "wrong sign", with_dx(lambda dx, *_: -dx), ["dx", "wrong sign"]),
    (Linear, "gradient overwritten", overwriting, ["weight.grad", "overwritten"]),
    (Linear, "dx of a wrong shape", with_dx(lambda dx, *_: dx[:, :-1]), ["dx", "expected", "(4, 4)", "(4, 3)"]),
    (Linear, "dx slightly off", with_dx(unevenly_scaled(1e-4)), ["dx"]),
    (Linear, "dweight slightly off", only("weight", unevenly_scaled(-1e-4)), ["weight.grad"]),
    (Flatten, "Fortran order", with_dx(lambda dx, layer, dy: dy.reshape(dx.shape, order="F")), ["dx"]),
    (Flatten, "batch backwards", with_dx(lambda dx, *_: dx[::-1]), ["dx", "flipped", "[0]"]),
    (Flatten, "channels last", with_dx(lambda dx, layer, dy: dy.reshape(3, 4, 5, 2).transpose(0, 3, 1, 2)), ["dx"]),
    (Flatten, "height and width swapped", with_dx(lambda dx, layer, dy: dy.reshape(3, 2, 5, 4).swapaxes(2, 3)), ["dx"]),
    (Flatten, "a mean over the batch", with_dx(lambda dx, *_: dx / 3), ["dx", "1/N once too often"]),
    (
        Flatten,
        "not put back in shape",
        with_dx(lambda dx, layer, dy: dy),
        ["dx", "expected", "(3, 2, 4, 5)", "(3, 40)"],
    ),
    (SoftmaxCE, "1/N missing", lambda self, dy=1.0: softmax_part(self, N=1, dy=dy), ["dx", "1/N missing"]),
    (SoftmaxCE, "onehot not subtracted", lambda self, dy=1.0: softmax_part(self, onehot=0.0, dy=dy), ["dx"]),
    (SoftmaxCE, "wrong sign", lambda self, dy=1.0: -softmax_part(self, dy=dy), ["dx", "wrong sign"]),
    (SoftmaxCE, "softmax over the batch", lambda self, dy=1.0: softmax_part(self, axis=0, dy=dy), ["dx"]),
    (SoftmaxCE, "labels off by one", lambda self, dy=1.0: softmax_part(self, shift=1, dy=dy), ["dx"]),
    (
        SoftmaxCE,
        "divided by the classes",
        lambda self, dy=1.0: softmax_part(self, N=5, dy=dy),
        ["dx", "constant factor"],
    ),
    (SoftmaxCE, "dy forgotten", lambda self, dy=1.0: softmax_part(self), ["dx", "constant factor"]),
    (Sequential, "layers in forward order", in_forward_order, ["dx"]),
    (Sequential, "last layer skipped", last_layer_skipped, ["dx"]),
    (Sequential, "gradient overwritten", overwriting, ["fc.weight.grad", "overwritten"]),
]


@pytest.mark.parametrize("kind", ORIGINALS, ids=lambda kind: kind.__name__)
def test_the_right_layer_passes(kind):
    """With the very input of the mutants."""
    make, x, args = ORIGINALS[kind]
    report = gradcheck(make(), x, *args)
    assert report.kinks == []
    assert report.checked["x"] == min(x.size, 100)
    assert max(report.worst.values()) < 1e-6  # gradcheck's rtol


@pytest.mark.parametrize(
    ("kind", "backward"),
    [
        (Conv2d, with_dx(lambda dx, *_: dx)),
        (LRN, lrn_terms),
        (MaxPool, lambda self, dy: pool_routes(self, dy, lambda p: at(*p))),
        (Linear, with_parameters(lambda name, grad, *_: grad)),
        (SoftmaxCE, lambda self, dy=1.0: softmax_part(self, dy=dy)),
    ],
)
def test_the_scaffold_of_the_mutants_plants_no_error_itself(kind, backward):
    layer, x, args = mutant_of(kind, backward)
    gradcheck(layer, x, *args)


@pytest.mark.parametrize(
    ("kind", "backward", "words"),
    [pytest.param(kind, backward, words, id=f"{kind.__name__}: {error}") for kind, error, backward, words in MUTANTS],
)
def test_a_planted_error_is_caught(kind, backward, words):
    layer, x, args = mutant_of(kind, backward)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(layer, x, *args)
    text = str(caught.value)
    assert text.startswith(f"gradcheck: {kind.__name__}: ")
    for word in words:
        assert word in text, text


def test_at_least_three_errors_a_layer():
    for kind in ORIGINALS:
        assert sum(one[0] is kind for one in MUTANTS) >= 3


@pytest.mark.parametrize("seed", range(5))
def test_the_verdict_does_not_hang_on_the_seed(seed):
    for kind, _, backward, _ in MUTANTS[::4]:
        layer, x, args = mutant_of(kind, backward)
        with pytest.raises(GradcheckError):
            gradcheck(layer, x, *args, seed=seed, max_checks=60)
    for make, x, args in ORIGINALS.values():
        gradcheck(make(), x, *args, seed=seed, max_checks=30)


def test_the_report_gives_array_index_both_values_and_their_difference():
    """Entries of dweight grow by different shares; the report's numbers are compared with the true ones."""
    layer, x, _ = mutant_of(Linear, only("weight", unevenly_scaled(0.5)))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(layer, x)
    text = str(caught.value)
    assert "Linear: weight.grad is wrong at 16 of 16 entries checked" in text
    lines = re.findall(r"weight\.grad\[(\d), (\d)\]\s+(\S+)\s+(\S+)\s+(\S+)$", text, re.MULTILINE)
    assert len(lines) == 5
    shares = 1 + 0.5 * np.linspace(0.5, 1, 16).reshape(4, 4)
    for i, j, analytic, numeric, error in lines:
        assert float(analytic) / float(numeric) == pytest.approx(shares[int(i), int(j)], rel=1e-4)
        assert float(error) == pytest.approx(1 - 1 / shares[int(i), int(j)], rel=0.02)
