"""gradcheck itself: what it checks, what it refuses, what it says. tests/test_mutations.py has the planted errors."""

import numpy as np
import pytest

from tinynet import gradcheck, random
from tinynet.errors import GradcheckError
from tinynet.layers import LRN, Conv2d, Dropout, Layer, Linear, MaxPool, Parameter, ReLU, Sequential
from tinynet.losses import SoftmaxCE

X = random.normal((3, 4), 0, "test_gradcheck")


class Scale(Layer):
    """The ten-line layer that a student writes: y = scale * x."""

    def __init__(self):
        self.scale = Parameter(np.array([2.0, -3.0, 0.5, 1.5]))

    def forward(self, x):
        self.saved = (x,)
        return self.scale.data * x

    def backward(self, dy):
        (x,) = self.saved
        self.scale.grad += (dy * x).sum(axis=0)
        return dy * self.scale.data


def test_the_report_counts_what_was_checked():
    report = gradcheck(Scale(), X)
    assert report.checked == {"x": 12, "scale": 4}
    assert all(0 <= worst < 1e-6 for worst in report.worst.values())  # its rtol
    assert report.kinks == []
    assert str(report).startswith("gradcheck: Scale: gradients agree\n  x: 12 entries")


def test_max_checks_draws_entries_by_seed():
    layer = Linear(4, 50)
    assert gradcheck(layer, X, max_checks=7).checked == {"x": 7, "weight": 7, "bias": 7}

    class OneWrong(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.weight.grad[31, 2] += 1.0
            return dx

    def complaint(seed):
        try:
            gradcheck(OneWrong(4, 50), X, max_checks=20, seed=seed)
        except GradcheckError as error:
            return str(error)
        return None

    complaints = [text for text in map(complaint, range(20)) if text]
    assert all("weight.grad[31, 2]" in text for text in complaints)
    assert 0 < len(complaints) < 10  # 20 of 200 entries each time: another tenth with every seed
    with pytest.raises(GradcheckError, match=r"1 of 200 entries"):
        gradcheck(OneWrong(4, 50), X, max_checks=200)


def test_the_layer_and_x_are_left_as_they_were():
    layer = Sequential(Linear(4, 3), Dropout(0.3))
    layer.input_grad = False
    layer[0].weight.grad += 7
    layer.at_step(5)
    before, x = layer.state_dict(), X.astype(np.float32)
    gradcheck(layer, x)
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())
    assert (layer[0].weight.grad == 7).all()
    assert (layer[1].step, layer.input_grad, layer[0].weight.data.dtype) == (5, False, np.float32)
    assert np.array_equal(x, X.astype(np.float32))


def test_dy_is_random_so_that_a_layer_that_ignores_it_is_caught():
    class Forgets(Layer):
        def forward(self, x):
            self.saved = (x,)
            return 3 * x

        def backward(self, dy):
            return 3 * np.ones_like(dy)  # right for dy = 1 alone

    with pytest.raises(GradcheckError, match=r"dx is wrong at 12 of 12 entries"):
        gradcheck(Forgets(), X)


@pytest.mark.parametrize(
    ("layer", "x", "kinks"),
    [
        (ReLU(), np.array([[1.0, 0.0, -2.0, 0.0]]), {(0, 1), (0, 3)}),
        (ReLU(), np.array([[1.0, 3e-6, -3e-6, 2.0]]), set()),  # nearer than the first step, not than the last
        (MaxPool(2), np.array([[[[1.0, 5.0], [5.0, 2.0]]]]), {(0, 0, 0, 1), (0, 0, 1, 0)}),
    ],
)
def test_kinks_are_kept_away_from_and_named(layer, x, kinks):
    report = gradcheck(layer, x)
    assert {index for _, index in report.kinks} == kinks
    assert report.checked["x"] == x.size - len(kinks)
    assert ("lie at a kink" in str(report)) == bool(kinks)


def test_a_kink_hides_no_error_beside_it():
    class Wrong(ReLU):
        def backward(self, dy):
            return 2 * super().backward(dy)

    with pytest.raises(GradcheckError, match="wrong at 1 of 2 entries"):
        gradcheck(Wrong(), np.array([[0.0, -1.0, 2.0]]))


def test_nothing_but_kinks_is_an_error():
    with pytest.raises(GradcheckError, match="all 12 entries of x lie at a kink"):
        gradcheck(ReLU(), np.zeros((3, 4)))


def test_strong_curvature_is_no_kink():
    class Square(Layer):
        def forward(self, x):
            self.saved = (x,)
            return 1000 * x**2

        def backward(self, dy):
            return dy * 2000 * self.saved[0]

    report = gradcheck(Square(), np.array([[0.001, 1e-4, 2.0, -3e-4]]))
    assert report.kinks == []
    assert report.checked == {"x": 4}


