"""Can the checks fail? Errors that people really make are planted in every layer.

MUTANTS have a wrong backward: gradcheck must name each, and the body that all layers' tests share must fail, in each
implementation. INVISIBLE are wrong forward and backward alike, so that no gradient check can see them: the naive loops
must. A mutant computes on the CPU; on the simulated GPU it gets its arrays from there and its results are brought back.
"""

import contextlib
import re
import types

import numpy as np
import oracles
import pytest
from checks import assert_close, forward_backward
from implementations import backward as backward_pass
from implementations import everywhere
from implementations import forward as forward_pass
from strategies import distinct_numbers, numbers

from tinynet import gradcheck
from tinynet.backend.device import on, to_cpu, to_device
from tinynet.errors import GradcheckError
from tinynet.fast import single
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

RIGHT = {kind: (kind.forward, kind.backward) for kind in ORIGINALS}


def kind_of(layer):
    """The class of ORIGINALS that this is, or a mutant of."""
    return next(kind for kind in type(layer).__mro__ if kind in ORIGINALS)


def right_forward(layer, *args):
    """By the layer's own lines, as they were before anything was planted."""
    return RIGHT[kind_of(layer)][0](layer, *args)


def right_backward(layer, *dy):
    return RIGHT[kind_of(layer)][1](layer, *dy)


def grads_of(layer, dy):
    """dx and what one right backward adds to each .grad; the .grad themselves are left alone."""
    before = {name: parameter.grad.copy() for name, parameter in layer.named_parameters()}
    dx = right_backward(layer, dy)
    added = {}
    for name, parameter in layer.named_parameters():
        added[name] = parameter.grad - before[name]
        parameter.grad[...] = before[name]
    return dx, added


def mutant_of(kind, backward, forward=None):
    """A layer as in ORIGINALS with another backward(self, dy), or forward, its input and the other arguments."""
    make, x, args = ORIGINALS[kind]
    layer = make()
    methods = {"backward": backward} | ({"forward": forward} if forward else {})
    layer.__class__ = type(kind.__name__, (kind,), methods)
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
        return right_backward(self, dy)

    return backward


def changing_dy(self, dy):
    dx = right_backward(self, dy)
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
    shape, place = self.saved
    (KH, KW), stride, padding, _ = self.window
    N, C, H, W = shape
    dx = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]))
    for n, c, i, j in np.ndindex(dy.shape):
        where = np.s_[n, c, i * stride[0] : i * stride[0] + KH, j * stride[1] : j * stride[1] + KW]
        dx[where] = overlap(dx[where], dy[n, c, i, j] * route(divmod(int(place[n, c, i, j]), KW)))
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]


def at(kh, kw):
    share = np.zeros((3, 3))
    share[kh, kw] = 1
    return share


def nonzero_of_last(old, new):
    return np.where(new != 0, new, old)


def softmax_part(self, N=None, axis=1, onehot=1.0, shift=0, dy=1.0):
    p, labels = self.saved
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


# what no gradient check can see: forward and backward are wrong alike


