"""A run that was stopped, in any way and at any moment, and goes on as if it never had been."""

import contextlib
import json
import os
import signal

import numpy as np
import pytest
from checks import disk_of, weights_left
from hypothesis import given
from hypothesis import strategies as st

import tinynet
import training.test_trainer as usual
from tinynet import set_num_threads
from tinynet.backend.threads import get_num_threads
from tinynet.errors import Terminated
from tinynet.io import checkpoints
from tinynet.io.checkpoints import Checkpoints, load_weights, read_checkpoint
from tinynet.layers import Linear, Sequential
from tinynet.optim import SGD, ReduceLROnPlateau, StepLR
from tinynet.training.provenance import without_provenance
from tinynet.training.trainer import Trainer
from training.test_trainer import Loader, interrupt, net, read_log, without_times

PICTURES, STEPS, EPOCHS = 60, 8, 3  # 8 steps an epoch: the last batch is smaller


class Killed(BaseException):
    """What SIGKILL or a pulled plug does: nothing more is written."""


def kill(at):
    def on_batch(step):
        if step == at:
            raise Killed

    return on_batch


def trainer(out, on_batch=None, *, epochs=EPOCHS, **options):
    model = net(dropout=0.5)
    optimizer = SGD(model.parameters(), 0.05, 0.9, 1e-3)
    options = {"schedule": StepLR(optimizer, 2), "checkpoint_minutes": 1e-9} | options  # a checkpoint after each step
    return Trainer(model, optimizer, Loader(PICTURES, on_batch=on_batch), Loader(), epochs=epochs, out=out, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    trainer(folder).fit()
    return folder


def assert_same_run(folder, straight):
    assert weights_left(folder / "weights.safetensors") == weights_left(straight / "weights.safetensors")
    assert without_times(read_log(folder)) == without_times(read_log(straight))
    for name in ("best.safetensors", f"step-{EPOCHS * STEPS:09d}.safetensors"):
        one, other = (read_checkpoint(where / "checkpoints" / name) for where in (folder, straight))
        assert {name: array.tobytes() for name, array in one.tensors.items()} == {
            name: array.tobytes() for name, array in other.tensors.items()
        }
        for state in (one.state, other.state):
            del state["seconds"], state["log"]  # the log's records have times, and so other lengths
        assert without_provenance(one.state) == without_provenance(other.state)


@pytest.mark.parametrize("at", range(EPOCHS * STEPS))
def test_killed_before_any_step_it_ends_like_the_run_never_stopped(tmp_path, straight, at):
    with pytest.raises(Killed):
        trainer(tmp_path, kill(at)).fit()
    run, done = count_steps(trainer(tmp_path))
    run.fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)
    assert run.records == read_log(tmp_path)
    assert len(done) == EPOCHS * STEPS - at  # no fresh start in disguise


def count_steps(run):
    """The run, and a list that gets an item with each step it does."""
    done, one_step = [], run._one_step
    run._one_step = lambda x, labels: done.append(0) or one_step(x, labels)
    return run, done


@pytest.mark.parametrize("minutes", [1e-9, 1e9])
def test_what_came_after_the_last_checkpoint_is_done_again(tmp_path, straight, minutes):
    with pytest.raises(Killed):
        trainer(tmp_path, kill(2 * STEPS + 5), checkpoint_minutes=minutes).fit()
    with open(tmp_path / "log.jsonl", "ab") as log:
        log.write(b'{"event": "step", "epoch": 9}\n{"event": "st')  # newer than the checkpoint, the last line torn
    newest = read_checkpoint(tmp_path)
    assert newest.state["step"] == 2 * STEPS + (5 if minutes < 1 else 0)
    trainer(tmp_path).fit(resume=newest)
    assert_same_run(tmp_path, straight)