def test_forward_that_changes_from_call_to_call_is_named():
    class Noisy(Layer):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

        def backward(self, dy):
            return dy

    with pytest.raises(GradcheckError, match="forward gave two results for one x"):
        gradcheck(Noisy(), X)


@pytest.mark.parametrize("victim", ["x", "dy"])
def test_changing_an_argument_in_place_is_named(victim):
    class Careless(Scale):
        def backward(self, dy):
            dx = super().backward(dy)
            (self.saved[0] if victim == "x" else dy)[...] *= 2
            return dx

    with pytest.raises(GradcheckError, match=f"{victim} was changed in place"):
        gradcheck(Careless(), X)


def test_a_missing_or_misshapen_gradient_is_named():
    class NoDx(Scale):
        def backward(self, dy):
            super().backward(dy)

    class Broadcast(Scale):
        def backward(self, dy):
            dx = super().backward(dy)
            self.scale.grad = dy * self.saved[0]
            return dx

    with pytest.raises(GradcheckError, match=r"backward returned None, expected dx of shape \(3, 4\)"):
        gradcheck(NoDx(), X)
    with pytest.raises(GradcheckError, match=r"expected scale.grad of shape \(4,\), got \(3, 4\).*not summed"):
        gradcheck(Broadcast(), X)


def test_a_gradient_of_nan_is_an_error_and_says_so():
    class Nan(Scale):
        def backward(self, dy):
            return super().backward(dy) * np.nan

    with pytest.raises(GradcheckError, match="holds NaN or infinity"):
        gradcheck(Nan(), X)


def test_a_missing_backward_is_told_precisely():
    class Unfinished(Layer):
        def forward(self, x):
            return x

    with pytest.raises(NotImplementedError, match=r"Unfinished has no backward: write backward\(self, dy\)"):
        gradcheck(Unfinished(), X)


def test_a_loss_and_a_whole_net():
    labels = np.array([1, 0, 3])
    assert gradcheck(SoftmaxCE(), X, labels).checked == {"x": 12}

    class NoArgument(SoftmaxCE):
        def backward(self):
            return super().backward()

    assert gradcheck(NoArgument(), X, labels).checked == {"x": 12}
    x = random.normal((2, 2, 6, 5), 1, "net")
    net = Sequential({"conv": Conv2d(2, 3, 3), "relu": ReLU(), "drop": Dropout(0.3)})
    assert set(gradcheck(net, x).checked) == {"x", "conv.weight", "conv.bias"}


class Formula(Layer):
    """y = f(x) entry by entry, and dx = dy * slope(x), be it right or wrong."""

    def __init__(self, f, slope):
        self.f, self.slope = f, slope

    def forward(self, x):
        self.saved = (x,)
        return self.f(x)

    def backward(self, dy):
        return dy * self.slope(self.saved[0])


def off(kind, factor):
    """`kind` with every entry of dx off by a share of its own, up to `factor`."""

    def backward(self, dy, *args):
        dx = kind.backward(self, dy, *args)
        return dx * (1 + factor * np.linspace(0.5, 1, dx.size).reshape(dx.shape))

    return type(kind.__name__, (kind,), {"backward": backward})


LARGE = [
    pytest.param(Linear, (3, 2), random.normal((4, 3), 0, "large") * 1e6, id="Linear at 1e6"),
    pytest.param(LRN, (3, 1e-4), random.normal((2, 4, 2, 3), 0, "large") * 1e3, id="LRN at 1e3"),
]


@pytest.mark.parametrize(("kind", "arguments", "x"), LARGE)
def test_a_right_layer_passes_at_large_x(kind, arguments, x):
    report = gradcheck(kind(*arguments), x)
    assert report.checked["x"] == x.size
    assert report.kinks == report.too_small == []


@pytest.mark.parametrize(("kind", "arguments", "x"), LARGE)
def test_a_wrong_layer_is_caught_at_large_x(kind, arguments, x):
    with pytest.raises(GradcheckError, match=f"dx is wrong at {x.size} of {x.size}"):
        gradcheck(off(kind, 1e-4)(*arguments), x)


@pytest.mark.parametrize("gain", [1e-100, 1e-20, 1e-9, 1e9, 1e20])
def test_no_gradient_is_too_small_or_large_in_itself(gain):
    assert gradcheck(Formula(lambda x: gain * x, lambda x: gain), X).checked == {"x": 12}
    with pytest.raises(GradcheckError, match=r"wrong at 12 of 12 entries(.|\n)*analytic = 2 x numeric"):
        gradcheck(Formula(lambda x: gain * x, lambda x: 2 * gain), X)


def test_rounding_of_y_is_no_error():
    """x moves y by some 45 units in the last place, so the numeric slope is good to a few percent."""
    report = gradcheck(Formula(lambda x: 1 + 1e-9 * x, lambda x: 1e-9), X)
    assert report.kinks == report.too_small == []
    with pytest.raises(GradcheckError, match="wrong at 12 of 12 entries"):
        gradcheck(Formula(lambda x: 1 + 1e-9 * x, lambda x: 2e-9), X)
    with pytest.raises(GradcheckError, match="wrong at 12 of 12 entries"):
        gradcheck(Formula(lambda x: 1 + 1e-9 * x, lambda x: 0 * x), X)