@contextlib.contextmanager
def changed(layer, changes):
    """The layer has other attributes, each a value or a function of the layer."""
    before = {name: getattr(layer, name) for name in changes}
    new = {name: change(layer) if callable(change) else change for name, change in changes.items()}
    for name, value in new.items():
        setattr(layer, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


def with_settings(**changes):
    """(forward, backward) of the right lines with other attributes."""

    def forward(self, *args):
        with changed(self, changes):
            return right_forward(self, *args)

    def backward(self, dy):
        with changed(self, changes):
            return right_backward(self, dy)

    return forward, backward


def with_weight(change):
    """(forward, backward) for `change(weight)`, which is its own inverse."""

    @contextlib.contextmanager
    def other_weight(layer):
        weight = layer.weight.data
        layer.weight.data = np.ascontiguousarray(change(weight))
        try:
            yield
        finally:
            layer.weight.data = weight

    def forward(self, x):
        with other_weight(self):
            return right_forward(self, x)

    def backward(self, dy):
        with other_weight(self):
            dx, added = grads_of(self, dy)
        self.bias.grad += added["bias"]
        self.weight.grad += change(added["weight"])
        return dx

    return forward, backward


def with_y(change, undo):
    """(forward, backward) of change(y), linear, and undo(dy), its transpose."""
    return (
        lambda self, *args: change(right_forward(self, *args)),
        lambda self, dy: right_backward(self, np.ascontiguousarray(undo(dy))),
    )


def pictures_of_columns_mixed(y):
    """(O, OH, OW, N) of the product of im2col taken for (O, N, OH, OW)."""
    N, O, OH, OW = y.shape
    return np.ascontiguousarray(y.transpose(1, 2, 3, 0)).reshape(O, N, OH, OW).transpose(1, 0, 2, 3)


def pictures_of_columns_back(dy):
    N, O, OH, OW = dy.shape
    return np.ascontiguousarray(dy.transpose(1, 0, 2, 3)).reshape(O, OH, OW, N).transpose(3, 0, 1, 2)


def elementwise(function, slope):
    """(forward, backward) of y = function(x), whose derivative is slope(x)."""

    def forward(self, x):
        self.saved = (x,)
        return function(x)

    return forward, lambda self, dy: dy * slope(self.saved[0])


def zeros_around(x, pool):
    (ph, pw) = pool.window[2]
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def no_padding(pool):
    return (*pool.window[:2], (0, 0), pool.window[3])


def pool_over_zeros(self, x):
    wide = zeros_around(x, self)
    with changed(self, {"window": no_padding}):
        return right_forward(self, wide)


def pool_over_zeros_backward(self, dy):
    ph, pw = self.window[2]
    with changed(self, {"window": no_padding}):
        dx = right_backward(self, dy)
    return dx[:, :, ph : dx.shape[2] - ph, pw : dx.shape[3] - pw]


def shares(share):
    """(forward, backward) of a pool whose dy goes to pixels by share(window, y), which y is the sum of, too."""

    def windows(self, x):
        (KH, KW), stride, (ph, pw), _ = self.window
        wide = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-np.inf)
        for n, c, i, j in np.ndindex(self.output_shape(x.shape)):
            where = np.s_[n, c, i * stride[0] : i * stride[0] + KH, j * stride[1] : j * stride[1] + KW]
            yield (n, c, i, j), where, wide[where]

    def forward(self, x):
        y = right_forward(self, x)
        self.saved = (x,)
        return y

    def backward(self, dy):
        (x,) = self.saved
        dx = zeros_around(np.zeros_like(x), self)
        for place, where, window in windows(self, x):
            dx[where] += dy[place] * share(window)
        ph, pw = self.window[2]
        return dx[:, :, ph : dx.shape[2] - ph, pw : dx.shape[3] - pw]

    return forward, backward


def last_of_equals(window):
    share = np.zeros(window.size)
    share[window.size - 1 - window.ravel()[::-1].argmax()] = 1
    return share.reshape(window.shape)


def loss_of(probabilities, slope):
    """(forward, backward) of the mean of -ln probabilities(logits)[label]; slope(self, p, onehot, N) is dlogits."""

    def forward(self, logits, labels):
        labels = np.asarray(labels)
        p = probabilities(logits)
        self.saved = p, labels, logits
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())

    def backward(self, dy=1.0):
        p, labels, logits = self.saved
        return slope(p, np.eye(p.shape[1])[labels], logits) * float(dy)

    return forward, backward


