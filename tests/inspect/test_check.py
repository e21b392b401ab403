"""`tinynet.inspect.check`: mistakes that people make, planted in copies of the layers' files, are found and named."""

import contextlib
import inspect

import numpy as np
import pytest

from tinynet.inspect import check, locate
from tinynet.inspect.check import check_all, check_layer
from tinynet.inspect.diagnosis import difference
from tinynet.inspect.examples import EXAMPLES, ROWS
from tinynet.inspect.reference import REFERENCES, SLIPS, slip
from tinynet.inspect.trial import Trial
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, Parameter, ReLU, Sequential
from tinynet.losses import SoftmaxCE

KINDS = list(ROWS)
each_layer = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

OWN_COL2IM = """

from tinynet.layers import windows


def col2im(cols, shape, kernel_size, stride, padding, dilation):
    N, C, H, W = shape
    OH, OW = windows.window_output("", (H, W), kernel_size, stride, padding, dilation)
    cols = cols.reshape(C, *kernel_size, OH, OW, N)
    dx = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]), cols.dtype)
    count = np.zeros_like(dx)
    for kh, kw, rows, columns in windows.taps((OH, OW), kernel_size, stride, dilation):
        dx[:, :, rows, columns] += cols[:, kh, kw].transpose(3, 0, 1, 2)
        count[:, :, rows, columns] += 1
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]
"""
CUT = "dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]"
ADD = "dx[:, :, rows, columns] += cols"
DROP = "np.where(kept, x * (1 / (1 - self.p)), 0)"
MEAN = ".mean(dtype=np.float64)"

