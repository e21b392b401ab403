import json
import math
from functools import partial

import numpy as np
import oracles
import pytest
from bounds import roundings
from checks import assert_close, error_text, same_bits
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, numbers, seeds

import tinynet
from tinynet.layers import Conv2d, Linear, Parameter, Sequential
from tinynet.optim import SGD, MultiStepLR, ReduceLROnPlateau, StepLR, sgd

rates = st.floats(0.001, 2)


@given(st.lists(rates, min_size=1, max_size=5), st.floats(0, 0.99), st.floats(0, 0.5), rates, st.floats(0, 3), seeds)
def test_agrees_with_the_papers_formula(lrs, momentum, weight_decay, lr_mult, decay_mult, seed):
    """Step after step, with another lr each time: it stands inside the velocity."""
    plain, tuned = Parameter(numbers((2, 3), seed=seed)), Parameter(numbers((4,), seed=seed + 1), lr_mult, decay_mult)
    optimizer = SGD([plain, tuned], lrs[0], momentum, weight_decay)
    states = [
        (plain, plain.data.ravel().tolist(), [0.0] * 6, 1.0, 1.0),
        (tuned, tuned.data.ravel().tolist(), [0.0] * 4, lr_mult, decay_mult),
    ]
    for step, lr in enumerate(lrs):
        optimizer.lr = lr
        for i, (parameter, weight, velocity, own_lr, own_decay) in enumerate(states):
            parameter.grad[...] = numbers(parameter.shape, seed=seed + 7 * step + i)
            weight, velocity = oracles.sgd_step(
                weight, parameter.grad.ravel().tolist(), velocity, lr * own_lr, momentum, weight_decay * own_decay
            )
            states[i] = parameter, weight, velocity, own_lr, own_decay
        gradients = [parameter.grad.copy() for parameter, *_ in states]
        optimizer.step()
        for gradient, (parameter, weight, velocity, *_), v in zip(gradients, states, optimizer.velocity, strict=True):
            assert_close(parameter.data.ravel(), np.array(weight), terms=8 * (step + 1))  # products and sums of a step
            assert_close(v.ravel(), np.array(velocity), terms=8 * (step + 1))
            assert same_bits(parameter.grad, gradient)


def test_two_steps_by_hand():
    weight = Parameter(np.array([1.0]))
    optimizer = SGD([weight], lr=0.1, momentum=0.5, weight_decay=0.2)
    weight.grad[...] = 2.0
    optimizer.step()  # v = -0.2 * 0.1 * 1 - 0.1 * 2 = -0.22
    assert weight.data[0] == pytest.approx(0.78, rel=roundings(8))
    optimizer.lr = 0.01
    weight.grad[...] = -1.0
    optimizer.step()  # v = 0.5 * -0.22 - 0.2 * 0.01 * 0.78 + 0.01 * 1 = -0.10156
    assert weight.data[0] == pytest.approx(0.67844, rel=roundings(2 * 8))


def test_defaults_are_the_papers():
    optimizer = SGD(Linear(2, 3).parameters())
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (0.01, 0.9, 5e-4)
    assert len(optimizer.parameters) == 2


def test_keeps_the_arrays_and_their_dtype():
    layer = Linear(3, 2)
    before = layer.weight.data
    layer.weight.grad += 1
    SGD(layer.parameters(), lr=0.1).step()
    assert layer.weight.data is before
    assert layer.weight.data.dtype == np.float32


def test_a_rate_of_zero_moves_nothing_at_rest():
    weight = Parameter(np.ones(3))
    optimizer = SGD([weight], lr=0.0)
    weight.grad += 5
    optimizer.step()
    assert weight.data.tolist() == [1, 1, 1]


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"read-only"}))
def test_parameters_that_lie_in_memory_in_any_way(layout, decay):
    """Two steps; the parameter's own memory changes, whatever lies beside it does not."""
    data = numbers((3, 4, 5), np.float32, layout)
    around, beside = data, None
    if layout == "sliced":
        around = data.base
        beside = np.ones(around.shape, bool)
        beside[1::2, 1::2, 1::2] = False
    parameter = Parameter(data)
    optimizer = SGD([parameter], 0.1, 0.9, decay)
    w, v = data.astype(np.float64), np.zeros((3, 4, 5))
    for step in range(2):
        parameter.grad = numbers((3, 4, 5), np.float32, "transposed", seed=step + 1)
        v = 0.9 * v - 0.1 * (decay * w + parameter.grad)
        w = w + v
        optimizer.step()
    assert parameter.data is data
    assert_close(data, w, np.float32)
    assert_close(optimizer.velocity[0], v, np.float32)
    if beside is not None:
        assert (around[beside] == 7).all()


