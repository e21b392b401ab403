"""Training steps on a simulated GPU: nothing is waited for, no memory is asked for, and what went bad is found."""

import itertools
import json
import signal

import numpy as np
import pytest
from bounds import roundings
from strategies import numbers

from gpu.runs import SIZES, counted, expected, net, outcome, trainer
from tinynet.backend import device
from tinynet.errors import NonFiniteError
from tinynet.io.checkpoints import read_checkpoint
from tinynet.layers import Layer, Linear, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD
from tinynet.training.step import TrainingStep
from tinynet.training.trainer import STEPS_AHEAD


class Peeking(Layer):
    """y = x; looks at a number of x, for which the host must wait."""

    def forward(self, x):
        self.first = float(x.reshape(-1)[0])
        return x

    def backward(self, dy):
        return dy


def growth(gpu, counted, number=1, **options):
    """By how much counted() grew with each step of a run's epoch of that number, by default the second one."""
    seen = []
    trainer(at=lambda epoch, k, x: seen.append((epoch, counted())), **{"epochs": 3} | options).fit()
    return [after - before for (epoch, before), (_, after) in itertools.pairwise(seen) if epoch == number]


@pytest.mark.parametrize("graph", [False, True])
def test_a_steady_step_does_not_wait(gpu, graph):
    steps = growth(gpu, lambda: gpu.synchronisations, graph=graph)
    assert steps[:-1] == [0] * (len(SIZES) - 1)  # after the last one comes the validation


def test_waiting_would_be_seen(gpu):
    model = Sequential({**net().layers, "peeking": Peeking()})
    assert min(growth(gpu, lambda: gpu.synchronisations, model=model)) > 0


@pytest.mark.parametrize("graph", [False, True])
def test_a_steady_step_takes_no_new_memory_from_the_device(gpu, graph):
    fresh = gpu.pools[0].fresh
    steps = growth(gpu, lambda: len(fresh), graph=graph)
    assert fresh  # it is the pool that is used
    assert steps == [0] * len(SIZES)


def test_memory_that_is_kept_would_be_seen(gpu):
    kept = []

    class Keeping(Peeking):
        def forward(self, x):
            kept.append(device.zeros((10_000,), np.float32, "cuda:0"))
            return x

    model = Sequential({**net().layers, "keeping": Keeping()})
    assert sum(growth(gpu, lambda: len(gpu.pools[0].fresh), model=model)) > 0


def test_a_slow_gpu_is_at_most_some_steps_behind_and_the_records_are_the_same(gpu):
    wanted = expected()
    gpu.busy = True  # what it was given is done only if the host waits for it
    begun, run = [], trainer(at=lambda epoch, k, x: begun.append(len(run._begun)))
    assert outcome(run) == wanted
    assert max(begun) <= STEPS_AHEAD
    if counted(gpu, "busy"):
        assert max(begun) == min(STEPS_AHEAD, len(SIZES) - 1)


def fails(run):
    with pytest.raises(NonFiniteError) as error:
        run.fit()
    return error.value


@pytest.mark.parametrize("graph", [False, True])
def test_weights_that_go_bad_are_named_as_on_the_cpu(gpu, graph):
    """Step 7 of 12 makes fc2's weights infinite; the steps begun since change no number."""

    def run(where, **options):
        def at(epoch, k, x):
            if (epoch, k) == (1, 1):  # the batch after the sixth step
                made.optimizer.lr, made.optimizer.weight_decay = 1e38, 1e5

        made = trainer(where, at=at, sizes=(4,) * 5, **options)
        return made

    on_cpu = fails(run("cpu"))
    assert "after step 7" in str(on_cpu)
    gpu.busy = True
    made = run("cuda:1", graph=graph)
    assert str(fails(made)) == str(on_cpu)
    assert made.step == 7


@pytest.mark.parametrize("graph", [False, True])
def test_a_picture_that_is_not_finite_changes_no_weight(gpu, graph):
    def bad(epoch, k, x):
        if (epoch, k) == (1, 2):
            x[0] = np.nan

    gpu.busy = True
    run = trainer(at=bad, graph=graph)
    error = fails(run)
    assert error.layer == "SoftmaxCE"
    assert "met NaN or infinity, on cuda:0" in str(error)
    assert "after step 6" in str(error)

    def stop(epoch, k, x):
        if (epoch, k) == (1, 2):
            signal.raise_signal(signal.SIGINT)

    sound = trainer(at=stop, graph=graph)
    with pytest.raises(KeyboardInterrupt):
        sound.fit()
    assert sound.step == run.step == 6
    for name, value in sound.model.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], value)


@pytest.mark.usefixtures("gpu")
def test_a_loss_that_is_not_finite_names_the_last_layer():
    def at(epoch, k, x):
        if k == 2:
            device.assign(run.model["fc2"].bias.data, np.array([3e38, -3e38, -3e38], np.float32))

    run = trainer(at=at)
    error = fails(run)
    assert error.layer == "Linear 'fc2'"
    assert "so large that the loss is inf" in str(error)