def test_killed_in_validation_and_in_a_callback(tmp_path, straight):
    run = trainer(tmp_path)
    run.val_loader = Loader(on_batch=kill(1))
    with pytest.raises(Killed):
        run.fit()

    def callback(run, record):
        if run.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[callback]).fit(resume=tmp_path)
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_killed_while_a_checkpoint_is_written(tmp_path, straight, monkeypatch, stage):
    usual, calls = getattr(os, stage), []

    def fail(*args):
        calls.append(args)
        if len(calls) >= 17 and list(tmp_path.glob("checkpoints/.*.tmp")):
            raise Killed
        return usual(*args)

    monkeypatch.setattr(os, stage, fail)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *args, **options: None)  # a killed program tidies nothing up
    with pytest.raises(Killed):
        trainer(tmp_path).fit()
    monkeypatch.undo()
    assert list(tmp_path.rglob(".*.tmp"))
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_loader_that_can_start_in_the_middle_makes_no_batch_in_vain(tmp_path, straight):
    class Starting(Loader):
        def epoch(self, number, start=0):
            starts.append(start)
            for i, batch in enumerate(super().epoch(number)):
                if i >= start:
                    yield batch

    starts = []
    with pytest.raises(Killed):
        trainer(tmp_path, kill(STEPS + 3)).fit()
    run = trainer(tmp_path)
    run.train_loader = Starting(PICTURES)
    run.fit(resume=tmp_path)
    assert starts == [3, 0]
    assert_same_run(tmp_path, straight)


def test_the_plateau_schedule_goes_on_counting(tmp_path):
    def run(folder, on_batch=None):
        run = trainer(folder, on_batch, epochs=6)
        run.schedule = ReduceLROnPlateau(run.optimizer, patience=1, threshold=0.5)
        return run

    run(tmp_path / "straight").fit()
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill(3 * STEPS + 1)).fit()
    run(tmp_path / "cut").fit(resume=tmp_path / "cut")
    logs = [without_times(read_log(tmp_path / name)) for name in ("cut", "straight")]
    assert logs[0] == logs[1]
    assert len({record["lr"] for record in logs[0] if record["event"] == "epoch"}) == 3


def test_a_finished_run_only_says_its_result_again(tmp_path, capfd):
    first = trainer(tmp_path).fit()
    again = trainer(tmp_path).fit(resume=tmp_path)
    assert without_times([first]) == without_times([again])
    assert "resumed in the end of epoch 3, where it had finished, from" in capfd.readouterr().out


def test_more_epochs_than_planned(tmp_path, straight):
    trainer(tmp_path, epochs=1).fit()
    trainer(tmp_path).fit(resume=tmp_path)
    assert weights_left(tmp_path / "weights.safetensors") == weights_left(straight / "weights.safetensors")
    assert [record["event"] for record in read_log(tmp_path)].count("final") == 1


def test_going_back_to_an_older_checkpoint_loses_nothing(tmp_path, straight):
    trainer(tmp_path).fit()
    names = [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()]
    assert names == [f"step-{step:09d}.safetensors" for step in (24, 23, 22)]
    trainer(tmp_path, keep=4).fit(resume=tmp_path / "checkpoints" / names[2])
    assert_same_run(tmp_path, straight)
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["best.safetensors", *sorted([*names, *(name + ".superseded" for name in names[:2])])]