def test_a_parameter_without_decay_and_one_with():
    """weight_decay_mult = 0 as of a bias: only the gradient moves it."""
    free, bound = Parameter(np.full(2, 4.0), weight_decay_mult=0.0), Parameter(np.full(2, 4.0))
    optimizer = SGD([free, bound], lr=0.5, momentum=0.0, weight_decay=0.25)
    for parameter in (free, bound):
        parameter.grad[...] = [0.0, 2.0]
    optimizer.step()
    assert free.data.tolist() == [4, 3]
    assert bound.data.tolist() == [3.5, 2.5]


def test_after_zero_grad_a_step_reads_zeros():
    parameter = Parameter(np.ones(3))
    optimizer = SGD([parameter], lr=0.5, momentum=0.0, weight_decay=0.0)
    parameter.grad += 5
    optimizer.zero_grad()
    optimizer.step()
    assert parameter.data.tolist() == [1, 1, 1]


def test_zero_grad():
    layer = Linear(3, 2)
    optimizer = SGD(layer.parameters())
    kept = layer.weight.grad
    for parameter in layer.parameters():
        parameter.grad += 1
    optimizer.zero_grad()
    assert layer.weight.grad is kept
    assert not any(parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_wrong_lr(lr):
    weight = Parameter(np.ones(1))
    expected = f"SGD: expected a finite lr >= 0, got {lr}"
    assert error_text(lambda: SGD([weight], lr=lr), ValueError) == expected
    optimizer = SGD([weight])
    assert error_text(lambda: setattr(optimizer, "lr", lr), ValueError) == expected
    assert optimizer.lr == 0.01


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"momentum": 1.0}, "SGD: expected 0 <= momentum < 1.0, got 1.0"),
        ({"momentum": -0.5}, "SGD: expected 0 <= momentum < 1.0, got -0.5"),
        ({"momentum": math.nan}, "SGD: expected 0 <= momentum < 1.0, got nan"),
        ({"weight_decay": -1.0}, "SGD: expected 0 <= weight_decay < inf, got -1.0"),
        ({"weight_decay": math.inf}, "SGD: expected 0 <= weight_decay < inf, got inf"),
    ],
)
def test_wrong_settings(arguments, complaint):
    assert error_text(lambda: SGD([Parameter(np.ones(1))], **arguments), ValueError) == complaint


def test_no_parameter_and_one_parameter_twice():
    weight = Parameter(np.ones(1))
    for parameters in ([], [weight, weight]):
        text = error_text(lambda parameters=parameters: SGD(parameters), ValueError)
        assert text == "SGD: expected at least one parameter, and each once only"


def lr_after(schedule, optimizer, errors):
    rates = []
    for error in errors:
        schedule.step(error)
        rates.append(optimizer.lr)
    return rates


def test_step_schedule():
    optimizer = SGD([Parameter(np.ones(1))], lr=8.0)
    assert lr_after(StepLR(optimizer, 2, 0.5), optimizer, [None] * 7) == [8, 4, 4, 2, 2, 1, 1]
    StepLR(optimizer, 1).step()
    assert optimizer.lr == pytest.approx(0.1)


def test_plateau_schedule_divides_when_the_error_stops_improving():
    optimizer = SGD([Parameter(np.ones(1))], lr=8.0)
    schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.01, max_drops=2)
    errors = [0.9, 0.8, 0.795, 0.792, 0.7, 0.7, 0.6, 0.61, 0.6, 0.6, 0.6, 0.6]
    #              best  bad    drop  best bad  best bad  drop  no more drops
    assert lr_after(schedule, optimizer, errors) == [8, 8, 8, 4, 4, 4, 4, 4, 2, 2, 2, 2]
    assert schedule.drops == 2
    assert schedule.best == 0.6