# name: (layer, {old: new} in its file, the method that is wrong, words of the sentence)
MISTAKES = {
    # convolution
    "kernel not flipped in dx": (
        Conv2d,
        {
            "dcols = self.rows(x.dtype)": "turned = self.weight.data[..., ::-1, ::-1]\n"
            "        dcols = turned.reshape(self.groups, O // self.groups, -1)"
        },
        "backward",
        "",
    ),
    "dW flipped": (
        Conv2d,
        {".reshape(self.weight.shape)": ".reshape(self.weight.shape)[..., ::-1, ::-1]"},
        "backward",
        "flipped",
    ),
    "the stride forgotten in backward": (
        Conv2d,
        {"x.shape, *self.window)": "x.shape, self.window[0], 1, *self.window[2:])"},
        "backward",
        "fails for a dy",
    ),
    "OH for OW": (Conv2d, {"dy.transpose(1, 2, 3, 0)": "dy.transpose(1, 3, 2, 0)"}, "backward", ""),
    "padding cut by [p:-p]": (
        Conv2d,
        {CUT: "dx[:, :, padding[0] : -padding[0], padding[1] : -padding[1]]"},
        "backward",
        "gives dx of shape",
    ),
    "padding not cut off": (Conv2d, {CUT: "dx"}, "backward", "gives dx of shape"),
    "windows that overlap overwrite each other": (Conv2d, {ADD: ADD.replace("+=", "=")}, "backward", ""),
    "col2im takes the mean": (Conv2d, {CUT: "(dx / np.maximum(count, 1))" + CUT[2:]}, "backward", ""),
    "db a mean": (Conv2d, {"dy.sum(axis=(0, 2, 3))": "dy.mean(axis=(0, 2, 3))"}, "backward", "factor"),
    "db not summed over OW": (
        Conv2d,
        {"dy.sum(axis=(0, 2, 3))": "dy.sum(axis=(0, 2))[:, 0]"},
        "backward",
        "bias.grad",
    ),
    "1/N twice": (Conv2d, {".reshape(self.weight.shape)": ".reshape(self.weight.shape) / N"}, "backward", "1/N"),
    "only the first picture in backward": (
        Conv2d,
        {CUT: f"np.concatenate([{CUT}[:1], 0 * {CUT}[1:]])"},
        "backward",
        "",
    ),
    "only the first picture in forward": (
        Conv2d,
        {"        return y.transpose": "        y[..., 1:] = 0\n        return y.transpose"},
        "forward",
        "only the first picture",
    ),
    "the border of x left out of dW": (
        Conv2d,
        {"N, O, OH, OW = dy.shape": "x = x * (np.arange(x.shape[2]) > 0)[:, None]\n        N, O, OH, OW = dy.shape"},
        "backward",
        "weight.grad",
    ),
    "groups mixed in backward": (Conv2d, {"@ cols.transpose": "@ cols[:1].transpose"}, "backward", "weight.grad"),
    "groups mixed in forward": (
        Conv2d,
        {"(self.rows(x.dtype) @ cols)": "(self.rows(x.dtype) @ cols[:1])"},
        "forward",
        "",
    ),
    "a reshape without a transpose": (
        Conv2d,
        {"y.transpose(3, 0, 1, 2)": "y.reshape(N, O, OH, OW)"},
        "forward",
        "",
    ),
    "the bias forgotten": (
        Conv2d,
        {"            y += self.bias": "            y += 0 * self.bias"},
        "forward",
        "the bias is left out",
    ),
    "the kernel flipped, both ways alike": (
        Conv2d,
        {
            "return self.weight.of_type(dtype)": "return self.weight.of_type(dtype)[..., ::-1, ::-1]",
            ".reshape(self.weight.shape)": ".reshape(self.weight.shape)[..., ::-1, ::-1]",
        },
        "forward",
        "the kernel is flipped",
    ),
    # pooling
    "pooling windows that overlap overwrite each other": (
        MaxPool,
        {"dx[:, :, rows, columns] += np.where": "dx[:, :, rows, columns] = np.where"},
        "backward",
        "",
    ),
    "dy to all ties": (
        MaxPool,
        {
            "self.saved = x.shape, place": "self.saved = x, y",
            "(N, C, H, W), place = self.saved": "x, y = self.saved\n        N, C, H, W = x.shape",
            "dx = padded(": "pictures = padded(x, shape[2:], (KH, KW), stride, padding, value=-np.inf)\n"
            "        dx = padded(",
            "place == kh * KW + kw": "pictures[:, :, rows, columns] == y",
        },
        "backward",
        "every x that equals the maximum",
    ),
    "padding of 0": (MaxPool, {"padding, value=-np.inf": "padding, value=0"}, "forward", "minus infinity"),
    "the minimum": (
        MaxPool,
        {
            "value > y": "value < y",
            "np.maximum(y, value)": "np.minimum(y, value)",
            "value=-np.inf": "value=np.inf",
            "full_like(x, -np.inf": "full_like(x, np.inf",
        },
        "forward",
        "the minimum",
    ),
    "kh and kw swapped": (MaxPool, {"kh * KW + kw, dy": "kw * KH + kh, dy"}, "backward", ""),
    "another array returned than the one filled": (
        MaxPool,
        {f"return {CUT}": "return np.zeros_like(dy, shape=(N, C, H, W))"},
        "backward",
        "zero everywhere",
    ),
    # softmax and cross-entropy
    "1/N missing": (SoftmaxCE, {"(float(dy) / N)": "float(dy)"}, "backward", "1/N"),
    "1/N once too often": (SoftmaxCE, {"(float(dy) / N)": "(float(dy) / N / N)"}, "backward", "1/N"),
    "softmax over axis 0": (
        SoftmaxCE,
        {
            "logits.max(axis=1, keepdims=True)": "logits.max()",
            "np.exp(z).sum(axis=1, keepdims=True)": "np.broadcast_to(np.exp(z).sum(axis=0, keepdims=True), z.shape)",
            "np.log(total)[:, 0]": "np.log(total[np.arange(N), labels])",
        },
        "forward",
        "softmax over axis 0",
    ),
    "softmax twice": (
        SoftmaxCE,
        {"z = logits": "logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)\n        z = logits"},
        "forward",
        "softmax is taken twice",
    ),
    "the maximum not subtracted": (
        SoftmaxCE,
        {"logits - logits.max(axis=1, keepdims=True)": "logits"},
        "forward",
        "overflows",
    ),
    "eps in the log": (SoftmaxCE, {"np.log(total)": "np.log(total + 1e-3)"}, "forward", ""),
    "dy ignored": (SoftmaxCE, {"(float(dy) / N)": "(1 / N)"}, "backward", ""),
    "the diagonal of the Jacobian only": (
        SoftmaxCE,
        {"(p - self.onehot(labels, K))": "-self.onehot(labels, K) * (1 - p)"},
        "backward",
        "",
    ),
    "the sum over the batch": (
        SoftmaxCE,
        {MEAN: MEAN.replace("mean", "sum"), "(float(dy) / N)": "float(dy)"},
        "forward",
        "a sum over the batch",
    ),
    "labels are not looked at": (
        SoftmaxCE,
        {"self.xp.asarray(self.check_labels(labels, N, K))": "np.asarray(labels)", ", 0, np.nan)": ", 0, 0)"},
        "forward",
        "",
    ),
    "a label of -1": (
        SoftmaxCE,
        {"self.check_labels(labels, N, K)": "self.check_labels(np.maximum(labels, 0), N, K)"},
        "forward",
        "the label -1",
    ),
    # dropout
    "p as the share that is kept": (Dropout, {"words >= ": "words < "}, "forward", "not the share that is kept"),
    "not scaled": (Dropout, {" * (1 / (1 - self.p))": ""}, "forward", "multiplies what it keeps by 1 "),
    "scaled twice": (Dropout, {"(1 / (1 - self.p))": "(1 / (1 - self.p)) ** 2"}, "forward", "multiplies what it keeps"),
    "a new mask in backward": (
        Dropout,
        {
            "        kept, shape = self.saved\n": "        kept, shape = self.saved\n        if kept is not None:\n"
            "            kept = bits(shape, 9, 9, 9, self.part, self.xp) >= round(self.p * 2**32)\n"
        },
        "backward",
        "",
    ),
    "active in evaluation": (Dropout, {"self.training and self.p > 0": "self.p > 0"}, "forward", "in evaluation"),
    "the same mask in each step": (Dropout, {"self.step += 1": "self.step += 0"}, "forward", "count self.step up"),
    "the global generator": (
        Dropout,
        {"bits(x.shape, ": "(lambda shape, *_: np.random.default_rng().random(shape) * 2**32)(x.shape, "},
        "forward",
        "gives two results for one x",
    ),
    # ReLU
    "the mask from dy": (
        ReLU,
        {"np.where(y > 0, dy, 0)": "np.where(dy > 0, dy, 0)"},
        "backward",
        "does not grow in proportion",
    ),
    "the derivative without dy": (ReLU, {"y > 0, dy, 0": "y > 0, 1.0, 0"}, "backward", "does not use dy"),
    "the mask inverted": (ReLU, {"np.where(y > 0, dy, 0)": "np.where(y > 0, 0, dy)"}, "backward", ""),
    "dy passes everywhere": (ReLU, {"y > 0, dy": "y >= 0, dy"}, "backward", ""),
    "a leak, both ways alike": (
        ReLU,
        {
            "np.maximum(x, 0)": "np.where(x > 0, x, 0.01 * x)",
            "np.where(y > 0, dy, 0)": "np.where(y > 0, dy, 0.01 * dy)",
        },
        "forward",
        "negative numbers should become 0",
    ),
    "x changed in place": (ReLU, {"np.maximum(x, 0)": "np.maximum(x, 0, out=x)"}, "forward", "changes x in place"),
    "dy changed in place": (
        ReLU,
        {"return np.where(y > 0, dy, 0)": "dy *= y > 0\n        return dy"},
        "backward",
        "changes dy in place",
    ),
    "y changed in place": (
        ReLU,
        {"        return np.where": "        y[:1] *= 2\n        return np.where"},
        "backward",
        "changes y in place",
    ),
    "what the first forward kept": (
        ReLU,
        {"self.saved = (y,)": "self.first = getattr(self, 'first', y)\n        self.saved = (self.first,)"},
        "backward",
        "after two forwards",
    ),
    "float64 for float32": (ReLU, {"np.maximum(x, 0)": "np.maximum(x, np.zeros(1))"}, "forward", "gives float64"),
    "dx of float64": (ReLU, {"dy, 0)": "dy, np.zeros(1))"}, "backward", "dx of float64"),
    "the order in memory taken for the order of axes": (
        ReLU,
        {"np.maximum(x, 0)": "np.maximum(x, 0).ravel(order='K').reshape(x.shape)"},
        "forward",
        "how memory holds x",
    ),
    "self.saved not read": (
        ReLU,
        {"self.saved = (y,)": "self.y = y", "(y,) = self.saved": "y = self.y"},
        "backward",
        "BackwardBeforeForwardError",
    ),
    "no return in forward": (ReLU, {"        return y\n": ""}, "forward", "returns nothing"),
    "no return in backward": (ReLU, {"return np.where": "np.where"}, "backward", "returns nothing"),
    "a wrong name": (ReLU, {"np.maximum(x, 0)": "np.maximum(z, 0)"}, "forward", "NameError: name 'z'"),
    "NaN": (ReLU, {"np.maximum(x, 0)": "np.maximum(x, 0) / 0 * 0"}, "forward", "expected finite numbers"),
    "output_shape of another": (
        ReLU,
        {"        return shape": "        return shape[1:]"},
        "output_shape",
        "forward gives",
    ),
    # LRN
    "the neighbours' denominators left out": (
        LRN,
        {" - 2 * self.alpha * self.beta * x * spread": ""},
        "backward",
        "",
    ),
    "the factor 2 left out": (LRN, {"- 2 * self.alpha": "- self.alpha"}, "backward", ""),
    "the power of scale": (LRN, {"(-self.beta - 1)": "(-self.beta)"}, "backward", ""),
    "groups mixed in LRN's backward": (
        LRN,
        {"(-self.beta - 1), self.size, self.groups)": "(-self.beta - 1), self.size)"},
        "backward",
        "",
    ),
    "groups ignored, both ways alike": (
        LRN,
        {"self.size, self.groups)": "self.size)"},
        "forward",
        "groups are ignored",
    ),
    "alpha divided by size, both ways alike": (
        LRN,
        {"self.alpha *": "self.alpha / self.size *"},
        "forward",
        "alpha is divided by size",
    ),
    # Linear
    "weight transposed": (
        Linear,
        {"dy @ self.weight.of_type(x.dtype)": "dy @ self.weight.of_type(x.dtype).T"},
        "backward",
        "",
    ),
    "dW overwritten": (Linear, {"self.weight.grad += dy.T @ x": "self.weight.grad = dy.T @ x"}, "backward", "+="),
    "db of one picture": (Linear, {"dy.sum(axis=0)": "dy[0]"}, "backward", "bias.grad"),
    "dW a mean": (Linear, {"dy.T @ x": "dy.T @ x / len(x)"}, "backward", "1/N"),
    "the bias of Linear forgotten": (
        Linear,
        {"y + self.bias.of_type(x.dtype)": "y"},
        "forward",
        "the bias is left out",
    ),
    "the bias' gradient forgotten": (
        Linear,
        {"self.bias.grad += dy.sum(axis=0)": "pass"},
        "backward",
        "zero everywhere",
    ),
    # Flatten and Sequential
    "Fortran's order, both ways alike": (
        Flatten,
        {
            "x.reshape(self.output_shape(x.shape))": "x.reshape(self.output_shape(x.shape), order='F')",
            "dy.reshape(shape)": "dy.reshape(shape, order='F')",
        },
        "forward",
        "",
    ),
    "dy as it came": (Flatten, {"dy.reshape(shape)": "dy"}, "backward", "gives dx of shape"),
    "layers walked forwards in backward": (
        Sequential,
        {"in backward_steps(list(self))": "in reversed(backward_steps(list(self)))"},
        "backward",
        "fails for a dy",
    ),
    "layers walked backwards in forward": (
        Sequential,
        {"in forward_steps(list(self))": "in reversed(forward_steps(list(self)))"},
        "forward",
        "",
    ),
}


