import io
import json
import math
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from bounds import roundings
from checks import assert_close, weights_left

from tinynet import random
from tinynet.errors import NonFiniteError
from tinynet.io.checkpoints import load_metadata, load_weights
from tinynet.io.files import JsonLines
from tinynet.layers import Dropout, Layer, Linear, ReLU, Sequential
from tinynet.optim import SGD, StepLR
from tinynet.training.evaluate import evaluate
from tinynet.training.provenance import without_provenance
from tinynet.training.trainer import Trainer

LOSS = roundings(2 * (4 + 8 + 8 + 8), np.float32)  # of the longest sums of three layers and the loss, twice
TIMES = "seconds", "images_per_second"


class Loader:
    """Points of three classes, in batches; `on_batch(step)` is called before each."""

    def __init__(self, count=24, batch_size=8, on_batch=None):
        self.labels = np.arange(count) % 3
        self.x = (
            random.normal((count, 4), 0, "points", dtype=np.float32) + 3 * np.eye(3, 4, dtype=np.float32)[self.labels]
        )
        self.batch_size, self.on_batch = batch_size, on_batch

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def epoch(self, number):
        order = random.permutation(len(self.x), 0, "order", number)
        for i in range(0, len(order), self.batch_size):
            if self.on_batch:
                self.on_batch(number * len(self) + i // self.batch_size)
            part = order[i : i + self.batch_size]
            yield self.x[part], self.labels[part]


def net(dropout=0.0, classes=3):
    return Sequential(
        {
            "fc1": Linear(4, 8, seed=1),
            "relu1": ReLU(),
            "drop1": Dropout(dropout),
            "fc2": Linear(8, 8, seed=2),
            "relu2": ReLU(),
            "fc3": Linear(8, classes, seed=3),
        }
    )


def trainer(model=None, loader=None, *, lr=0.05, momentum=0.9, weight_decay=0.0, epochs=2, **options):
    model, loader = model or net(), Loader() if loader is None else loader
    optimizer = SGD(model.parameters(), lr, momentum, weight_decay)
    return Trainer(model, optimizer, loader, Loader(), epochs=epochs, **options)


def read_log(folder):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    text = (folder / "log.jsonl").read_text("utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_times(records):
    """What equal runs have in common."""
    records = without_provenance(records)
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


# learning


def test_steps_by_hand():
    model, loader = Sequential(Linear(4, 3)), Loader()
    weight, velocity = model[0].weight.data.astype(np.float64), 0.0
    for x, labels in [*loader.epoch(0), *loader.epoch(1)]:
        p = np.exp(x @ weight.T + 0.0)
        dlogits = (p / p.sum(1, keepdims=True) - np.eye(3)[labels]) / len(x)
        velocity = 0.9 * velocity - 0.01 * 0.1 * weight - 0.1 * dlogits.T @ x
        weight = weight + velocity
    model[0].bias = None
    trainer(model, loader, lr=0.1, weight_decay=0.01).fit()
    steps = len([*loader.epoch(0), *loader.epoch(1)])
    assert_close(model[0].weight.data, weight, np.float32, terms=24 * steps)  # sums of 4, 3 and 8, exp, SGD


def test_it_learns_and_says_so_in_the_last_line(tmp_path, capfd):
    run = trainer(loader=Loader(240), epochs=6, out=tmp_path / "run")
    final = run.fit()
    assert final["val_top1_error"] <= 0.1  # classes lie 4.2 deviations apart: 3 % of the points, at best
    assert list(final) == ["event", "val_top1_error", "val_top5_error", "epochs", "seconds"]
    assert final == read_log(tmp_path / "run")[-1] == run.records[-1]
    assert (final["event"], final["epochs"], final["val_top5_error"]) == ("final", 6, 0.0)
    errors = evaluate(run.model, Loader())
    assert final["val_top1_error"] == errors.top1_error

    output = capfd.readouterr()
    lines = output.out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [f"epoch {i}/6" for i in range(1, 7)]
    assert lines[-1].startswith("finished after epoch 6, ")
    assert lines[-1].endswith(
        f": validation top-1 error {errors.top1_error:.2%}"
    )  # top-5 of three classes says nothing
    assert output.err == ""  # no bar where there is no terminal
    assert output.out.isascii()


def test_quiet_leaves_the_last_line_alone(capfd):
    trainer(quiet=True).fit()
    output = capfd.readouterr()
    assert output.out.startswith("finished after epoch 2, ")
    assert output.out.count("\n") == 1
    assert output.err == ""


def test_records(tmp_path):
    run = trainer(
        loader=Loader(416), epochs=2, out=tmp_path, config={"epochs": 2, "seed": 7, "num_classes": 3}
    )  # 52 steps an epoch
    run.fit()
    assert run.records == read_log(tmp_path)
    assert [(r["event"], r.get("epoch"), r.get("step")) for r in run.records] == [
        ("start", None, None),
        ("step", 1, 1),
        ("step", 1, 50),
        ("epoch", 1, 52),
        ("step", 2, 100),
        ("epoch", 2, 104),
        ("final", None, None),
    ]
    start = {"event": "start", "epochs": 2, "parameters": 139, "seed": 7, "num_classes": 3}
    assert run.records[0] == start | {"provenance": run.metadata["provenance"]}
    epoch = run.records[3]
    assert set(epoch) == {"event", "epoch", "step", "lr", "train_loss", "train_error"} | {
        *("val_loss", "val_top1_error", "val_top5_error", "images_per_second", "seconds")
    }
    assert epoch["images_per_second"] > 0
    assert 0 < epoch["seconds"] < run.records[5]["seconds"] <= run.records[6]["seconds"]


def test_without_learning_training_and_validation_agree():
    model = net()
    run = trainer(model, Loader(20), lr=0.0)  # 8 + 8 + 4 pictures: means are over pictures, not batches
    run.val_loader = run.train_loader
    run.fit()
    epoch = next(record for record in run.records if record["event"] == "epoch")
    assert epoch["train_loss"] == pytest.approx(epoch["val_loss"], rel=LOSS)
    assert epoch["train_error"] == epoch["val_top1_error"] == evaluate(model, run.train_loader).top1_error > 0


def test_the_mean_of_a_step_record_is_over_the_steps_since_the_last():
    run = trainer(loader=Loader(8 * 50), epochs=1, lr=0.0)
    run.fit()
    one, fifty, epoch = (record for record in run.records if record["event"] in ("step", "epoch"))
    assert fifty["train_loss"] != pytest.approx(epoch["train_loss"], rel=LOSS)
    assert (one["train_loss"] + 49 * fifty["train_loss"]) / 50 == pytest.approx(epoch["train_loss"], rel=roundings(64))
    assert (one["train_error"] + 49 * fifty["train_error"]) / 50 == pytest.approx(
        epoch["train_error"], rel=roundings(64)
    )


def test_the_schedule_gets_the_error_and_the_log_the_rate_that_was_used():
    seen = []

    class Recorder(StepLR):
        def step(self, val_error=None):
            seen.append(val_error)
            super().step(val_error)

    run = trainer(epochs=3)
    run.schedule = Recorder(run.optimizer, 1)
    run.fit()
    epochs = [record for record in run.records if record["event"] == "epoch"]
    assert [record["lr"] for record in epochs] == pytest.approx([0.05, 0.005, 0.0005])
    assert seen == [record["val_top1_error"] for record in epochs]


def test_callbacks_follow_each_epoch_when_its_weights_are_saved(tmp_path):
    calls = []

    def callback(run, record):
        saved = load_weights(tmp_path / "weights.safetensors")
        assert all((saved[name] == parameter.data).all() for name, parameter in run.model.named_parameters())
        metadata = without_provenance(load_metadata(tmp_path / "weights.safetensors"))
        assert metadata == {"epoch": run.epoch, "step": run.step}
        calls.append((run.epoch, run.step, record["event"], record.get("epoch")))

    trainer(out=tmp_path, callbacks=[callback]).fit()
    assert calls == [(1, 3, "epoch", 1), (2, 6, "epoch", 2), (2, 6, "final", None)]


def test_two_runs_with_one_seed_are_equal_bit_for_bit(tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    for turn, folder in enumerate(runs):
        model = net(dropout=0.5)
        model["drop1"].step = 17 * turn  # a used layer: masks are a function of the step in training alone
        trainer(model, out=folder, epochs=3).fit()
    first, second = (weights_left(folder / "weights.safetensors") for folder in runs)
    assert first == second
    assert without_times(read_log(runs[0])) == without_times(read_log(runs[1]))


def test_dropout_draws_a_new_mask_each_step():
    masks = []

    class Probe(Layer):
        def forward(self, x):
            if self.training:
                masks.append((x == 0).tobytes())
            return x

        def backward(self, dy):
            return dy

    model = Sequential({"fc1": Linear(4, 50), "drop1": Dropout(0.5), "probe": Probe(), "fc2": Linear(50, 3)})
    trainer(model).fit()
    assert len(masks) == 6
    assert len(set(masks)) == 6


def test_the_gradient_of_the_pictures_is_left_out_in_the_run_alone():
    model, wanted = net(), []
    trainer(model, Loader(on_batch=lambda step: wanted.append(model.input_grad))).fit()
    assert wanted == [False] * 6
    assert model.input_grad
    model["fc1"].weight.data[...] = np.nan
    with pytest.raises(NonFiniteError):
        trainer(model).fit()
    assert model.input_grad


# numbers that go bad


def stopped(run):
    with pytest.raises(NonFiniteError) as caught:
        run.fit()
    record = run.records[-1]
    assert (record["event"], record["reason"]) == ("stopped", str(caught.value))
    return caught.value


def test_bad_weights_are_named():
    model = net()
    model["fc2"].weight.data[3, 1] = np.nan
    error = stopped(trainer(model))
    assert error.layer == "Linear 'fc2'"
    assert str(error).startswith(
        "Linear 'fc2': its weight holds NaN or infinity. "
        "Training stopped in epoch 1, after step 0, at learning rate 0.05. Try a learning rate ten times smaller"
    )


def test_an_output_that_overflows_is_named():
    model = net()
    model["fc1"].weight.data[...] = 1e20
    model["fc2"].weight.data[...] = 1e20
    error = stopped(trainer(model))
    assert error.layer == "Linear 'fc2'"
    assert "gave NaN or infinity as its output" in str(error)


def test_what_only_the_loss_meets_is_the_last_layers_doing():
    model = net()
    model["fc3"].bias.data[...] = 3e38
    model["fc2"].weight.data[...], model["fc3"].weight.data[...] = 1e10, 3e37
    error = stopped(trainer(model))
    assert error.layer == "Linear 'fc3'"


def test_a_rate_too_high_is_noticed_in_the_step_that_did_the_harm(tmp_path):
    error = stopped(trainer(lr=1e39, out=tmp_path))
    assert "Linear 'fc3': its bias holds NaN or infinity. Training stopped in epoch 1, after step 1" in str(error)
    assert "at learning rate 1e+39" in str(error)
    assert [record["event"] for record in read_log(tmp_path)] == ["start", "stopped"]
    assert not (tmp_path / "weights.safetensors").exists()  # nothing worth keeping


def test_a_bad_backward_points_to_the_layers_after():
    class Broken(Layer):
        def forward(self, x):
            return x

        def backward(self, dy):
            return dy * np.nan

    model = Sequential({"fc1": Linear(4, 4), "fc2": Linear(4, 4), "broken": Broken(), "fc3": Linear(4, 3)})
    error = stopped(trainer(model))
    assert error.layer == "Linear 'fc2'"
    assert "A wrong backward in one of the layers after it does this too." in str(error)


def test_bad_pictures_are_not_blamed_on_the_learning_rate():
    loader = Loader()
    loader.x[20, 2] = np.nan
    error = stopped(trainer(loader=loader))
    assert error.layer == "Linear 'fc1'"
    assert "look at the pictures that the loader gives" in str(error)
    assert "learning rate ten times smaller" not in str(error)


def test_bad_numbers_in_validation_stop_the_run_too():
    run = trainer()
    run.val_loader.x[...] = 3e38
    error = stopped(run)
    assert error.layer == "Linear 'fc1'"
    assert "in epoch 1, after step 3" in str(error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("the camera is gone"), "the camera is gone"), (MemoryError(), "MemoryError")],
)
def test_any_failure_is_the_last_line_of_the_log(tmp_path, error, reason):
    def fail(step):
        if step == 4:
            raise error

    with pytest.raises(type(error)) as caught:
        trainer(loader=Loader(on_batch=fail), out=tmp_path).fit()
    assert caught.value is error
    assert read_log(tmp_path)[-1] == {"event": "stopped", "reason": reason, "epoch": 2, "step": 4}


def test_a_callbacks_failure_after_the_last_epoch_is_in_the_log(tmp_path):
    def callback(run, record):
        raise ZeroDivisionError("no mean of nothing")

    with pytest.raises(ZeroDivisionError, match="no mean of nothing"):
        trainer(epochs=1, out=tmp_path, callbacks=[callback]).fit()
    last = read_log(tmp_path)[-1]
    assert last == {"event": "stopped", "reason": "no mean of nothing", "epoch": 1, "step": 3}


def test_a_log_that_takes_no_more_hides_no_failure(monkeypatch, tmp_path):
    def full(log, record):
        if record["event"] != "start":
            raise OSError(28, f"no room for {record['event']}")
        append(log, record)

    append = JsonLines.append
    monkeypatch.setattr(JsonLines, "append", full)
    run = trainer(out=tmp_path)
    with pytest.raises(OSError, match="no room for step"):
        run.fit()
    assert run.records[-1]["event"] == "stopped"
    assert [record["event"] for record in read_log(tmp_path)] == ["start"]


# Ctrl-C


def interrupt(at, times=1):
    def on_batch(step):
        if step == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return on_batch


@pytest.fixture
def usual_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_ctrl_c_ends_between_two_steps_with_everything_kept(tmp_path):
    run = trainer(loader=Loader(on_batch=interrupt(at=4)), epochs=9, out=tmp_path)
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2, after step 4; everything is kept in"):
        run.fit()
    saved = load_weights(tmp_path / "weights.safetensors")
    assert all((saved[name] == parameter.data).all() for name, parameter in run.model.named_parameters())
    assert without_provenance(load_metadata(tmp_path / "weights.safetensors")) == {"epoch": 1, "step": 4}
    log = read_log(tmp_path)
    assert [record["event"] for record in log] == ["start", "step", "epoch", "stopped"]
    assert log[-1] == {"event": "stopped", "reason": "interrupted", "epoch": 2, "step": 4}

    straight = net()  # the same four steps, never stopped
    stop_after = trainer(straight, Loader(), epochs=1)
    stop_after.fit()
    stop_after._one_step(*next(Loader().epoch(1)))
    assert all((saved[name] == parameter.data).all() for name, parameter in straight.named_parameters())


@pytest.mark.usefixtures("usual_ctrl_c")
def test_ctrl_c_in_validation(tmp_path):
    run = trainer(out=tmp_path)
    run.val_loader = Loader(on_batch=interrupt(at=0))
    with pytest.raises(KeyboardInterrupt, match="after step 3"):
        run.fit()
    assert read_log(tmp_path)[-1]["reason"] == "interrupted"


@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_second_ctrl_c_does_not_wait():
    reached = []

    def on_batch(step):
        interrupt(at=1, times=2)(step)
        reached.append(step)

    with pytest.raises(KeyboardInterrupt, match=r"after step 1$"):
        trainer(loader=Loader(on_batch=on_batch)).fit()
    assert reached == [0]


def test_a_programs_own_way_with_ctrl_c_is_left_be():
    came = []
    before = signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        final = trainer(loader=Loader(on_batch=interrupt(at=1))).fit()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(came) == 1
    assert final["epochs"] == 2


def test_it_runs_in_a_thread_which_gets_no_signals():
    results = []
    thread = threading.Thread(target=lambda: results.append(trainer().fit()))
    thread.start()
    thread.join()
    assert results[0]["event"] == "final"


# files, screens, arguments


def test_a_folder_with_any_name_is_made(tmp_path):
    folder = tmp_path / "Übung 1" / "走る, run"
    trainer(out=folder).fit()
    assert sorted(os.listdir(folder)) == ["checkpoints", "config.json", "log.jsonl", "weights.safetensors"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    run = trainer(out=tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"cannot write .*file.*run"):
        run.fit()
    assert run.step == 0


def test_an_earlier_run_is_not_overwritten(tmp_path):
    trainer(out=tmp_path).fit()
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds log\.jsonl of a run that began before; nothing"):
        (second := trainer(out=tmp_path, lr=0.01)).fit()
    assert second.model.input_grad
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("encoding", "blocks"), [("ascii", False), ("cp1252", False), ("utf-8", True), (None, False)])
def test_the_progress_bar_suits_the_screen(monkeypatch, encoding, blocks):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    Screen.encoding = encoding
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    # the bar is redrawn every tenth of a second at most
    trainer(loader=Loader(on_batch=lambda step: time.sleep(0.11)), epochs=1).fit()
    text = screen.getvalue()
    assert "epoch 1/1" in text
    assert "images/s" in text
    assert "loss " in text
    assert "█" in text if blocks else text.isascii()


def test_no_stderr_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as in a Windows program without a console
    assert trainer().fit()["event"] == "final"


@pytest.mark.parametrize("epochs", [0, -1, 2.5, None])
def test_epochs_must_be_a_count(epochs):
    with pytest.raises(ValueError, match="expected epochs as a whole number of at least 1, got"):
        trainer(epochs=epochs)


def test_what_is_no_loader_is_refused_before_the_folder_is_made(tmp_path):
    batches = list(Loader().epoch(0))
    text = r"Trainer: expected train_loader to have epoch\(number\) and len\(\), got list; use a tinynet\.data\.Loader"
    with pytest.raises(TypeError, match=text):
        trainer(loader=batches, out=tmp_path / "run")

    class Endless:
        def epoch(self, number):
            return iter(batches)

    with pytest.raises(TypeError, match=r"expected train_loader to have .* and len\(\), got Endless"):
        trainer(loader=Endless())
    model = net()
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match=r"expected val_loader to have epoch\(number\), got list; use"):
        Trainer(model, optimizer, Loader(), batches, epochs=1)
    assert Trainer(model, optimizer, Loader(), Endless(), epochs=1, quiet=True).fit()["event"] == "final"
    assert os.listdir(tmp_path) == []


def test_labels_may_be_lists():
    class Lists(Loader):
        def epoch(self, number):
            return ((x, labels.tolist()) for x, labels in super().epoch(number))

    finals = [trainer(loader=loader).fit() for loader in (Loader(), Lists())]
    assert without_times(finals)[0] == without_times(finals)[1]


def test_a_loader_without_pictures():
    with pytest.raises(ValueError, match="expected at least one picture to learn from"):
        trainer(loader=Loader(0)).fit()


def test_more_epochs_can_follow():
    run = trainer(epochs=1)
    run.fit()
    run.epochs = 2
    assert run.fit()["epochs"] == 2
    straight = trainer(epochs=2)
    straight.fit()
    assert run.step == straight.step
    assert math.isclose(run.records[-1]["val_top1_error"], straight.records[-1]["val_top1_error"])
    for mine, other in zip(run.model.parameters(), straight.model.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, other.data)