def softmax(z, axis=1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_without_maximum(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def twice_slope(p, onehot, logits):
    inner = softmax(logits)
    g = (p - onehot) / len(p)
    return inner * (g - (g * inner).sum(axis=1, keepdims=True))


def loss_of_all_pairs(self, logits, labels):
    self.saved = softmax(logits), np.asarray(labels)
    return float(-np.log(self.saved[0][:, self.saved[1]]).mean())


def all_pairs_backward(self, dy=1.0):
    p, labels = self.saved
    return (p - np.eye(p.shape[1])[labels].mean(axis=0)) / len(p) * float(dy)


def reversed_layers(self, x):
    for layer in reversed(list(self)):
        x = layer.forward(x)
    return x


NEGATIVE = distinct_numbers((3, 2, 5, 6)) - 100
WITH_TIES = np.round(numbers((3, 2, 5, 6)))
HUGE = 1000 * numbers((4, 5))
IN_FULL = None  # the input of ORIGINALS

# (layer, the planted error, (forward, backward), an x that shows it)
INVISIBLE = [
    (Conv2d, "kernel flipped in forward too", with_weight(lambda w: w[..., ::-1, ::-1]), IN_FULL),
    (Conv2d, "bias left out", with_settings(bias=None), IN_FULL),
    (
        Conv2d,
        "towers' outputs swapped",
        with_y(lambda y: np.roll(y, 3, axis=1), lambda dy: np.roll(dy, -3, axis=1)),
        IN_FULL,
    ),
    (Conv2d, "pictures of the batch mixed", with_y(pictures_of_columns_mixed, pictures_of_columns_back), IN_FULL),
    (ReLU, "leaky", elementwise(lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)), IN_FULL),
    (ReLU, "the absolute value", elementwise(np.abs, np.sign), IN_FULL),
    (ReLU, "cut off at 1", elementwise(lambda x: np.clip(x, 0, 1), lambda x: (x > 0) & (x < 1)), IN_FULL),
    (LRN, "alpha divided by size", with_settings(alpha=lambda layer: layer.alpha / layer.size), IN_FULL),
    (LRN, "groups forgotten", with_settings(groups=1), IN_FULL),
    (LRN, "a window too wide", with_settings(size=5), IN_FULL),
    (LRN, "k of another library", with_settings(k=2.0), IN_FULL),
    (LRN, "beta halved", with_settings(beta=0.375), IN_FULL),
    (MaxPool, "padding with 0", (pool_over_zeros, pool_over_zeros_backward), NEGATIVE),
    (MaxPool, "dy to all ties", shares(lambda window: window == window.max()), WITH_TIES),
    (MaxPool, "dy to the last of equals", shares(last_of_equals), WITH_TIES),
    (Dropout, "keep probability for drop probability", with_settings(p=0.25), IN_FULL),
    (Dropout, "not scaled", with_y(lambda y: y * 0.25, lambda dy: dy * 0.25), IN_FULL),
    (Dropout, "scaled twice", with_y(lambda y: y * 4, lambda dy: dy * 4), IN_FULL),
    (Dropout, "another seed", with_settings(seed=4), IN_FULL),
    (Linear, "bias left out", with_settings(bias=None), IN_FULL),
    (Linear, "weight not transposed", with_weight(lambda w: w.T), IN_FULL),
    (
        Flatten,
        "Fortran order",
        (
            lambda self, x: right_forward(self, x).reshape(len(x), -1) * 0 + x.reshape(len(x), -1, order="F"),
            lambda self, dy: dy.reshape(self.saved[0], order="F"),
        ),
        IN_FULL,
    ),
    (
        SoftmaxCE,
        "softmax over the batch",
        loss_of(lambda z: softmax(z, axis=0), lambda p, onehot, _: (p * onehot.sum(axis=0) - onehot) / len(p)),
        IN_FULL,
    ),
    (SoftmaxCE, "softmax twice", loss_of(lambda z: softmax(softmax(z)), twice_slope), IN_FULL),
    (SoftmaxCE, "labels broadcast over the batch", (loss_of_all_pairs, all_pairs_backward), IN_FULL),
    (
        SoftmaxCE,
        "a sum for the mean",
        (
            lambda self, logits, labels: right_forward(self, logits, labels) * len(logits),
            lambda self, dy=1.0: right_backward(self, dy) * len(self.saved[0]),
        ),
        IN_FULL,
    ),
    (
        SoftmaxCE,
        "maximum not subtracted",
        loss_of(softmax_without_maximum, lambda p, onehot, _: (p - onehot) / len(p)),
        HUGE,
    ),
    (Sequential, "layers in reverse order", (reversed_layers, in_forward_order), IN_FULL),
    (
        Sequential,
        "last layer skipped in forward too",
        (lambda self, x: self[0].forward(x), last_layer_skipped),
        IN_FULL,
    ),
]


# the body that each layer's tests share, with the naive loops as its oracle


def linear_expected(layer, x, dy):
    dx, dweight, dbias = oracles.linear_backward(x, layer.weight.data, dy)
    return oracles.linear(x, layer.weight.data, layer.bias.data), dx, {"weight": dweight, "bias": dbias}


def conv_expected(layer, x, dy):
    sizes = (*layer.window[1:], layer.groups)
    dx, dweight, dbias = oracles.conv2d_backward(x, layer.weight.data, dy, *sizes)
    return oracles.conv2d(x, layer.weight.data, layer.bias.data, *sizes), dx, {"weight": dweight, "bias": dbias}


def lrn_expected(layer, x, dy):
    constants = layer.size, layer.alpha, layer.beta, layer.k, layer.groups
    return oracles.lrn(x, *constants), oracles.lrn_backward(x, dy, *constants), {}


def pool_expected(layer, x, dy):
    sizes = *layer.window[:3], layer.ceil_mode
    return oracles.max_pool(x, *sizes), oracles.max_pool_backward(x, dy, *sizes), {}


def drop_expected(layer, x, dy):
    if not layer.training:
        return x, dy, {}
    words = [oracles.random_word(i, layer.seed, 0, 0) for i in range(x.size)]
    kept = np.array([word >= layer.p * 2**32 for word in words]).reshape(x.shape)
    return *(np.where(kept, array / (1 - layer.p), 0) for array in (x, dy)), {}


def flatten_expected(layer, x, dy):
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for n in range(len(x)):
        for i, index in enumerate(np.ndindex(x.shape[1:])):
            y[n, i], dx[(n, *index)] = x[(n, *index)], dy[n, i]
    return y, dx, {}


def sequential_expected(net, x, dy):
    hidden, _, _ = linear_expected(net["fc"], x, dy)
    y, dhidden, last = linear_expected(net["out"], hidden, dy)
    _, dx, first = linear_expected(net["fc"], x, dhidden)
    return y, dx, {f"fc.{name}": g for name, g in first.items()} | {f"out.{name}": g for name, g in last.items()}


EXPECTED = {
    Conv2d: conv_expected,
    ReLU: lambda layer, x, dy: (np.where(x > 0, x, 0), np.where(x > 0, dy, 0), {}),
    LRN: lrn_expected,
    MaxPool: pool_expected,
    Dropout: drop_expected,
    Linear: linear_expected,
    Flatten: flatten_expected,
    Sequential: sequential_expected,
}


def check(kind, layer, x, args):
    """Raises AssertionError unless the layer does, in the current implementation, what the naive loops do."""
    layer.astype(np.float64)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            parameter.data[...] = numbers(parameter.shape, seed=3)
    if kind is SoftmaxCE:
        loss, expected = forward_pass(layer, x, *args), oracles.softmax_ce(x, args[0].tolist())
        assert_close(loss, expected[0], size=np.abs(x).max())
        assert_close(backward_pass(layer), expected[1])
        assert_close(backward_pass(layer, 3.0), 3 * expected[1])
        return
    y, dx, gradients = forward_backward(layer, x, lambda shape: numbers(shape, seed=1))
    y_expected, dx_expected, gradients_expected = EXPECTED[kind](layer, x, numbers(y.shape, seed=1))
    assert_close(y, y_expected)
    assert_close(dx, dx_expected)
    assert gradients.keys() == gradients_expected.keys()
    for name, expected in gradients_expected.items():
        assert_close(gradients[name], expected)


def plant(monkeypatch, implementation, kind, backward, forward=None):
    """Put a mutant where the implementation finds what it runs: the class's method, or its twin's."""
    methods = {"backward": backward} | ({"forward": forward} if forward else {})
    if implementation.device != "cpu":
        methods = {name: brought(function, implementation.device) for name, function in methods.items()}
    if implementation.plain or kind not in single.TWINS:
        for name, function in methods.items():
            monkeypatch.setattr(kind, name, function)
    else:
        twin = single.TWINS[kind]
        methods = {"forward": twin.forward, "backward": twin.backward} | methods
        monkeypatch.setitem(single.TWINS, kind, types.SimpleNamespace(**methods))


def brought(function, device):
    """`function`, which computes on the CPU, for arrays on a device."""

    def move(layer, to):
        layer.to(to)
        for one in [layer, *(inside for _, inside in layer.named_layers())]:
            if "_saved" in vars(one):
                one.saved = tuple(moved(value, to) for value in one.saved)
            vars(one)["_where"] = to

    def moved(value, to):
        if not hasattr(value, "dtype") or not value.shape:
            return value
        return to_cpu(value) if to == "cpu" else to_device(value, to)

    def call(layer, *args):
        here = [moved(arg, "cpu") for arg in args]
        move(layer, "cpu")
        result = function(layer, *here)
        move(layer, device)
        for arg, value in zip(args, here, strict=True):
            if hasattr(arg, "device") and not np.array_equal(to_cpu(arg), value):
                with on(device):
                    arg[...] = to_device(value, device)
        return moved(result, device)

    return call


@everywhere
@pytest.mark.parametrize("kind", ORIGINALS, ids=lambda kind: kind.__name__)
def test_the_right_layer_passes_the_shared_body(kind):
    make, x, args = ORIGINALS[kind]
    check(kind, make(), x, args)
    for other, _, _, shown in INVISIBLE:
        if other is kind and shown is not None:
            check(kind, make(), shown, args)
    if kind is Dropout:
        check(kind, make().eval(), x, args)


@pytest.mark.parametrize(
    ("kind", "backward"),
    [pytest.param(kind, backward, id=f"{kind.__name__}: {error}") for kind, error, backward, _ in MUTANTS],
)
def test_a_planted_error_fails_the_shared_body(implementation, kind, backward, monkeypatch):
    make, x, args = ORIGINALS[kind]
    plant(monkeypatch, implementation, kind, backward)
    with pytest.raises(AssertionError):
        check(kind, make(), x, args)


@pytest.mark.parametrize(
    ("kind", "methods", "shown"),
    [pytest.param(kind, methods, x, id=f"{kind.__name__}: {error}") for kind, error, methods, x in INVISIBLE],
)
def test_what_no_gradient_check_sees_fails_the_shared_body(implementation, kind, methods, shown, monkeypatch):
    make, x, args = ORIGINALS[kind]
    plant(monkeypatch, implementation, kind, *methods[::-1])
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        check(kind, make(), x if shown is None else shown, args)


def test_dropout_that_is_active_in_evaluation_fails_the_shared_body(implementation, monkeypatch):
    make, x, args = ORIGINALS[Dropout]
    forward, backward = with_settings(training=True)
    plant(monkeypatch, implementation, Dropout, backward, forward)
    check(Dropout, make(), x, args)
    with pytest.raises(AssertionError):
        check(Dropout, make().eval(), x, args)


@pytest.mark.parametrize(
    ("kind", "methods"),
    [pytest.param(kind, methods, id=f"{kind.__name__}: {error}") for kind, error, methods, _ in INVISIBLE],
)
def test_no_gradient_check_sees_it(kind, methods):
    layer, x, args = mutant_of(kind, methods[1], methods[0])
    gradcheck(layer, x, *args, max_checks=30)


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
