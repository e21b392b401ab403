"""Kinds of run of train_alexnet.py: photographs, resumed, fine-tuned, evaluated."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bounds import roundings
from checks import assert_close, weights_left
from conftest import PROGRAM
from PIL import Image
from training.test_trainer import trainer

from tinynet import data
from tinynet.cli import building
from tinynet.io.checkpoints import load_metadata, load_weights, read_checkpoint, save_weights
from tinynet.layers import Conv2d, Sequential
from tinynet.models import alexnet_mini
from tinynet.training.preprocessing import unpack_mean
from tinynet.training.provenance import without_provenance

TIMES = "seconds", "images_per_second"
TINY = "--train-size", 40, "--val-size", 20, "--batch-size", 10, "--lr", 0.001, "--quiet"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def album(tmp_path):
    """A folder of ten coloured photographs, six of cats and four of dogs, and one file that is no picture."""
    rng = np.random.default_rng(0)
    for name, count in (("cats", 6), ("dogs", 4)):
        (tmp_path / "album" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (80 + 7 * i, 90, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "album" / name / f"{i}.png")
    (tmp_path / "album" / "dogs" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return tmp_path / "album"


MINI = "--model", "alexnet_mini", "--image-size", 32, "--batch-size", 4, "--epochs", 1, "--lr", 0.001


def log(folder):
    records = [json.loads(line) for line in Path(folder, "log.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in without_provenance(record).items() if key not in TIMES} for record in records]


def assert_same_run(one, other):
    assert weights_left(one) == weights_left(other)
    starts = [{key: value for key, value in log(folder)[0].items() if key != "out"} for folder in (one, other)]
    assert starts[0] == starts[1]
    assert log(one)[1:] == log(other)[1:]


# photographs


def test_a_folder_of_photographs(quick, capfd, album):
    assert quick("--data", album, *MINI) == 0
    output = capfd.readouterr()
    assert f"{album}: 8 pictures to learn from, 2 to validate on, 3 x 37 x 37" in output.out
    assert re.search(r"warning: skipped .*broken\.jpg: ", output.err)
    assert "warning: 1 file skipped in all" in output.err
    metadata = load_metadata("runs/album-1")
    assert metadata["classes"] == ["cats", "dogs"]
    assert (metadata["image_size"], metadata["model"]) == (32, "alexnet_mini")
    assert load_weights("runs/album-1")["fc8.weight"].shape == (2, 256)


@pytest.mark.parametrize("preset", ["paper", "torchvision"])
def test_photographs_without_model_train_the_papers_net_on_its_own_crops(program, monkeypatch, album, preset):
    """The real net takes half a minute here: what it would be given is looked at instead."""
    seen = {}

    class Spy:
        def __init__(self, model, optimizer, train_loader, val_loader, **options):
            seen.update(model=model, train=train_loader, val=val_loader, **options)

        def fit(self, resume=None):
            return {}

    monkeypatch.setattr("tinynet.cli.train.Trainer", Spy)
    options = () if preset == "paper" else ("--preset", preset)
    assert program("--data", album, "--batch-size", 2, *options) == 0
    size = 227 if preset == "paper" else 224
    x, labels = next(seen["train"].epoch(0))
    assert x.shape == (2, 3, size, size)
    assert next(seen["val"].epoch(0))[0].shape == (2, 3, size, size)
    assert seen["model"]["fc8"].weight.shape == (2, 4096)
    whole = seen["train"].dataset.images.astype(np.float64)
    assert whole.shape[1:] == (3, 256, 256)
    assert seen["config"]["augment"] == "paper"
    assert (seen["train"].workers, seen["epochs"]) == (1, 90)
    val, _ = next(seen["val"].epoch(0))
    edge = (256 - size) // 2
    centre = (slice(None), slice(None), slice(edge, edge + size), slice(edge, edge + size))
    if preset == "paper":  # raw values minus the mean picture of the training photographs
        expected = seen["val"].dataset.images[centre] - whole.mean(axis=0)[centre[1:]]
        assert_close(val, expected[:2], np.float32, terms=6, size=255)  # gain and mean are rounded, a product, a sum
    else:
        assert abs(val.std() - 1) < 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "expected"),
        (lambda folder: (folder / "only").mkdir(), "class"),
        (lambda folder: [(folder / name).mkdir() for name in ("cats", "Cats")], "cats"),
    ],
)
def test_a_folder_that_is_no_album(quick, capfd, tmp_path, make, message):
    (tmp_path / "pictures").mkdir()
    make(tmp_path / "pictures")
    assert quick("--data", "pictures") == 1
    error = capfd.readouterr().err
    assert error.startswith("train_alexnet.py: error: ")
    assert message in error
    assert os.listdir(tmp_path) == ["pictures"]


def test_of_two_classes_no_top_5_error_is_told(quick, capfd, album):
    assert quick("--data", album, *MINI, "--out", "run") == 0
    assert quick("--resume", "run") == 0
    assert quick("--evaluate", "run", "--data", album) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if "top-1 error" in line]
    assert len(lines) == 4  # the epoch, the end twice, the evaluation
    assert not [line for line in lines if "top-5" in line]
    assert log("run")[-1]["val_top5_error"] == 0


def test_more_classes_than_the_data_has(quick, capfd, album):
    assert quick("--data", album, *MINI, "--num-classes", 5, "--quiet") == 0
    assert load_weights("runs/album-1")["fc8.weight"].shape == (5, 256)
    capfd.readouterr()
    assert quick(*TINY, "--num-classes", 9) == 1
    assert "--num-classes: expected at least the data's 10, got 9" in capfd.readouterr().err


@pytest.mark.parametrize("out", ["album", "album/dogs", "album/new"])
def test_a_run_does_not_go_among_the_pictures(quick, capfd, album, out):
    before = sorted(album.rglob("*"))
    assert quick("--data", "album", *MINI, "--out", out) == 1
    assert f"--out: expected a folder outside of album, got {out}; the run's own" in capfd.readouterr().err
    assert sorted(album.rglob("*")) == before


# interrupted and resumed


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # the tests may run in background
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGKILL", -9)])
def test_a_run_ended_from_outside_goes_on_as_if_it_never_had_been(quick, capfd, tmp_path, name, code):
    options = *TINY, "--epochs", 12, "--augment", "paper", "--workers", 2, "--checkpoint-minutes", 1e-6
    process = start(*options, "--out", "cut", cwd=tmp_path)
    while process.poll() is None and not list(tmp_path.glob("cut/checkpoints/step-00000000[2-9].safetensors")):
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    error = process.communicate()[1].decode()
    assert process.returncode == code
    if name == "SIGTERM":
        assert re.fullmatch(
            r"terminated in epoch .*; everything is kept in cut, .* go on with: .* --resume cut\n", error
        )
    assert read_checkpoint("cut").state["step"] < 48
    assert quick("--resume", "cut", "--quiet") == 0
    assert capfd.readouterr().out.startswith("finished after epoch 12")
    assert quick(*options, "--workers", 0, "--out", "straight") == 0
    assert_same_run_but_workers("cut", "straight")


def assert_same_run_but_workers(one, other):
    assert weights_left(one) == weights_left(other)
    assert log(one)[1:] == log(other)[1:]


def test_more_epochs_for_a_finished_run(quick, capfd):
    assert quick(*TINY, "--epochs", 1, "--schedule", "constant", "--out", "two-steps") == 0
    assert quick("--resume", "two-steps", "--epochs", 2) == 0
    assert "resumed in epoch 2, after step 4, at learning rate 0.001, from " in capfd.readouterr().out
    assert quick(*TINY, "--epochs", 2, "--schedule", "constant", "--out", "straight") == 0
    assert weights_left("two-steps/weights.safetensors") == weights_left("straight/weights.safetensors")


def test_resuming_what_cannot_be_resumed(quick, capfd, tmp_path):
    def refused(path, text):
        assert quick("--resume", path) == 1
        assert text in " ".join(capfd.readouterr().err.split())

    refused("gone", "--resume: expected a run's folder or a checkpoint, got gone: nothing there")
    (tmp_path / "empty").mkdir()
    refused("empty", "got empty, which holds none")
    assert quick(*TINY, "--epochs", 1, "--out", "run") == 0
    refused("run/weights.safetensors", "expected a checkpoint of a run, got weights alone")
    refused("run/config.json", "expected a safetensors file")
    newest = sorted(Path("run/checkpoints").glob("step-*"))[-1]
    alone = tmp_path / "elsewhere" / "checkpoints" / newest.name
    alone.parent.mkdir(parents=True)
    alone.write_bytes(newest.read_bytes())
    refused(alone, "expected the run's log at")
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "empty", "run"]


def test_a_run_does_not_go_on_with_other_pictures(quick, capfd, album):
    assert quick("--data", album, *MINI, "--out", "run", "--quiet") == 0
    album.rename(album.with_name("moved"))
    capfd.readouterr()
    assert quick("--resume", "run") == 1
    assert "if they were moved, say where to by --data" in capfd.readouterr().err
    assert quick("--resume", "run", "--data", "moved", "--epochs", 2) == 0
    Image.new("RGB", (90, 90), "red").save("moved/dogs/0.png")
    capfd.readouterr()
    assert quick("--resume", "run", "--data", "moved") == 1
    assert "expected the pictures that the run began with, got others in moved" in capfd.readouterr().err


# fine-tuning and evaluation


def test_fine_tuning_replaces_fc8_and_freezes_layers(quick, capfd, album):
    assert quick(*TINY, "--epochs", 1, "--out", "first") == 0
    options = "--data", album, *MINI, "--pretrained", "first/weights.safetensors", "--freeze", "conv1,conv2"
    assert quick(*options, "--out", "tuned") == 0
    assert "begin  with conv1, conv2, conv3, conv4, conv5, fc6, fc7 of first" in capfd.readouterr().out
    before, after = load_weights("first"), load_weights("tuned")
    same = {name for name in before if before[name].shape == after[name].shape and (before[name] == after[name]).all()}
    assert same == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    assert after["fc8.weight"].shape == (2, 256)
    assert quick(*options[:-1], "conv9") == 1
    assert "--freeze: expected layers out of conv1, conv2, conv3" in capfd.readouterr().err
    assert quick(*TINY, "--epochs", 1, "--pretrained", "first", "--out", "again") == 0
    assert quick(*TINY, "--epochs", 1, "--pretrained", "gone") == 1
    assert "--pretrained: expected a safetensors file at gone" in capfd.readouterr().err


def test_a_slowed_layer_learns_at_its_part_of_the_rate_and_a_resumed_run_keeps_it(quick):
    once = "--train-size", 10, "--val-size", 10, "--batch-size", 10, "--epochs", 1, "--lr", 0.01, "--quiet"
    moved = {}
    for out, options in (("usual", ()), ("slow", ("--freeze", "conv1,conv2=0.25"))):
        assert quick(*once, *options, "--out", out) == 0
        before = read_checkpoint(f"{out}/checkpoints/step-000000000.safetensors").part("model")
        moved[out] = {name: array - before[name] for name, array in load_weights(out).items()}
    assert not moved["slow"]["conv1.weight"].any()
    assert moved["usual"]["conv2.weight"].any()
    size = np.abs(before["conv2.weight"]).max()  # the change is a difference of rounded weights
    slow, usual = (moved[out]["conv2.weight"] for out in ("slow", "usual"))
    np.testing.assert_allclose(slow, usual / 4, rtol=0, atol=roundings(2 * 3, np.float32) * size)
    np.testing.assert_array_equal(moved["slow"]["conv3.weight"], moved["usual"]["conv3.weight"])
    assert quick("--resume", "slow", "--epochs", 2, "--quiet") == 0
    assert read_checkpoint("slow").state["settings"]["lr_mult"][:5] == [0, 0, 0.25, 0.25, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pretrained", "gone"), "--pretrained: expected a safetensors file at gone, got nothing there"),
        (("--pretrained", "notes.txt"), "--pretrained: notes.txt: expected a safetensors file, got one that begins"),
        (("--pretrained", "small"), "--pretrained: small: expected weights for all layers of the net but fc8"),
        (("--pretrained", "grey"), "--pretrained: grey: expected weights whose in_channels is 3, got 1"),
        (("--freeze", "conv9"), "--freeze: expected layers out of conv1, conv2, conv3"),
    ],
)
def test_what_does_not_fit_the_net_is_noticed_before_any_picture_is_made(
    quick, capfd, monkeypatch, tmp_path, options, message
):
    (tmp_path / "notes.txt").write_text("no weights, but some notes")
    save_weights("small", Sequential({"conv1": Conv2d(3, 32, 5)}))
    save_weights("grey", alexnet_mini(10, 1), {"model": "alexnet_mini", "in_channels": 1})
    monkeypatch.setattr(data, "load", lambda *args, **options: pytest.fail("pictures were made before"))
    assert quick(*TINY, *options) == 1
    assert f"train_alexnet.py: error: {message}" in capfd.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


def test_with_the_same_classes_fc8_is_taken_too(quick, capfd):
    assert quick(*TINY, "--epochs", 1, "--out", "first") == 0
    options = [option for option in TINY if option != "--quiet"]
    assert quick(*options, "--epochs", 1, "--pretrained", "first") == 0
    assert "begin  with conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8 of first" in capfd.readouterr().out
    assert quick(*options, "--epochs", 1, "--pretrained", "first", "--num-classes", 12) == 0
    assert "begin  with conv1, conv2, conv3, conv4, conv5, fc6, fc7 of first" in capfd.readouterr().out


def measured(line):
    words = re.fullmatch(
        r"([\d,]+) pictures, (\d+ nets?), (centre crop|ten crops): top-1 error ([\d.]+)%, top-5 error ([\d.]+)%, "
        r"loss ([\d.]+)\n",
        line,
    )
    return [words[i] for i in (1, 2, 3)] + [float(words[i]) for i in (4, 5, 6)]


def test_evaluation_gives_what_training_measured(quick, capfd):
    assert quick(*TINY, "--epochs", 2, "--out", "one") == 0
    assert quick(*TINY, "--epochs", 1, "--seed", 0, "--lr", 0.002, "--out", "two") == 0
    capfd.readouterr()
    assert quick("--evaluate", "one") == 0
    last = [record for record in log("one") if record["event"] == "epoch"][-1]
    single = measured(capfd.readouterr().out)
    assert single[:3] == ["20", "1 net", "centre crop"]
    assert single[3:] == pytest.approx(
        [100 * last["val_top1_error"], 100 * last["val_top5_error"], last["val_loss"]],
        abs=6e-3,  # two digits after the point
    )
    assert quick("--evaluate", "one/checkpoints/best.safetensors") == 0
    capfd.readouterr()
    assert quick("--evaluate", "one", "two", "--ten-crop") == 0
    output = capfd.readouterr()
    assert measured(output.out)[:3] == ["20", "2 nets", "ten crops"]
    assert output.err == ""
    assert quick("--evaluate", "one", "--val-size", 30) == 0
    output = capfd.readouterr()
    assert measured(output.out)[0] == "30"
    assert "warning: these are not the pictures of the training run" in output.err


def test_the_mean_picture_travels_with_the_weights(quick, capfd, monkeypatch, album):
    """As in the paper's net, which is too large for a test."""
    usual = building.input_scale

    def with_mean_picture(args, train_set):
        args.model, args.preset, before = "alexnet", "paper", (args.model, args.preset)
        try:
            return usual(args, train_set)
        finally:
            args.model, args.preset = before

    monkeypatch.setattr("tinynet.cli.train.input_scale", with_mean_picture)
    assert quick("--data", album, *MINI, "--lr", 1e-6, "--out", "run") == 0
    last = [record for record in log("run") if record["event"] == "epoch"][-1]
    (album / "cats" / "0.png").unlink()  # it may have been learned from: another mean picture, if it were made again
    capfd.readouterr()
    assert quick("--evaluate", "run", "--data", album) == 0
    output = capfd.readouterr()
    assert "warning: these are not the pictures of the training run" in output.err
    mean = unpack_mean(load_metadata("run")["mean"])
    assert mean.shape == (3, 37, 37)
    assert 0.3 < mean.mean() < 0.7
    assert last["val_loss"] > 0