def tanh_slope(x):
    return 1 - np.tanh(x) ** 2


def test_a_saturated_entry_is_listed_as_too_small():
    x = np.array([[18.0, 0.5, -1.0]])
    report = gradcheck(Formula(np.tanh, tanh_slope), x)
    assert (report.checked, report.too_small, report.kinks) == ({"x": 2}, [("x", (0, 0))], [])
    assert "1 entries have a gradient below the rounding noise and could not be checked, the first x[0, 0]" in str(
        report
    )
    with pytest.raises(GradcheckError, match="wrong at 1 of 3 entries"):
        gradcheck(Formula(np.tanh, lambda x: np.where(x > 17, 1e-3, tanh_slope(x))), x)


def test_nothing_but_saturated_entries_is_an_error_that_says_what_to_do():
    with pytest.raises(GradcheckError, match=r"2 of 2 entries of x is below the rounding noise.*nearer to 0"):
        gradcheck(Formula(np.tanh, tanh_slope), np.array([18.0, -18.0]))
    with pytest.raises(GradcheckError, match=r"1 of 2 entries of x .* and the other 1 lie at a kink"):
        gradcheck(Formula(lambda x: np.tanh(np.abs(x)), tanh_slope), np.array([18.0, 0.0]))


@pytest.mark.parametrize("height", [15, 20, 25, 30, 33, 36, 40, 80])
def test_a_confident_softmax(height):
    """Labels 0, 1 and 2 are right, so their loss log(1 + tiny) is all rounding; the last label is wrong."""
    x, labels = np.eye(4) * height, np.array([0, 1, 2, 0])
    for seed in range(5):
        report = gradcheck(SoftmaxCE(), x, labels, seed=seed)
        assert report.checked["x"] + len(report.too_small) == 16
        assert {(3, 0), (3, 3)}.isdisjoint(index for _, index in report.too_small)
        with pytest.raises(GradcheckError, match="dx is wrong"):
            gradcheck(off(SoftmaxCE, 1e-3)(), x, labels, seed=seed)


def test_a_softmax_that_is_right_everywhere():
    """p - 1 is exactly 0 on the diagonal, as measured; the p of the others, 1e-18, is lost in log(1 + p)."""
    report = gradcheck(SoftmaxCE(), np.eye(4) * 40, np.arange(4))
    assert report.checked == {"x": 4}
    assert {index for _, index in report.too_small} == {(i, j) for i in range(4) for j in range(4) if i != j}

    class Forgets(SoftmaxCE):
        def backward(self, dy=1.0):
            return super().backward(dy) + 0.25 * dy

    with pytest.raises(GradcheckError, match="dx is wrong at 16 of 16 entries"):
        gradcheck(Forgets(), np.eye(4) * 40, np.arange(4))


def test_a_dead_relu_is_checked():
    report = gradcheck(ReLU(), -np.abs(X) - 1)
    assert (report.checked, report.too_small) == ({"x": 12}, [])
    with pytest.raises(GradcheckError, match="dx is wrong at 12 of 12"):
        gradcheck(Formula(lambda x: np.maximum(x, 0), np.ones_like), -np.abs(X) - 1)


def test_a_factor_of_one_is_no_diagnosis():
    with pytest.raises(GradcheckError, match="no simple cause fits"):
        gradcheck(Formula(lambda x: 3 * x, lambda x: 3 * (1 + 1e-5)), X)
    with pytest.raises(GradcheckError, match=r"constant factor: analytic = 1\.001 x"):
        gradcheck(Formula(lambda x: 3 * x, lambda x: 3 * (1 + 1e-3)), X)


@pytest.mark.parametrize("distance", [2e-7, 7e-7, 9e-7, 1.1e-6, 8e-6])
def test_a_kink_between_two_steps_is_not_taken_for_curvature(distance):
    report = gradcheck(ReLU(), np.array([[distance, -distance, 1.0]]))
    assert (report.checked, report.kinks) == ({"x": 3}, [])


def test_what_is_no_layer_or_no_number_is_named():
    class ToInfinity(Layer):
        def forward(self, x):
            return x / np.zeros_like(x)

    class InPlace(Layer):
        def forward(self, x):
            x *= 2
            return x

    with pytest.raises(TypeError, match=r"expected a layer, got the class Scale; make one: Scale\(\)"):
        gradcheck(Scale, X)
    with np.errstate(all="ignore"), pytest.raises(GradcheckError, match="expected finite numbers from forward"):
        gradcheck(ToInfinity(), X)
    with pytest.raises(GradcheckError, match="forward changed x in place"):
        gradcheck(InPlace(), X)