@pytest.mark.parametrize("minutes", [1e-9, 10.0])
def test_no_checkpoint_holds_nan(gpu, tmp_path, minutes):
    def bad(epoch, k, x):
        if (epoch, k) == (1, 2):
            x[0] = np.nan

    gpu.busy = True
    fails(trainer(at=bad, out=tmp_path, checkpoint_minutes=minutes))
    newest = read_checkpoint(tmp_path)
    assert newest.state["step"] == (6 if minutes < 1 else 4)
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        assert all(np.isfinite(value).all() for value in read_checkpoint(path).part("model").values())
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"]) == ("stopped", 6)


@pytest.mark.parametrize("graph", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_bits(gpu, tmp_path, graph):
    records, weights = expected()
    gpu.busy = True

    def stop(epoch, k, x):
        if (epoch, k) == (1, 3):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(graph=graph, at=stop, out=tmp_path / "cut").fit()
    gpu.busy = False
    second = trainer(graph=graph, out=tmp_path / "cut")
    second.fit(resume=tmp_path / "cut")
    assert {name: value.tobytes() for name, value in second.model.state_dict().items()} == weights
    for record, wanted in zip(second.records, records, strict=True):
        assert {key: record[key] for key in wanted} == wanted


def test_an_interruption_after_a_number_went_bad_ends_with_its_name(gpu, tmp_path):
    def bad(epoch, k, x):
        if (epoch, k) == (1, 1):
            x[0] = np.nan
        if (epoch, k) == (1, 3):
            signal.raise_signal(signal.SIGINT)

    gpu.busy = True
    assert "after step 5" in str(fails(trainer(at=bad, out=tmp_path)))
    assert read_checkpoint(tmp_path).state["step"] == 4


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("label", [3, -1, 2**32])
def test_labels_on_the_gpu_that_are_no_class_are_named_when_the_loss_is_read(gpu, tmp_path, graph, label):
    gpu.busy = True
    run = trainer(graph=graph, out=tmp_path)
    epoch = run.train_loader.epoch

    def there(number):
        for k, (x, labels) in enumerate(epoch(number)):
            labels[2] = label if (number, k) == (1, 1) else labels[2]
            yield x, device.to_device(labels, "cuda:0")

    run.train_loader.epoch = there
    with pytest.raises(ValueError, match=rf"expected labels in \[0, 3\), got {label} at index 2"):
        run.fit()
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"]) == ("stopped", 5)
    assert all(np.isfinite(value).all() for value in run.model.state_dict().values())


@pytest.mark.usefixtures("gpu")
def test_labels_that_are_no_class_are_refused():
    for graph in (False, True):
        run = trainer(graph=graph)
        epoch = run.train_loader.epoch
        run.train_loader.epoch = lambda number, epoch=epoch: ((x, labels + 3 * number) for x, labels in epoch(number))
        with pytest.raises(ValueError, match=r"expected labels in \[0, 3\), got 3"):
            run.fit()


class Pipeline(Layer):
    """Whole layers on two GPUs, which hands its arrays from one to the other itself."""

    def __init__(self, first, second):
        self.a, self.b, self.places = Linear(6, 5).to(first), Linear(5, 3).to(second), (first, second)

    def forward(self, x):
        return self.b(device.to_device(self.a(device.to_device(x, self.places[0])), self.places[1]))

    def backward(self, dy):
        return self.a.backward(device.to_device(self.b.backward(dy), self.places[0]))


@pytest.mark.usefixtures("gpu")
def test_whole_layers_on_several_devices_learn_as_on_one():
    def results(*places):
        model = Pipeline(*places)
        step = TrainingStep(model, SoftmaxCE(), SGD(model.parameters(), 0.1))
        return [step(numbers((4, 6), np.float32, seed=k), np.array([0, 1, 2, 0]), k).read() for k in range(3)]

    for got, wanted in zip(results("cuda:0", "cuda:1"), results("cpu", "cpu"), strict=True):
        assert got == pytest.approx(wanted, rel=roundings(3 * 32, np.float32))  # three steps of sums of 6, 5 and 4


@pytest.mark.usefixtures("gpu")
def test_after_a_label_that_is_no_class_a_step_says_that_an_earlier_one_went_bad():
    model = net().to("cuda:0")
    step, x = TrainingStep(model, SoftmaxCE(), SGD(model.parameters(), 0.05)), numbers((3, 2, 7, 7), np.float32)
    bad, good = (step(x, device.to_device(np.array([0, 1, last]), "cuda:0"), k) for k, last in enumerate((7, 2)))
    with pytest.raises(ValueError, match=r"expected labels in \[0, 3\), got 7 at index 2"):
        bad.read()
    with pytest.raises(NonFiniteError, match=r"an earlier step of this TrainingStep went bad; go on with a new one"):
        good.read()