# stopped by a signal


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("at", [0, 1, STEPS - 1, STEPS, STEPS + 3])
def test_a_signal_saves_and_ends(tmp_path, straight, name, at):
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    usual = {signal.SIGINT: signal.default_int_handler}.get(number, signal.SIG_DFL)
    before = signal.signal(number, usual)
    try:
        expected = KeyboardInterrupt if name == "SIGINT" else Terminated
        how = "interrupted" if name == "SIGINT" else "terminated"
        with pytest.raises(expected) as caught:
            trainer(tmp_path, lambda step: step == at and signal.raise_signal(number), checkpoint_minutes=1e9).fit()
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)
    assert str(caught.value).startswith(f"{how} in epoch {at // STEPS + 1}, after step {at}; everything is kept in ")
    if name != "SIGINT":
        assert caught.value.code == 128 + number
    assert read_log(tmp_path)[-1] == {"event": "stopped", "reason": how, "epoch": at // STEPS + 1, "step": at}
    assert read_checkpoint(tmp_path).state["step"] == at
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.usefixtures("ctrl_c_is_usual")
def test_a_signal_in_the_last_step_of_an_epoch_comes_before_validation(tmp_path, straight):
    validated = []
    run = trainer(tmp_path, interrupt(at=STEPS - 1))
    run.val_loader = Loader(on_batch=validated.append)
    with pytest.raises(KeyboardInterrupt, match=f"after step {STEPS - 1}"):
        run.fit()
    assert validated == []
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


ctrl_c_is_usual = usual.usual_ctrl_c


@pytest.mark.usefixtures("ctrl_c_is_usual")
@pytest.mark.parametrize("where", ["before", "half", "after"])
def test_a_second_signal_in_the_middle_of_a_step_keeps_the_checkpoint_before_it(tmp_path, straight, where):
    run = trainer(tmp_path)
    step = run.optimizer.step

    def interrupted():
        if run.step != 4:
            return step()
        if where == "half":
            run.optimizer._parts = run.optimizer._parts[:2]
        if where != "before":
            step()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one raises")

    run.optimizer.step = interrupted
    with pytest.raises(
        KeyboardInterrupt, match="after step 4; that step was not finished: the run can be resumed from"
    ):
        run.fit()
    assert read_checkpoint(tmp_path).state["step"] == 4
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.usefixtures("ctrl_c_is_usual")
def test_a_second_signal_while_an_epoch_is_closed_keeps_no_half_closed_epoch(tmp_path, straight, monkeypatch):
    def interrupted(schedule, val_error):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StepLR, "step", interrupted)  # the epoch is counted, but not yet by the schedule
    with pytest.raises(KeyboardInterrupt, match="can be resumed from the checkpoint before it"):
        trainer(tmp_path).fit()
    monkeypatch.undo()
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.usefixtures("ctrl_c_is_usual")
def test_no_signal_cuts_short_what_is_saved_at_the_end(tmp_path, straight, monkeypatch):
    save = Checkpoints.save

    def impatient(*args, **options):
        if run._stop.came:
            signal.raise_signal(signal.SIGINT)
        return save(*args, **options)

    monkeypatch.setattr(Checkpoints, "save", impatient)
    run = trainer(tmp_path, interrupt(at=5), checkpoint_minutes=1e9)
    with pytest.raises(KeyboardInterrupt, match="after step 5; everything is kept in"):
        run.fit()
    monkeypatch.undo()
    assert read_checkpoint(tmp_path).state["step"] == 5
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


def test_a_screen_that_is_gone_ends_nothing(tmp_path, straight):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", gone)
        trainer(tmp_path).fit()
    assert_same_run(tmp_path, straight)


def test_killed_between_setting_checkpoints_aside_and_cutting_the_log(tmp_path, straight, monkeypatch):
    trainer(tmp_path).fit()
    older = Checkpoints(tmp_path / "checkpoints").paths()[2]

    def killed(log):
        raise Killed

    monkeypatch.setattr("tinynet.io.files.JsonLines.cut", killed)
    with pytest.raises(Killed):
        trainer(tmp_path).fit(resume=older)
    monkeypatch.undo()
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


def test_weights_and_the_best_of_a_course_that_was_left_are_not_taken_for_this_ones(tmp_path):
    run = trainer(tmp_path, checkpoint_minutes=1e9, keep=9)
    run.fit()
    older = tmp_path / "checkpoints" / f"step-{STEPS:09d}.safetensors"
    final = trainer(tmp_path, epochs=1, checkpoint_minutes=1e9).fit(resume=older)
    assert final["epochs"] == 1
    assert checkpoints.load_metadata(tmp_path)["epoch"] == 1
    best = tmp_path / "checkpoints" / "best.safetensors"
    assert not best.exists() or checkpoints.load_metadata(best)["step"] <= STEPS


# what is kept


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    saved, save = [], Checkpoints.save

    def spy(self, state, tensors, *, best=False):
        saved.append((state["step"], state["batch"], best))
        return save(self, state, tensors, best=best)

    run = trainer(tmp_path, epochs=5, checkpoint_minutes=1e9, keep=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", spy)
        run.fit()
    errors = [record["val_top1_error"] for record in run.records if record["event"] == "epoch"]
    best = [i for i, error in enumerate(errors) if error < min(errors[:i], default=np.inf)]
    assert saved == [(0, 0, False)] + [(STEPS * (i + 1), 0, i in best) for i in range(5)]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.safetensors", "step-000000032.safetensors", "step-000000040.safetensors"]
    assert read_checkpoint(tmp_path / "checkpoints" / "best.safetensors").state["step"] == STEPS * (best[-1] + 1)


def test_a_checkpoint_tells_what_the_run_was(tmp_path):
    trainer(tmp_path, epochs=1, config={"seed": 7, "lr": 0.1}, metadata={"classes": ["a", "b"]}).fit()
    state = read_checkpoint(tmp_path).state
    assert without_provenance(state["config"]) == {"seed": 7, "lr": 0.1}
    assert (state["epoch"], state["batch"], state["step"], state["threads"]) == (1, 0, STEPS, get_num_threads())
    metadata = without_provenance(checkpoints.load_metadata(tmp_path))
    assert metadata == {"epoch": 1, "step": STEPS, "classes": ["a", "b"]}
    weights = load_weights(tmp_path / "checkpoints" / "best.safetensors")
    assert {name: a.tobytes() for name, a in weights.items()} == {
        name: a.tobytes() for name, a in load_weights(tmp_path).items()
    }


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, straight):
    with contextlib.ExitStack() as until_here:
        run = trainer(tmp_path, lambda step: step == 5 and until_here.enter_context(disk_of(2000)))
        with pytest.raises(OSError, match=r"cannot write .*step-000000006.*; free some space"):
            run.fit()
    assert read_checkpoint(tmp_path).state["step"] == 5
    trainer(tmp_path).fit(resume=tmp_path)
    assert_same_run(tmp_path, straight)