def copy_of(folder, kind, changes, more=""):
    """The class out of a copy of its file in which the changes were made."""
    source = inspect.getsource(inspect.getmodule(kind)) + more
    for old, new in changes.items():
        assert old in source, f"{kind.__name__} has no longer {old!r}: plant the mistake anew"
        source = source.replace(old, new)
    path = folder / f"{kind.__module__.split('.')[-1]}.py"
    path.write_text(source, encoding="utf-8")
    return locate.find(f"{path}:{kind.__name__}")


@each_layer
def test_a_layer_as_it_is_is_right(kind):
    verdict = check_layer(kind)
    assert verdict.right, str(verdict)
    assert verdict.sentence.startswith(f"{kind.__name__} is right: ")
    assert verdict.checks >= 26


@each_layer
def test_a_copy_of_its_file_is_right(tmp_path, kind):
    verdict = check_layer(copy_of(tmp_path, kind, {}, OWN_COL2IM if kind is Conv2d else ""))
    assert verdict.right, str(verdict)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(tmp_path, name):
    kind, changes, method, words = MISTAKES[name]
    copied = copy_of(tmp_path, kind, changes, OWN_COL2IM if kind is Conv2d else "")
    verdict = check_layer(copied)
    assert not verdict.right
    assert verdict.method == method, str(verdict)
    assert verdict.sentence.startswith(f"{method} of {kind.__name__} ("), str(verdict)
    assert words in verdict.sentence, str(verdict)
    assert "\n" not in verdict.sentence
    assert len(verdict.details) <= 15