def test_the_papers_schedule_divides_by_ten_three_times():
    optimizer = SGD([Parameter(np.ones(1))])
    rates = lr_after(ReduceLROnPlateau(optimizer, patience=0), optimizer, [0.5] * 8)
    assert rates == pytest.approx([0.01, 0.001, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5])


def test_an_error_of_nan_is_refused():
    schedule = ReduceLROnPlateau(SGD([Parameter(np.ones(1))]))
    text = error_text(lambda: schedule.step(math.nan), ValueError)
    assert text == "ReduceLROnPlateau: expected a validation error, got NaN"


@pytest.mark.parametrize(
    "arguments", [{"step_size": 0}, {"step_size": 2, "gamma": 0.0}, {"step_size": 2, "gamma": 1.5}]
)
def test_wrong_step_schedule(arguments):
    text = error_text(lambda: StepLR(SGD([Parameter(np.ones(1))]), **arguments), ValueError)
    assert text.startswith("StepLR: expected step_size >= 1 and 0 < gamma <= 1, got ")
    assert text.endswith(f"got {arguments['step_size']} and {arguments.get('gamma', 0.1)}")


@pytest.mark.parametrize(
    "arguments", [{"factor": 0.0}, {"factor": 1.0}, {"patience": -1}, {"threshold": -0.1}, {"max_drops": -1}]
)
def test_wrong_plateau_schedule(arguments):
    text = error_text(lambda: ReduceLROnPlateau(SGD([Parameter(np.ones(1))]), **arguments), ValueError)
    assert text.startswith("ReduceLROnPlateau: expected 0 < factor < 1 and patience, threshold, max_drops >= 0; got ")
    ((name, value),) = arguments.items()
    settings = {"factor": 0.1, "patience": 3, "threshold": 1e-3, "max_drops": 3, name: value}
    assert text.endswith(f"{', '.join(map(str, settings.values()))}")


def test_a_model_in_place_of_its_parameters_is_refused():
    with pytest.raises(TypeError, match=r"expected parameters, such as model\.parameters\(\), got Conv2d"):
        SGD(Sequential(Conv2d(1, 1, 1)))


@pytest.mark.parametrize(("milestones", "lrs"), [([2, 3], [1, 0.1, 0.01, 0.01]), ([3, 1], [0.1, 0.1, 0.01, 0.01])])
def test_milestones(milestones, lrs):
    optimizer = SGD([Parameter(numbers((2,)))], 1.0)
    schedule = MultiStepLR(optimizer, milestones)
    seen = []
    for _ in range(4):
        schedule.step(0.5)
        seen.append(optimizer.lr)
    assert seen == pytest.approx(lrs)


@pytest.mark.parametrize(("milestones", "gamma"), [([0], 0.1), ([1], 0.0), ([1], 1.5)])
def test_milestones_that_make_no_sense(milestones, gamma):
    with pytest.raises(ValueError, match="MultiStepLR: expected milestones of at least 1 and 0 < gamma <= 1"):
        MultiStepLR(SGD([Parameter(numbers((2,)))], 1.0), milestones, gamma)


@pytest.mark.parametrize(
    "make", [lambda o: StepLR(o, 2), lambda o: MultiStepLR(o, [2, 4]), lambda o: ReduceLROnPlateau(o, patience=1)]
)
@pytest.mark.parametrize("cut", range(7))
def test_state_taken_out_and_put_into_another_goes_on_alike(make, cut):
    def start():
        parameter = Parameter(numbers((3, 2)))
        optimizer = SGD([parameter], 0.5)
        return parameter, optimizer, make(optimizer)

    def go_on(state, epochs):
        parameter, optimizer, schedule = state
        for epoch in epochs:
            parameter.grad[...] = numbers(parameter.shape, seed=epoch)
            optimizer.step()
            schedule.step([0.5, 0.4, 0.4, 0.45, 0.39, 0.4, 0.5][epoch])
        return parameter, optimizer, schedule

    straight = go_on(start(), range(7))
    first, second = go_on(start(), range(cut)), start()
    second[0].data[...] = first[0].data
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict(json.loads(json.dumps(first[2].state_dict())))
    go_on(second, range(cut, 7))
    assert same_bits(second[0].data, straight[0].data)
    assert same_bits(second[1].velocity[0], straight[1].velocity[0])
    assert (second[1].lr, second[2].state_dict()) == (straight[1].lr, straight[2].state_dict())


