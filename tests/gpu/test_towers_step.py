"""Training steps of a net in towers on simulated GPUs: the host waits for none, and what went bad stops all devices."""

import signal

import numpy as np
import pytest
from checks import assert_within
from parallel.nets import rounding

from gpu.runs import SIZES, net, outcome, split, trainer
from gpu.test_step import fails, growth
from tinynet.backend import device, streams
from tinynet.io.checkpoints import read_checkpoint
from tinynet.training.flags import Flags
from tinynet.training.step import TrainingStep
from tinynet.training.trainer import STEPS_AHEAD

PLACES = [("cuda:0", "cuda:1"), ("cuda:0", "cuda:0")]
on_gpus = pytest.mark.parametrize("devices", PLACES)


@pytest.fixture(autouse=True)
def _fresh_peers():
    streams.reaches.cache_clear()
    yield
    streams.reaches.cache_clear()


def run(devices, **options):
    return trainer(None, model=split(devices), **options)


@pytest.mark.parametrize(("devices", "peers"), [(PLACES[0], "yes"), (PLACES[0], "no"), (PLACES[1], "yes")])
def test_a_steady_step_does_not_wait(gpu, devices, peers):
    gpu.peers = peers
    steps = growth(gpu, lambda: gpu.synchronisations, device=None, model=split(devices))
    assert steps[:-1] == [0] * (len(SIZES) - 1)  # after the last one comes the validation


@on_gpus
def test_a_steady_step_takes_no_new_memory(gpu, devices):
    options = {"epochs": 4, "device": None, "model": split(devices)}
    steps = growth(gpu, lambda: sum(len(pool.fresh) for pool in gpu.pools), 2, **options)
    assert steps == [0] * len(SIZES)  # the epoch before needed room for its own learning rate


@pytest.mark.parametrize(("devices", "peers"), [(PLACES[0], "yes"), (PLACES[0], "no"), (PLACES[1], "yes")])
def test_the_same_bits_as_if_every_step_was_waited_for(gpu, monkeypatch, devices, peers):
    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "_gpus", lambda self: [])
        expected = outcome(run(devices))
        assert gpu.synchronisations > 2 * len(SIZES)
    gpu.busy, gpu.peers = True, peers  # what it was given is done only if the host waits for it
    streams.reaches.cache_clear()
    begun, there = [], run(devices, at=lambda epoch, k, x: begun.append(len(there._begun)))
    assert outcome(there) == expected
    assert max(begun) == min(STEPS_AHEAD, len(SIZES) - 1)


def spoilt(devices, tower, **options):
    """A run whose step 6 of 15 makes this tower's part of fc1's weights infinite."""

    def at(epoch, k, x):
        if (epoch, k) == (1, 0):  # the batch after the fifth step
            part = there.model.towers[tower].layers["fc1"].weight
            place = next(i for i, (_, own) in enumerate(there.optimizer._parts) if own is part)
            device.assign(there.optimizer.velocity[place], np.full(part.shape, np.inf, np.float32))

    there = run(devices, at=at, sizes=(4,) * 5, epochs=3, **options)
    return there


@pytest.mark.parametrize("tower", [0, 1])
@on_gpus
def test_weights_that_go_bad_in_one_tower_stop_all(gpu, devices, tower):
    """The steps begun since change no number anywhere."""
    on_cpu = spoilt(("cpu", "cpu"), tower)
    expected = str(fails(on_cpu))
    assert "its weight holds NaN or infinity. Training stopped in epoch 2, after step 6" in expected
    gpu.busy = True
    there = spoilt(devices, tower)
    assert str(fails(there)) == expected
    allowed = 6 * rounding(net(), (4, 2, 7, 7), np.float32)[1]  # six steps, each with the errors of all before
    for name, value in on_cpu.model.state_dict().items():
        assert np.isfinite(value).all() == (name != "fc1.weight")
        largest = np.abs(value[np.isfinite(value)]).max()
        assert_within(there.model.state_dict()[name], value, allowed * largest)


@pytest.mark.parametrize("tower", [0, 1])
def test_no_checkpoint_holds_what_went_bad_on_any_gpu(gpu, tmp_path, tower):
    gpu.busy = True
    fails(spoilt(PLACES[0], tower, out=tmp_path, checkpoint_minutes=1e-9))
    newest = read_checkpoint(tmp_path)
    assert newest.state["step"] == 5
    assert all(np.isfinite(value).all() for value in newest.part("model").values())


@on_gpus
def test_a_picture_that_is_not_finite_changes_no_weight(gpu, devices):
    def bad(epoch, k, x):
        if (epoch, k) == (1, 2):
            x[0] = np.nan

    def stop(epoch, k, x):
        if (epoch, k) == (1, 2):
            signal.raise_signal(signal.SIGINT)

    gpu.busy = True
    there = run(devices, at=bad)
    error = fails(there)
    assert error.layer == "SoftmaxCE"
    assert "met NaN or infinity, on cuda:0" in str(error)
    assert "after step 6" in str(error)
    sound = run(devices, at=stop)
    with pytest.raises(KeyboardInterrupt):
        sound.fit()
    assert sound.step == there.step == 6
    for name, value in sound.model.state_dict().items():
        np.testing.assert_array_equal(there.model.state_dict()[name], value)


@on_gpus
def test_an_interrupted_run_goes_on_to_the_same_bits(gpu, tmp_path, devices):
    expected = outcome(run(devices))
    gpu.busy = True

    def stop(epoch, k, x):
        if (epoch, k) == (1, 3):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(devices, at=stop, out=tmp_path).fit()
    resumed = run(devices, out=tmp_path)
    resumed.fit(resume=tmp_path)
    assert {name: value.tobytes() for name, value in resumed.model.state_dict().items()} == expected[1]
    for record, wanted in zip(resumed.records, expected[0], strict=True):
        assert {key: record[key] for key in wanted} == wanted


@pytest.mark.usefixtures("two_gpus")
def test_flags_go_from_device_to_device_and_stay():
    flags = Flags(["cuda:0", "cuda:1"])
    first, second = flags.bad.values()
    device.assign(second[1:2], np.array([1], np.int32))
    flags.ask_others()
    device.assign(first[:1], np.array([1], np.int32))
    device.fill_with_zeros(second)
    flags.ask_others()
    assert device.to_cpu(flags.read).tolist() == [0, 1, 1, 0]
    flags.tell_others()
    assert device.to_cpu(second).tolist() == [1, 1, 0]