def test_there_are_many_mistakes_in_both_directions():
    methods = [method for _, _, method, _ in MISTAKES.values()]
    assert len(methods) >= 70
    assert min(methods.count("forward"), methods.count("backward")) >= 25
    assert {kind for kind, *_ in MISTAKES.values()} == set(KINDS)


@each_layer
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_method_that_is_spoiled_is_named(monkeypatch, kind, method):
    """One number of many is a little off."""
    right = getattr(kind, method)

    def spoiled(self, *args):
        result = np.array(right(self, *args))
        result[(-1,) * result.ndim] += 1e-3
        return result

    monkeypatch.setattr(kind, method, spoiled)
    verdict = check_layer(kind)
    assert verdict.method == method, str(verdict)
    assert verdict.sentence.startswith(f"{method} of {kind.__name__} (")


@each_layer
@pytest.mark.parametrize("method", ["forward", "backward", "output_shape"])
def test_a_method_that_is_deleted_is_named(monkeypatch, kind, method):
    monkeypatch.delattr(kind, method)
    verdict = check_layer(kind)
    file = kind.__module__.replace(".", "/") + ".py"
    assert verdict.method == method
    assert verdict.sentence.startswith(f"{kind.__name__} has no {method}: write {method}(self, ")
    assert f" in {file} beside its " in verdict.sentence


