"""Steps recorded as CUDA graphs, on a simulated GPU: the same numbers to the bit, and nothing stale."""

import contextlib
import functools

import numpy as np
import pytest
from cuda_on_cpu.fake_streams import here
from strategies import numbers

from gpu.runs import SIZES, counted, expected, net, outcome, trainer
from gpu.test_step import Peeking
from tinynet.backend import device
from tinynet.backend.device import to_cpu
from tinynet.errors import DeviceError, DeviceMemoryError, RunsPlainWarning
from tinynet.fast import relu
from tinynet.layers import Sequential
from tinynet.training.step import TrainingStep


def test_the_same_numbers_to_the_bit(gpu):
    """Dropout draws anew at each step, the learning rate changes with each epoch, the last batch is smaller."""
    assert outcome(trainer()) == expected()
    assert counted(gpu, "graph_launches") in (0, None)
    assert outcome(trainer(graph=True)) == expected()
    replays = 2 * (len(SIZES) - 1) - 1  # the first step is run, and the smaller batches
    products = 2 + 4
    assert counted(gpu, "graph_launches") in (replays * (products + 1), None)


def test_a_replay_launches_no_kernel_by_hand(gpu):
    launches = []
    trainer(graph=True, at=lambda epoch, k, x: launches.append(gpu.launches)).fit()
    second = launches[len(SIZES) : 2 * len(SIZES)]
    assert second == [second[0]] * len(SIZES)


def changes(change):
    """A callback that changes something after the first epoch, when the step is recorded already."""
    return [lambda run, record: change(run) if record["event"] == "epoch" and record["epoch"] == 1 else None]


def mode(run):
    run.model["drop"].training = False


def other_share(run):
    run.model["drop"].p = 0.2


def momentum(run):
    run.optimizer.momentum = 0.5


def decay(run):
    run.optimizer.weight_decay = 0.1


def freeze(run):
    run.optimizer.parameters[0].lr_mult = 0.0


def away_and_back(run):
    kept = [parameter.data for parameter in run.model.parameters()]  # so that the addresses are others
    run.model.to("cpu").to("cuda:0")
    run.kept = kept


def elsewhere(run):
    run.model.to("cuda:1")


@pytest.mark.parametrize("change", [mode, other_share, momentum, decay, freeze, away_and_back, elsewhere])
@pytest.mark.usefixtures("gpu")
def test_what_was_changed_since_the_recording_counts(change, request):
    if change is elsewhere:
        request.getfixturevalue("two_gpus")
    plain = outcome(trainer(callbacks=changes(change)))
    assert plain != expected() or change in (away_and_back, elsewhere)
    assert outcome(trainer(graph=True, callbacks=changes(change))) == plain


@pytest.mark.parametrize("name", ["x", "labels", "step", "rates"])
def test_an_input_that_is_not_written_would_be_seen(gpu, monkeypatch, name):
    wanted, assign, runs = expected(), device.assign, []

    def forgetful(target, values):
        if not any(run._step._recorded and target is run._step._recorded.inputs[name] for run in runs):
            assign(target, values)

    monkeypatch.setattr(device, "assign", forgetful)
    runs.append(trainer(graph=True))
    with contextlib.suppress(FloatingPointError):
        assert outcome(runs[0]) != wanted


def assign_by_axes(target, values):
    with device.on("cuda:0"):
        target[...] = device.to_device(values, "cuda:0")


@pytest.mark.parametrize("in_order", [True, False])
def test_x_is_copied_into_the_step_as_it_lies_in_memory(simulated_gpu, monkeypatch, in_order):
    """The batch innermost, as loaders give it; copied axis by axis, it would go number by number."""
    monkeypatch.setattr("gpu.runs.numbers", functools.partial(numbers, layout="batch innermost"))
    if not in_order:
        monkeypatch.setattr(device, "assign", assign_by_axes)
    copies = []
    trainer(graph=True, at=lambda epoch, k, x: copies.append(simulated_gpu.strided_copies)).fit()
    assert simulated_gpu.graph_launches > 0
    assert (copies[len(SIZES)] == copies[2 * len(SIZES) - 1]) == in_order


def kept_by_others(gpu):
    """Whether arrays that somebody else made after the recording keep their values while it is replayed."""
    kept = []

    def use_what_is_free(epoch, k, x):
        if (epoch, k) == (0, 2):
            gpu.get_default_memory_pool().free_all_blocks()  # what the recording's stream let go of is anybody's
            kept.extend(device.empty((1 << power,), np.float32, "cuda:0") for power in range(5, 13) for _ in range(9))
            for array in kept:
                array.fill(7)

    trainer(graph=True, at=use_what_is_free).fit()
    assert counted(gpu, "graph_launches") != 0
    return all((array.get() == 7).all() for array in kept)


def test_memory_that_others_use_keeps_its_values(gpu):
    assert kept_by_others(gpu)


def test_memory_that_others_use_too_would_be_seen(simulated_gpu, monkeypatch):
    monkeypatch.setattr(simulated_gpu.cuda, "using_allocator", lambda allocator: contextlib.nullcontext())
    assert not kept_by_others(simulated_gpu)


def test_a_recording_is_kept_in_memory_of_its_own(simulated_gpu):
    run = trainer(graph=True)
    run.fit()
    pool = run._step._recorded._pool
    assert pool.fresh
    assert pool is not simulated_gpu.pools[0]
    assert pool.used_bytes() < sum(pool.fresh)  # most of it was used more than once


def test_a_step_with_a_layer_of_ones_own_is_run(simulated_gpu):
    """A layer of one's own may look at its numbers: the step is run each time, which is said once."""
    model = Sequential({**net().layers, "peeking": Peeking()})
    with pytest.warns(RunsPlainWarning, match="Peeking 'peeking' runs lines of its own, which a CUDA graph"):
        trainer(graph=True, model=model).fit()
    assert simulated_gpu.graph_launches == 0


def test_a_twin_that_cannot_be_recorded(gpu, monkeypatch):
    own = relu.forward

    def peeking(layer, x):
        to_cpu(x)
        return own(layer, x)

    monkeypatch.setattr(relu, "forward", peeking)
    with pytest.raises(DeviceError, match=r"cannot record: .*train without graph=True"):
        trainer(graph=True).fit()
    assert gpu.cuda.get_current_stream().ptr == 0
    assert here.allocator is None


def test_no_memory_while_recording(gpu, monkeypatch):
    record = TrainingStep._record

    def full(self, where, x):
        gpu.memory = 100
        record(self, where, x)

    monkeypatch.setattr(TrainingStep, "_record", full)
    with pytest.raises(DeviceMemoryError, match="smaller batch"):
        trainer(graph=True).fit()
    assert gpu.cuda.get_current_stream().ptr == 0


@pytest.mark.parametrize("where", ["cpu", "two"])
@pytest.mark.usefixtures("gpu")
def test_without_one_gpu(where, request):
    model = net()
    if where == "two":
        request.getfixturevalue("two_gpus")
        model.to("cuda:0")["fc2"].to("cuda:1")
    with pytest.raises(ValueError, match=r"expected a whole model on one GPU for graph=True, got one on .*; move it"):
        TrainingStep(model, None, None, graph=True)
    if where == "cpu":
        with pytest.raises(ValueError, match="graph=True"):
            trainer("cpu", graph=True)
