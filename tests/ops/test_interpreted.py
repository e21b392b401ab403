"""Every compiled loop once more as plain Python: same results, and a coverage tool can see its lines."""

import importlib
import pkgutil

import numpy as np
import pytest
from checks import assert_close
from strategies import numbers

from tinynet import ops
from tinynet.data import drawing as scenes
from tinynet.layers.windows import window_output
from tinynet.ops import augment, drawing, dropout, elementwise, im2col, lrn, max_pool, philox, softmax_ce
from tinynet.ops.conv import panels

X = numbers((2, 4, 5, 6))
SIZES = (3, 2), (2, 1), (1, 2), (1, 2)
NORMALISATION = (3, 0.5, 0.75, 2.0, 2)
POOL = (3, 2), (2, 1), (1, 1)
PLACE = max_pool.max_pool_forward(X, (3, 7), *POOL)[1]

LOGITS, LABELS = 30 * numbers((4, 5)), np.array([1, 0, 4, 2])

PICTURES = np.abs(50 * numbers((2, 3, 4, 5))).astype(np.uint8)
CROPS = np.array([1, 0, 1]), np.array([-1, 0, 2]), np.array([2, -2, 0]), np.array([True, True, False])
SCALE = numbers((3, 3)), (3, 4), numbers((3,)), numbers((3, 3, 4))

WINDOWS = ((3, 2), (2, 2), (1, 2), (1, 2)), ((3, 2), (1, 1), (1, 2), (1, 2))  # with a stride and without
WEIGHT = numbers((6, 2, 3, 2))


def panels_of(window):
    """y, with bias and ReLU or without, dweight and dx by `panels`, and one y as its one flat array."""
    x, dy = X.transpose(1, 2, 3, 0).copy(), numbers((6, *window_output("test", X.shape[2:], *window), 2))
    y, rectified, dx = np.empty_like(dy), np.empty_like(dy), np.empty_like(x)
    panels.forward(x, WEIGHT, y, window, 2)
    panels.forward(x, WEIGHT, rectified, window, 2, numbers((6,)), relu=True)
    panels.input_gradient(dy, WEIGHT, dx, window, 2)
    dweight = panels.weight_gradient(x, dy, WEIGHT.shape, window, 2)
    return np.concatenate([array.ravel() for array in (y, rectified, dx, dweight)])


def painted():
    """A picture for each figure and fragment, in each texture in turn."""
    count = len(scenes.FIGURES) + len(scenes.FRAGMENTS)
    layers, draws = np.zeros((count, 2), scenes.LAYER), np.abs(numbers((count, 2, 6)))
    layers["figure"][:, 0], layers["figure"][:, 1] = scenes.GROUND, np.arange(count)
    layers["texture"] = np.arange(2 * count).reshape(count, 2) % len(scenes.TEXTURES)
    layers["x"], layers["y"], layers["phase"] = 0.4, 0.6, draws[:, :, 0]
    layers["radius"], layers["cos"], layers["sin"], layers["thickness"] = 0.5, 0.6, 0.8, 0.3
    layers["wave_x"], layers["wave_y"], layers["colours"] = 3, 5, (draws % 1).reshape(count, 2, 2, 3)
    images = np.zeros((count, 3, 9, 9), np.uint8)
    drawing.paint(layers, np.full((count, 5), 0.5), np.abs(numbers((8, 8))) % 1, images)
    return images


def one_update():
    w, v = numbers((3, 4)), numbers((3, 4), seed=1)
    elementwise.sgd_step(w, v, numbers((3, 4), seed=2), 0.9, 0.1, 0.5)
    return np.stack([w, v])