def test_the_line_is_that_of_the_method():
    class Half(Layer):
        def forward(self, x):
            self.saved = (x,)
            return x * x

        def backward(self, dy):
            (x,) = self.saved
            return dy * x

    sentence = check_layer(Half, locate.examples_of(Half)).sentence
    line = inspect.getsourcelines(Half.backward)[1]
    assert f"(tests/inspect/test_check.py, line {line}) gives dx[" in sentence
    assert "analytic = 0.5 x numeric everywhere" in sentence


def test_the_line_of_an_error_is_that_where_it_came_up():
    class Broken(Layer):
        def forward(self, x):
            y = x + 1
            return y.no_such_thing

        def backward(self, dy):
            return dy

    sentence = check_layer(Broken, locate.examples_of(Broken)).sentence
    line = inspect.getsourcelines(Broken.forward)[1] + 2
    assert (
        f"forward of Broken (tests/inspect/test_check.py, line {line}) fails for an x of shape (2, 3, 4, 5): "
        in sentence
    )


def test_a_sequential_is_not_judged_before_what_is_inside(monkeypatch):
    monkeypatch.setattr(ReLU, "backward", lambda self, dy: np.zeros_like(dy))
    verdicts = {verdict.sentence.split()[0]: verdict for verdict in check_all() if not verdict.right}
    assert set(verdicts) == {"backward", "Sequential"}
    assert verdicts["Sequential"].sentence.startswith(
        "Sequential was not judged, for its ReLU is wrong: backward of ReLU"
    )


@pytest.mark.parametrize("change", [{"wins = value > y": "wins = value >= y"}])
def test_another_subgradient_is_right_too(tmp_path, change):
    """The last among equal maxima may have dy."""
    assert check_layer(copy_of(tmp_path, MaxPool, change)).right


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_gives_other_numbers_and_is_recognised_by_them(name):
    kind = next(kind for kind in ROWS if kind.__name__ == name)
    for cause, change in SLIPS[name]:
        named = []
        for example in ROWS[kind]:
            trial = Trial(kind, example)
            layer, x = trial.make(), trial.x("negative" if name == "MaxPool" else "apart")
            with contextlib.suppress(ValueError):  # layers that do not fit in another order
                y = REFERENCES[name](layer, x, *example.args, **change)
                if difference("y", y, REFERENCES[name](layer, x, *example.args), 1e-9):
                    named.append(slip(kind, layer, x, example.args, y))
        assert cause in named


class Scale(Layer):
    """y = scale * x."""

    example = {"features": 3}, (4, 3)

    def __init__(self, features):
        self.scale = Parameter(np.ones(features, np.float32))

    def forward(self, x):
        self.saved = (x,)
        return self.scale.data * x

    def backward(self, dy):
        (x,) = self.saved
        self.scale.grad += (dy * x).sum(axis=0)
        return dy * self.scale.data