# what cannot be resumed


@pytest.fixture
def cut(tmp_path):
    """A folder with a run that was killed after 11 steps."""
    with pytest.raises(Killed):
        trainer(tmp_path, kill(11)).fit()
    return tmp_path


def refuse(folder, error, match, run=None, resume=None):
    before = usual.contents(folder)
    with pytest.raises(error, match=match):
        (run or trainer(folder)).fit(resume=resume or folder)
    assert usual.contents(folder) == before  # nothing lost, no fresh start


def test_another_net_batch_size_or_schedule(cut):
    model = Sequential({"fc1": Linear(4, 3)})
    other = Trainer(model, SGD(model.parameters(), 0.1), Loader(PICTURES), Loader(), epochs=3, out=cut)
    refuse(cut, ValueError, r"expected the run's net, fc1: Linear\(4, 8\), got fc1: Linear\(4, 3\); resume with", other)
    run = trainer(cut)
    run.train_loader.batch_size = 5
    refuse(cut, ValueError, r"expected the run's batches, 8, got 12; resume with the same net", run)
    run = trainer(cut)
    run.schedule = ReduceLROnPlateau(run.optimizer)
    refuse(cut, ValueError, "expected the run's schedule, StepLR, got ReduceLROnPlateau", run)
    run = trainer(cut, schedule=None)
    refuse(cut, ValueError, "expected the run's schedule, .*, got None", run)


def change(run, what):
    first = next(run.model.parameters())
    {
        "momentum": lambda: setattr(run.optimizer, "momentum", 0.8),
        "weight_decay": lambda: setattr(run.optimizer, "weight_decay", 0.0),
        "lr_mult": lambda: setattr(first, "lr_mult", 0.0),
        "weight_decay_mult": lambda: setattr(first, "weight_decay_mult", 0.0),
        "schedule": lambda: setattr(run.schedule, "step_size", 3),
        "loader's seed": lambda: setattr(run.train_loader, "seed", 1),
        "net": lambda: setattr(run.model["drop1"], "p", 0.25),
    }[what]()
    return run


@pytest.mark.parametrize(
    "what",
    ["momentum", "weight_decay", "lr_mult", "weight_decay_mult", "schedule", "loader's seed", "net"],
)
def test_other_settings_are_named(cut, what):
    refuse(cut, ValueError, rf"expected the run's {what}, .*; resume with the same net", change(trainer(cut), what))


def test_fewer_epochs_than_are_done(cut):
    refuse(cut, ValueError, "expected epochs of at least 2, where the run stands, got 1", trainer(cut, epochs=1))


def test_nothing_there(tmp_path):
    refuse(tmp_path, FileNotFoundError, "got .*, which holds none; a run that was stopped before its first checkpoint")
    refuse(tmp_path, FileNotFoundError, "got nothing there", resume=tmp_path / "gone")


def test_a_log_that_is_missing_or_another_runs(cut):
    log = (cut / "log.jsonl").read_bytes()
    (cut / "log.jsonl").write_bytes(log.replace(b'"epochs": 3', b'"epochs": 4'))
    refuse(cut, ValueError, "expected the lines that were there when the checkpoint was written")
    (cut / "log.jsonl").write_bytes(log[:100])
    refuse(cut, ValueError, "expected the lines that were there when the checkpoint was written")
    (cut / "log.jsonl").unlink()
    refuse(cut, FileNotFoundError, r"expected the run's log at .*log\.jsonl, got nothing there")
    run = trainer(None)
    with pytest.raises(ValueError, match="expected `out`, the folder of the run that is resumed"):
        run.fit(resume=cut)