def test_weights_that_cannot_be_evaluated(quick, capfd, album):
    assert quick(*TINY, "--epochs", 1, "--out", "run") == 0
    assert quick("--data", album, *MINI, "--quiet", "--out", "album-run") == 0

    def refused(*options, text):
        capfd.readouterr()
        assert quick("--evaluate", *options) == 1
        assert text in capfd.readouterr().err

    refused(
        "run",
        "--data",
        album,
        text="got some of 'cats', 'dogs', which the net does not know; the net was trained on shapes",
    )
    refused("run", "album-run", text="album-run: expected the same classes as in run, got others")
    refused("gone", text="expected a run's folder, a weights file or a checkpoint at gone, got nothing there")
    refused(Path("run/config.json"), text="expected a safetensors file")
    save_weights("other.safetensors", alexnet_mini(), {"model": "alexnet_mini"})
    refused(
        "other.safetensors", text="expected weights that tinynet's program wrote, got others, whose net is not known"
    )


def test_a_library_run_is_not_resumed_by_the_program(quick, capfd, tmp_path):
    trainer(out=tmp_path / "run").fit()
    assert quick("--resume", "run") == 1
    assert "expected a run that this program began, got another's; use Trainer.fit" in capfd.readouterr().err


def test_epochs_given_once_hold_and_the_schedule_stays_as_planned(quick, capfd, tmp_path):
    assert quick(*TINY, "--epochs", 1, "--out", "run") == 0
    capfd.readouterr()
    assert quick("--resume", "run", "--epochs", 3, "--quiet") == 0
    assert "the learning rate stays where the schedule planned at first left it" in capfd.readouterr().err
    middle = tmp_path / "run" / "checkpoints" / "step-000000008.safetensors"
    assert quick("--resume", middle, "--quiet") == 0
    assert capfd.readouterr().out.startswith("finished after epoch 3")
    assert quick("--resume", "run", "--epochs", 2) == 1
    assert "expected epochs of at least 3, where the run stands, got 2" in capfd.readouterr().err