def test_a_layer_says_itself_how_to_make_one():
    verdict = check_layer(Scale, locate.examples_of(Scale))
    assert verdict.right, str(verdict)
    assert "x of shape (4, 3)" in str(verdict)


def test_a_factor_of_one_hides_nothing(monkeypatch):
    """All scales are 1 at first: without other values dx would be right."""
    backward = Scale.backward

    def without_scale(self, dy):
        backward(self, dy)
        return dy

    monkeypatch.setattr(Scale, "backward", without_scale)
    assert check_layer(Scale, locate.examples_of(Scale)).method == "backward"


class MeanSquare(Layer):
    """A loss: a float, and a backward that may do without dy."""

    example = {}, (4, 3), (np.arange(12.0).reshape(4, 3),)

    def forward(self, x, target):
        self.saved = x, target
        return float(((x - target) ** 2).mean())

    def backward(self, dy=1.0):
        x, target = self.saved
        return 2 * (x - target) / x.size * dy


def test_a_loss_takes_further_arguments(monkeypatch):
    verdict = check_layer(MeanSquare, locate.examples_of(MeanSquare))
    assert verdict.right, str(verdict)
    monkeypatch.setattr(MeanSquare, "backward", lambda self, dy=1.0: 2 * (self.saved[0] - self.saved[1]) * dy / 3)
    verdict = check_layer(MeanSquare, locate.examples_of(MeanSquare))
    assert verdict.method == "backward"
    assert "a constant factor: analytic = 4 x numeric everywhere; 4 is the batch size" in verdict.sentence


def test_no_example_is_an_error():
    class Nothing(Layer):
        pass

    with pytest.raises(ValueError, match="Nothing: expected an example"):
        check_layer(Nothing)


@pytest.mark.parametrize("example", [3, ({}, 4), ((), (3,)), ({}, (0,))])
def test_an_example_that_is_none(monkeypatch, example):
    monkeypatch.setattr(Scale, "example", example)
    with pytest.raises((ValueError, TypeError), match=r"Scale\.example: expected"):
        locate.examples_of(Scale)


def test_the_examples_separate():
    """Sizes that would hide a mistake: equal height and width, one picture, one channel, a square kernel everywhere."""
    for kind, row in ROWS.items():
        assert all(example.shape[0] > 1 for example in row), kind
        assert all(example.shape[2] != example.shape[3] for example in row if len(example.shape) == 4), kind
    windows = [example.build(kind).window for kind in (Conv2d, MaxPool) for example in ROWS[kind]]
    assert {window[1] for window in windows} >= {(1, 2), (2, 1), (2, 2)}
    assert any(window[2] == (0, 0) for window in windows)
    assert any(window[2][0] != window[2][1] for window in windows)


def test_the_first_example_of_each_for_the_tests_of_every_layer():
    assert set(EXAMPLES) == set(ROWS)
    for kind, (make, shape, args, name) in EXAMPLES.items():
        layer = make()
        assert type(layer) is kind
        assert layer.output_shape(shape) == np.shape(layer.forward(np.ones(shape, np.float32), *args))
        assert name


def test_a_loop_without_an_end_is_named(monkeypatch):
    class Endless(Layer):
        example = {}, (2, 3)

        def forward(self, x):
            while True:
                pass

        def backward(self, dy):
            return dy

    monkeypatch.setattr(check, "LIMIT", 0.3)
    verdict = check_layer(Endless, locate.examples_of(Endless))
    assert verdict.method == "forward"
    assert "TimeoutError: no end within 0.3 s: a loop without an end?" in verdict.sentence


@pytest.mark.parametrize("method", ["__init__", "forward", "backward"])
def test_a_layer_that_ends_the_program_is_wrong(method):
    def leave(self, *args):
        raise SystemExit(0)

    kind = type("Leaving", (ReLU,), {method: leave})
    verdict = check_layer(kind, ROWS[ReLU])
    assert not verdict.right
    assert verdict.method == method


def test_what_is_true_or_false_is_no_array_of_numbers():
    class Positive(ReLU):
        def forward(self, x):
            self.saved = (x,)
            return x > 0

    verdict = check_layer(Positive, ROWS[ReLU])
    assert verdict.method == "forward"
    assert "gives numbers of type bool, expected floats" in verdict.sentence