def test_two_programs_do_not_write_one_run(cut):
    fcntl = pytest.importorskip("fcntl", reason="locks of files are POSIX only")
    with open(cut / "log.jsonl", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refuse(cut, BlockingIOError, "another program is writing to it")
    trainer(cut).fit(resume=cut)


def test_a_damaged_newest_checkpoint_is_passed_over_and_kept(cut, straight):
    newest = Checkpoints(cut / "checkpoints").paths()[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert read_checkpoint(cut).state["step"] == 10
    trainer(cut).fit(resume=cut)
    assert_same_run(cut, straight)
    assert newest.with_name(newest.name + ".superseded").exists()


def test_only_damaged_ones(cut):
    for path in Checkpoints(cut / "checkpoints").paths():
        path.write_bytes(b"not a checkpoint")
    refuse(cut, ValueError, r"expected a good checkpoint, got damaged ones only: .*step-000000011.*step-000000009")


def test_a_foreign_file(cut, tmp_path):
    (tmp_path / "x").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(90))
    refuse(cut, ValueError, "expected a safetensors file, got one that begins with", resume=tmp_path / "x")
    checkpoints.save_weights(tmp_path / "x", net())
    refuse(cut, ValueError, "expected a checkpoint of a run, got weights alone", resume=tmp_path / "x")
    path = Checkpoints(cut / "checkpoints").paths()[0]
    state = read_checkpoint(path).state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT", 99)
        checkpoints.Checkpoints(tmp_path / "later").save(state, {})
    later = Checkpoints(tmp_path / "later").paths()[0]
    refuse(cut, ValueError, "expected a checkpoint of format 1, got 99; use the version", resume=later)


@given(data=st.data())
def test_any_flipped_bit_is_noticed_or_changes_nothing(straight, tmp_path_factory, data):
    whole = Checkpoints(straight / "checkpoints").paths()[0]
    raw = bytearray(whole.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    at = data.draw(st.integers(0, 8 * header - 1) | st.integers(8 * header, 8 * len(raw) - 1))
    raw[at // 8] ^= 1 << at % 8
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(raw)
    try:  # the e of 1e-09 may become E, and our own entry's name another program's: the numbers stay what they were
        found = read_checkpoint(path)
    except ValueError as error:
        assert "flipped.safetensors: expected" in str(error)  # noqa: PT017
    else:
        assert found.state == read_checkpoint(whole).state
        assert at < 8 * header
    with contextlib.suppress(ValueError):
        weights = load_weights(path)
        assert at < 8 * header
        original = load_weights(whole)
        assert all(
            (array == original[name.removeprefix("model.")]).all() for name, array in weights.items() if "fc" in name
        )


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"w": {"dtype": "os.system", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {"tinynet": "[" * 100_000}},
        {"__metadata__": {"tinynet": '{"state": {"format": 1}, "sha256": null}'}},
        {"__metadata__": {"tinynet": "{}"}},
        {"__metadata__": {"tinynet": "7"}},
    ],
)
def test_a_hostile_header(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8 if "w" in header else 0))
    with pytest.raises(ValueError, match="w: expected"):
        read_checkpoint(tmp_path / "w")
    (tmp_path / "w").write_bytes((1 << 62).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="w: expected"):
        load_weights(tmp_path / "w")


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": "x"},
        {"threads": None},
        {"step": -1},
        {"log": [0, 0]},
        {"log": [1.5, 0]},
        {"log": "no"},
        {"tally": [1, 2]},
        {"recent": [1, 2, "x"]},
        {"schedule": 7},
        {"metadata": []},
        {"settings": None},
        {"epoch_seconds": None},
    ],
)
def test_a_state_that_no_run_wrote_changes_nothing(cut, changes):
    """Its checksum is right: anyone can compute one."""
    newest = read_checkpoint(cut)
    made_up = Checkpoints(cut / "made up").save({**newest.state, "step": 0}, newest.tensors)
    state = {**newest.state, **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "STEP", "made-up.safetensors")
        made_up = Checkpoints(cut / "made up").save(state, newest.tensors)
    refuse(cut, ValueError, r"made-up\.safetensors: expected the state of a run, got one whose", resume=made_up)