def test_a_resumed_run_says_what_is_newer_than_it_was(quick, capfd, monkeypatch):
    assert quick(*TINY, "--epochs", 1, "--out", "run") == 0
    monkeypatch.setattr(np, "__version__", "9.9")
    capfd.readouterr()
    assert quick("--resume", "run", "--epochs", 2, "--quiet") == 0
    assert re.search(r"warning: the run had numpy [\d.]+ and has 9\.9 now", capfd.readouterr().err)


@pytest.mark.parametrize("place", ["run/checkpoints", "run"])
def test_resumed_from_within_its_folder(quick, capfd, tmp_path, monkeypatch, place):
    assert quick(*TINY, "--epochs", 1, "--out", "run") == 0
    monkeypatch.chdir(tmp_path / place)
    assert quick("--resume", ".", "--epochs", 2) == 0
    assert not (tmp_path / place / "runs").exists()


def test_a_net_that_cannot_learn(quick, capfd):
    assert quick(*TINY, "--epochs", 1, "--freeze", "conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8") == 1
    assert "--freeze: expected at least one layer that learns, got all of them" in capfd.readouterr().err


# TensorBoard


def test_event_files(quick, tmp_path):
    pytest.importorskip("tensorboardX", reason="an extra: pip install tensorboardX")
    assert quick(*TINY, "--epochs", 2, "--tensorboard", "--out", "run") == 0
    assert len(list(tmp_path.glob("run/tensorboard/events.out.tfevents.*"))) == 1