# module: public calls that together reach every line of its loops
CASES = {
    augment: [
        lambda: augment.crops(PICTURES, *CROPS, *SCALE),
        lambda: augment.crops(PICTURES, *CROPS, *SCALE, one_thread=True),
    ],
    im2col: [
        lambda: im2col.im2col(X, *SIZES),
        lambda: im2col.col2im(numbers(im2col.im2col(X, *SIZES).shape), X.shape, *SIZES),
    ],
    dropout: [
        lambda: dropout.dropout_forward(numbers((3, 70)).copy("F"), 0.4, 2**40 + 1, 2, 3)[0],
        lambda: dropout.dropout_forward(numbers((3, 70)), 0.4, 2**40 + 1, 2, 3)[1],
        lambda: dropout.dropout_backward(X, X > 0, 0.4),
    ],
    drawing: [painted],
    elementwise: [
        lambda: np.array([elementwise.all_finite(np.full(9, value)) for value in (1, np.inf, -np.inf, np.nan)]),
        lambda: elementwise.relu(X)[0],
        lambda: np.array([elementwise.same_bits(X, X), elementwise.same_bits(X, -X)]),
        lambda: elementwise.relu_backward(X, X[::-1]),
        one_update,
    ],
    lrn: [
        lambda: lrn.lrn_forward(X, 3, 0.5, 0.75, 2.0, 2),
        lambda: lrn.lrn_forward(X, 3, 0.5, 0.6, 2.0, 1),
        lambda: lrn.lrn_backward(X, X[::-1], 3, 0.5, 0.75, 2.0, 2),
        lambda: lrn.lrn_backward(X, X[::-1], 5, 0.5, 0.6, 2.0, 1),
        lambda: lrn.lrn_pool_forward(X, NORMALISATION, (3, 7), *POOL)[0],
        lambda: lrn.lrn_pool_forward(X, NORMALISATION, (3, 7), *POOL)[1],
        lambda: lrn.relu_lrn_pool_backward(X, numbers((2, 4, 3, 7)), PLACE, NORMALISATION, *POOL),
    ],
    max_pool: [
        lambda: max_pool.max_pool(X, (3, 7), *POOL),
        lambda: max_pool.max_pool_forward(X, (3, 7), *POOL)[0],
        lambda: max_pool.max_pool_forward(X, (3, 7), *POOL)[1],
        lambda: max_pool.max_pool_backward(numbers((2, 4, 3, 7)), PLACE, X.shape[2:], *POOL),
    ],
    panels: [
        lambda: panels_of(WINDOWS[0]),
        lambda: panels_of(WINDOWS[1]),
    ],
    softmax_ce: [
        lambda: np.float64(softmax_ce.softmax_ce_forward(LOGITS, LABELS)[0]),
        lambda: softmax_ce.softmax_ce_forward(LOGITS, LABELS)[1][0],
        lambda: np.float64(softmax_ce.softmax_ce_forward(LOGITS.astype(np.float32), LABELS)[1][0]).round(6),
        lambda: softmax_ce.softmax_ce_backward((LOGITS, LABELS), 0.3),
    ],
    philox: [
        lambda: philox.philox_bits(13, 2**40 + 1, 2, 3),
        lambda: philox.philox_normal(13, 2**40 + 1, 2, 3),
        lambda: philox.philox_normal(14, 2**40 + 1, 2, 3),
    ],
}


def kernels(module):
    return {name: value for name, value in vars(module).items() if hasattr(value, "py_func")}


def interpret(module, monkeypatch):
    """Replace the module's compiled functions by their Python bodies; returns the set of those that were called."""
    called = set()

    def listed(name, body):
        def call(*args):
            called.add(name)
            return body(*args)

        return call

    def in_two_ranges(loop, length, *args, grain=1):
        loop(*args, 0, length // 2)
        loop(*args, length // 2, length)

    for name, compiled in kernels(module).items():
        monkeypatch.setattr(module, name, listed(name, compiled.py_func))
    monkeypatch.setattr(module, "parallel_for", in_two_ranges)
    return called


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf, which machine code does in silence
@pytest.mark.parametrize("module", CASES, ids=lambda module: module.__name__)
def test_python_and_machine_code_agree(module, monkeypatch):
    expected = [case() for case in CASES[module]]
    every_kernel = set(kernels(module))
    called = interpret(module, monkeypatch)
    for case, compiled in zip(CASES[module], expected, strict=True):
        got = case()
        assert got.dtype == compiled.dtype
        if got.dtype == np.float64:
            assert_close(got, compiled)
        else:
            assert np.array_equal(got, compiled)
    assert called == every_kernel


def test_every_module_with_a_compiled_loop_has_its_cases():
    names = [found.name for found in pkgutil.walk_packages(ops.__path__, f"{ops.__name__}.")]
    modules = [importlib.import_module(name) for name in names if not name.startswith("tinynet.ops.gpu")]
    assert {module for module in modules if kernels(module)} == set(CASES)