def test_a_promise_of_terabytes_costs_nothing(tmp_path):
    with open(tmp_path / "w", "wb") as file:
        file.write((1 << 62).to_bytes(8, "little") + b"{")
        file.truncate(1 << 40)  # a terabyte of nothing
    for read in (read_checkpoint, load_weights, checkpoints.load_metadata):
        with pytest.raises(ValueError, match="w: expected a whole safetensors file"):
            read(tmp_path / "w")


# other threads, early stopping, a loss that does not fall


def test_another_number_of_threads_is_reported(cut, capfd):
    before = get_num_threads()
    set_num_threads(before + 1)
    try:
        trainer(cut, quiet=True).fit(resume=cut)
    finally:
        set_num_threads(before)
    error = capfd.readouterr().err
    assert error.startswith(f"train: warning: the run had {before} CPU threads and has {before + 1} now: its numbers")
    assert error.count("\n") == 1


@pytest.mark.parametrize("now", [False, True], ids=["fast now", "plain now"])
def test_another_mode_is_reported(tmp_path, capfd, now):
    with tinynet.plain(not now), pytest.raises(Killed):
        trainer(tmp_path, kill(3)).fit()
    with tinynet.plain(not now):
        trainer(tmp_path, epochs=1, quiet=True).fit(resume=tmp_path)
    assert capfd.readouterr().err == ""
    with tinynet.plain(now):
        trainer(tmp_path, epochs=2, quiet=True).fit(resume=tmp_path)
    how = "goes on in plain mode, which it was not in" if now else "was in plain mode and goes on without"
    text = f"the run {how}: its numbers will differ in their last digits from those of a run never stopped"
    assert capfd.readouterr().err == f"train: warning: {text}\n"


class Errors:
    """Stands for evaluate(): the errors it was given, one an epoch."""

    def __init__(self, errors):
        self.errors = iter(errors)

    def __call__(self, model, loader):
        from tinynet.training.evaluate import Evaluation

        return Evaluation(next(self.errors), 0.0, 1.0)


def test_early_stopping(tmp_path, monkeypatch):
    errors = [0.5, 0.4, 0.4, 0.45, 0.39, 0.39, 0.5, 0.41, 0.1]
    monkeypatch.setattr("tinynet.training.trainer.evaluate", Errors(errors))
    final = trainer(tmp_path, epochs=20, patience=3).fit()
    assert (final["epochs"], final["val_top1_error"]) == (8, 0.41)  # three epochs without a new best after the fifth
    monkeypatch.setattr("tinynet.training.trainer.evaluate", Errors([]))
    assert trainer(tmp_path, epochs=20, patience=3).fit(resume=tmp_path)["epochs"] == 8
    monkeypatch.setattr("tinynet.training.trainer.evaluate", Errors(errors[8:] + [0.2] * 9))
    assert trainer(tmp_path, epochs=20, patience=4).fit(resume=tmp_path)["epochs"] == 13


@pytest.mark.parametrize(
    ("option", "value"), [("keep", 0), ("patience", 0), ("patience", 1.5), ("checkpoint_minutes", 0)]
)
def test_wrong_options(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"Trainer: expected {option} "):
        trainer(tmp_path, **{option: value})


def test_guessing_goes_by_the_labels_that_there_are(tmp_path):
    """A net of 3 outputs that learned no more than that only two classes come, one in a quarter of the cases."""
    run = trainer(None)
    run.train_loader.dataset = type("Labels", (), {"labels": np.array([0, 2, 2, 2] * 5)})
    assert run._chance() == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


@pytest.mark.parametrize(("lr", "told"), [(0.0, True), (0.05, False)])
def test_when_learning_does_not_start_it_says_what_to_look_at(tmp_path, capfd, lr, told):
    model = net()
    model["fc3"].weight.data *= 0.01
    optimizer = SGD(model.parameters(), lr)
    run = Trainer(model, optimizer, Loader(8 * 100), Loader(), epochs=4, out=tmp_path, quiet=True)
    run.fit()
    warnings = [record for record in read_log(tmp_path) if record["event"] == "warning"]
    error = capfd.readouterr().err
    assert len(warnings) == told
    assert error.count("\n") == told
    if told:
        assert warnings[0]["text"] in error
        for part in ("after 300 steps; guessing gives 1.099 = ln 3", "initial values", "learning rate (0:", "scale"):
            assert part in error