def test_the_state_of_an_optimizer_is_a_copy_and_must_fit():
    optimizer = SGD([Parameter(numbers((3, 2)))], 0.5)
    state = optimizer.state_dict()
    state["velocity"][0] += 1
    assert not optimizer.velocity[0].any()
    for shape, dtype in (((2, 3), np.float64), ((3, 2), np.float32)):
        with pytest.raises(ValueError, match="SGD: expected velocities of shapes"):
            optimizer.load_state_dict({"lr": 0.1, "velocity": [np.ones(shape, dtype)]})
    assert optimizer.lr == 0.5


# the update's own lines


def updated(dtype, change=lambda optimizer: None, bad=None):
    """(weights, velocities) after two steps, of two parameters; the second has gaps in memory."""
    parameters = [
        Parameter(numbers((3, 70), dtype), lr_mult=0.7),
        Parameter(numbers((4, 5), dtype, "sliced", seed=1), 1.0, 0.0),
    ]
    optimizer = SGD(parameters, 0.03, 0.85, 0.02)
    change(optimizer)
    for step in range(2):
        for i, parameter in enumerate(parameters):
            parameter.grad[...] = numbers(parameter.shape, dtype, seed=10 * step + i)
        optimizer.bad = {} if bad is None else {"cpu": bad}
        optimizer.step()
    return [parameter.data for parameter in parameters] + optimizer.velocity


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_plain_update_gives_the_loops_bits(dtype, monkeypatch):
    fast = updated(dtype)
    monkeypatch.setattr(sgd, "sgd_steps", lambda *args: pytest.fail("a loop ran in plain mode"))
    with tinynet.plain():
        plainly = updated(dtype)
    assert all(map(same_bits, plainly, fast))


def with_gradients_doubled(self, w, v, grad, lr, decay):
    v[...] = self.momentum * v - lr * (decay * w + 2 * grad)
    w += v


class Doubled(SGD):
    update = with_gradients_doubled


def on_the_class(monkeypatch):
    monkeypatch.setattr(SGD, "update", with_gradients_doubled)
    return lambda optimizer: None


def on_the_instance(monkeypatch):
    return lambda optimizer: setattr(optimizer, "update", partial(with_gradients_doubled, optimizer))


def in_a_subclass(monkeypatch):
    return lambda optimizer: setattr(optimizer, "__class__", Doubled)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("where", [on_the_class, on_the_instance, in_a_subclass])
def test_an_update_of_ones_own_is_the_one_that_runs(where, plain, monkeypatch):
    usual = updated(np.float64)
    with tinynet.plain(plain), monkeypatch.context() as patch:
        own = updated(np.float64, where(patch))
    for a, b in zip(own, usual, strict=True):
        assert not np.allclose(a, b)
    for a, b in zip(updated(np.float64), usual, strict=True):
        assert same_bits(a, b)


def test_flags_stop_the_plain_update_and_hear_of_a_weight_that_went_bad():
    """As `sgd_steps` does on a GPU."""

    def spoil(optimizer):
        optimizer.parameters[1].data[2, 3] = value

    with tinynet.plain():
        value, bad = 1.0, np.array([0, 0, 0], np.int32)
        assert all(map(same_bits, updated(np.float64, spoil, bad), updated(np.float64, spoil)))
        assert bad.tolist() == [0, 0, 0]
        value = np.nan
        updated(np.float64, spoil, bad)
        assert bad.tolist() == [0, 1, 0]
        bad[:] = 1, 0, 1
        *weights, first, second = updated(np.float64, spoil, bad)
        assert bad.tolist() == [1, 0, 1]
    assert same_bits(weights[0], numbers((3, 70)))
    assert np.isnan(weights[1]).sum() == 1
    assert not first.any()
    assert not second.any()
