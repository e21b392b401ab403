"""The program as its user meets it: most tests start it in a process of its own, those of mistakes call its main()."""

import contextlib
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checks import disk_of, weights_left
from PIL import Image

import tinynet
from tinynet import data
from tinynet.io.checkpoints import Checkpoints, load_weights, read_checkpoint
from tinynet.models import alexnet_mini

PROGRAM = Path(__file__).parents[2] / "examples" / "train_alexnet.py"
TINY = "--train-size", "40", "--val-size", "20", "--batch-size", "10", "--epochs", "2", "--lr", "0.001"
PICTURES = [
    *("activation_maps.png", "augmentation.png", "confusion_matrix.png", "first_layer_kernels.png"),
    *("learning_curves.png", "most_wrong.png", "nearest_in_fc7.png", "predictions.png"),
]
FILES = sorted([*PICTURES, "checkpoints", "config.json", "log.jsonl", "weights.safetensors"])
AWKWARD = "Läufe, 走る"


def run(*arguments, cwd, **environment):
    """Warnings are errors in it as they are here."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


def read_log(folder):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    text = (folder / "log.jsonl").read_text("utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(process, folder) of a run with an awkward folder, on a screen that knows nothing but ASCII."""
    cwd = tmp_path_factory.mktemp("finished")
    process = run(*TINY, "--out", f"{AWKWARD}/one", cwd=cwd, PYTHONIOENCODING="ascii")
    return process, cwd / AWKWARD / "one"


def one_line_error(capfd):
    """The error's text, when that is all that stderr got."""
    text = capfd.readouterr().err
    assert text.startswith("train_alexnet.py: error: ")
    assert text.count("\n") == 1
    return text


# a run that ends well


def test_a_run_ends_with_its_result_in_words_and_in_the_log(finished):
    process, folder = finished
    assert (process.returncode, process.stderr) == (0, b"")
    lines = process.stdout.decode("ascii").splitlines()
    first = [line.split()[0] for line in lines]
    assert first == ["data", "net", "learn", "write", "epoch", "epoch", "finished", "look", "next"]
    assert "40 pictures to learn from, 20 to validate on, 3 x 32 x 32" in lines[0]
    assert "368,842 parameters" in lines[1]
    assert "L\\xe4ufe" in lines[3]

    final = read_log(folder)[-1]
    assert list(final) == ["event", "val_top1_error", "val_top5_error", "epochs", "seconds"]
    assert (final["event"], final["epochs"]) == ("final", 2)
    words = re.fullmatch(
        r"finished after epoch 2, \d+ s: validation top-1 error ([\d.]+)%, top-5 error ([\d.]+)%", lines[-3]
    )
    assert [float(word) / 100 for word in words.groups()] == pytest.approx(
        [final["val_top1_error"], final["val_top5_error"]]
    )


def test_at_its_end_a_run_says_what_to_open_next(finished):
    process, folder = finished
    look, after = process.stdout.decode("ascii").splitlines()[-2:]
    named = re.fullmatch(r"look   at (\w+\.png), (\w+\.png), (\w+\.png) and (\d) more in L\\xe4ufe, .*/one", look)
    assert {*named.groups()[:3]} < set(PICTURES)
    assert int(named[4]) == len(PICTURES) - 3
    assert re.fullmatch(r"next   (.*tinynet) predict '(.*)' photo\.jpg, or \1 evaluate '\2'", after)


def test_a_run_writes_everything_it_promises(finished):
    _, folder = finished
    assert sorted(os.listdir(folder)) == FILES
    model = alexnet_mini()
    model.load_state_dict(load_weights(folder / "weights.safetensors"))
    for picture in PICTURES:
        with Image.open(folder / picture) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
    config = json.loads((folder / "config.json").read_text("utf-8"))
    expected = {"data": "shapes", "epochs": 2, "batch_size": 10, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005}
    expected |= {"seed": 0, "train_size": 40, "val_size": 20, "devices": "cpu", "model": "alexnet_mini"}
    assert config | expected == config
    assert config["threads"] >= 1
    assert config["versions"]["numpy"] == np.__version__
    assert config["versions"]["tinynet"] == tinynet.__version__
    start = read_log(folder)[0]
    assert start | config == start
    assert start["parameters"] == 368_842


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(finished, program, tmp_path):
    _, first = finished
    assert run(*TINY, "--quiet", "--out", "same", cwd=tmp_path).returncode == 0
    assert program(*TINY, "--seed", 1, "--quiet", "--out", "other") == 0
    weights = [
        weights_left(folder / "weights.safetensors") for folder in (first, tmp_path / "same", tmp_path / "other")
    ]
    assert weights[0] == weights[1]
    assert weights[0][1] != weights[2][1]
    here = {"seconds", "images_per_second", "out", "quiet", "provenance"}
    logs = [
        [{key: value for key, value in record.items() if key not in here} for record in read_log(folder)]
        for folder in (first, tmp_path / "same")
    ]
    assert logs[0] == logs[1]


def test_quiet_runs_get_free_numbers_and_print_their_result_alone(program, capfd, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "shapes-1").write_text("in the way")
    for number in (2, 3):
        assert program(*TINY, "--epochs", 1, "--quiet") == 0
        output = capfd.readouterr()
        assert output.out.startswith("finished after epoch 1, ")
        assert (output.out.count("\n"), output.err) == (1, "")
        assert sorted(os.listdir(tmp_path / "runs" / f"shapes-{number}")) == FILES
    assert sorted(os.listdir(tmp_path / "runs")) == ["shapes-1", "shapes-2", "shapes-3"]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_of_real_pictures(quick, capfd, tmp_path, name):
    rng = np.random.default_rng(0)
    (tmp_path / "files").mkdir()
    for stem, count in (("train", 30), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            with gzip.open(tmp_path / "files" / f"{stem}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
    options = "--data", name, "--data-dir", "files", "--epochs", 1, "--batch-size", 8, "--lr", 0.001
    assert quick(*options, "--train-size", 20) == 0
    assert f"{name}: 20 pictures to learn from, 12 to validate on, 1 x 28 x 28" in capfd.readouterr().out
    assert load_weights(f"runs/{name}-1/weights.safetensors")["conv1.weight"].shape[1] == 1

    labels = tmp_path / "files" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    assert quick(*options) == 1
    assert "t10k-labels-idx1-ubyte.gz: expected a whole gzip file" in one_line_error(capfd)
    assert not Path("runs", f"{name}-2").exists()  # nothing came into it


# runs that end badly


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--epochs", "-3"], "--epochs: expected a whole number of at least 1, got '-3'"),
        (["--epochs", "2.5"], "--epochs: expected a whole number of at least 1, got '2.5'"),
        (["--batch-size", "0"], "--batch-size: expected a whole number of at least 1, got '0'"),
        (["--train-size", "0"], "--train-size: expected a whole number of at least 1, got '0'"),
        (["--lr", "nan"], "--lr: expected a finite number above 0, got 'nan'"),
        (["--lr", "-0.1"], "--lr: expected a finite number above 0, got '-0.1'"),
        (["--lr", "inf"], "--lr: expected a finite number above 0, got 'inf'"),
        (["--lr", "fast"], "--lr: expected a finite number above 0, got 'fast'"),
        (["--momentum", "1"], "--momentum: expected a number of at least 0 and below 1, got '1'"),
        (["--weight-decay", "-1"], "--weight-decay: expected a finite number of at least 0, got '-1'"),
        (["--seed", "-1"], "--seed: expected a whole number in [0, 2**64), got '-1'"),
        (
            ["--data", "imagenet"],
            "--data: expected one of shapes, mnist, fashion-mnist, cifar-10, or a folder",
        ),
        (["--data-dir", "files"], "--data-dir: expected none, got 'files'; shapes are drawn"),
        (
            ["--graph"],
            "--graph: expected it with --devices and the number of a GPU; a CUDA graph",
        ),
        (["--devices", "gpu"], "--devices: expected cpu, the number of a GPU, such as 0, or two of these"),
        (["--data", ".", "--train-size", "9"], "--train-size: expected none with a folder of photographs"),
        (["--preset", "paper"], "--preset: expected none but with --model alexnet, got 'paper'"),
        (["--data", "mnist", "--model", "alexnet"], "--model: expected alexnet_mini for mnist"),
        (
            ["--model", "alexnet", "--image-size", "64"],
            "--image-size: expected 227, what paper's alexnet takes",
        ),
        (
            ["--data", "cifar-10", "--image-size", "64"],
            "--image-size: expected 28 to 32 for cifar-10, got '64'",
        ),
        (["--image-size", "8"], "--image-size: expected a whole number in [28, 512], got '8'"),
        (["--num-classes", "100001"], "--num-classes: expected a whole number in [2, 100000], got '100001'"),
        (["--freeze", "conv1,,fc6"], "--freeze: expected names with commas between them, each once, got"),
        (["--freeze", "conv1,conv1=0.5"], "expected names with commas between them, each once, got 'conv1,conv1=0.5'"),
        (["--freeze", "conv1=1"], "--freeze: expected a factor of at least 0 and below 1 behind =, got '1'"),
        (["--freeze", "conv1=slow"], "--freeze: expected a factor of at least 0 and below 1 behind =, got 'slow'"),
        (["--data", __file__], "test_train_alexnet.py'; that is a file; name the folder of the class folders"),
        (["--workers", "-1"], "--workers: expected a whole number in [0, 64], got '-1'"),
        (["--augment", "more"], "--augment: expected one of none, crop, mirror, paper, got 'more'"),
        (["--augment", "miror"], "got 'miror'; did you mean mirror?"),
        (
            ["--resume", "run", "--lr", "1"],
            "--lr: expected none beside --resume, got '1.0'; a run goes on with",
        ),
        (["--evaluate", "w", "--lr", "1"], "--lr: expected none beside --evaluate, got '1.0'"),
        (["--ten-crop"], "--ten-crop: expected it beside --evaluate"),
        (["--epoch", "3"], "--epoch: no such option; did you mean --epochs?"),
        (["--epochs"], "--epochs: expected a value, got none"),
        (["--quiet=3"], "--quiet: expected no value, got one"),
        (["more"], "expected options, got 'more'"),
    ],
)
def test_wrong_usage_is_2_and_says_what_was_expected(program, capfd, tmp_path, options, reason):
    assert program(*options) == 2
    output = capfd.readouterr()
    error, hint = output.err.splitlines()
    assert error.startswith("train_alexnet.py: error: ")
    assert reason in error
    assert hint == "'train_alexnet.py --help' lists the options"
    assert output.out == ""
    assert os.listdir(tmp_path) == []


def test_help_shows_every_option_and_its_default(program, capfd):
    assert program("--help") == 0
    text = capfd.readouterr().out
    known = (
        "--data --data-dir --image-size --model --preset --epochs --batch-size --lr --momentum --weight-decay "
        "--schedule --augment --workers --seed --resume --evaluate --ten-crop --pretrained --freeze --num-classes "
        "--out --quiet --devices"
    )
    assert set(known.split()) <= set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    assert " ".join(text.split()).count("(default: ") >= 20


def test_numbers_that_go_bad_end_with_the_layers_name(tmp_path):
    process = run(*TINY, "--lr", "1e36", "--quiet", "--out", "run", cwd=tmp_path)
    error = process.stderr.decode()
    assert process.returncode == 1
    assert re.match(r"train_alexnet.py: error: (Conv2d|Linear|LRN) '\w+': ", error)
    assert "at learning rate 1e+36" in error
    assert (error.count("\n"), process.stdout) == (1, b"")
    last = read_log(tmp_path / "run")[-1]
    assert last["event"] == "stopped"
    assert last["reason"] in error


def test_a_folder_that_cannot_be_written_is_noticed_before_the_data(program, capfd, tmp_path):
    (tmp_path / "file").touch()
    options = "--data", "mnist", "--data-dir", "no such folder"
    assert program(*options, "--out", "file") == 1
    assert "error: --out: expected a folder, got file, which is a file; choose another" in one_line_error(capfd)
    assert program(*options, "--out", "file/run") == 1
    assert re.search(r"error: cannot write file/run: .*choose another folder\n", one_line_error(capfd))
    (tmp_path / "runs").touch()
    assert program() == 1
    assert "cannot write runs" in one_line_error(capfd)


def test_an_earlier_run_is_not_overwritten(program, capfd, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "log.jsonl").write_text("precious")
    assert program(*TINY, "--out", "old") == 1
    assert (
        "got old, which holds log.jsonl; that run has no checkpoint yet: give --out another, or, if it has ended, "
        in one_line_error(capfd)
    )
    assert os.listdir("old") == ["log.jsonl"]
    assert (tmp_path / "old" / "log.jsonl").read_text() == "precious"


def test_missing_data_files_are_named_and_leave_nothing(program, capfd, tmp_path):
    (tmp_path / "mine").mkdir()
    for out in ("new", "mine"):
        assert program("--data", "mnist", "--data-dir", "no such folder", "--out", out) == 1
        assert "expected the file train-images-idx3-ubyte.gz in no such folder" in one_line_error(capfd)
    assert os.listdir(tmp_path) == ["mine"]  # a folder that was there stays


def test_a_full_disk_ends_with_one_line(quick, capfd, tmp_path):
    with disk_of(1_000_000):  # a checkpoint needs 3 MB
        code = quick(*TINY, "--quiet", "--out", "run")
    assert code == 1
    assert re.search(r"error: cannot write .*step-000000000.safetensors: .*; free some space", one_line_error(capfd))
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoints", "config.json", "log.jsonl"]
    assert os.listdir(tmp_path / "run" / "checkpoints") == []
    assert [record["event"] for record in read_log(tmp_path / "run")] == ["start", "stopped"]


def test_a_disk_that_fills_later_leaves_the_checkpoint_before_it(quick, capfd, monkeypatch, tmp_path):
    write = Checkpoints.save

    def full_from_the_first_epoch_on(self, state, tensors, **options):
        with disk_of(1_000_000) if state["step"] else contextlib.nullcontext():
            return write(self, state, tensors, **options)

    monkeypatch.setattr(Checkpoints, "save", full_from_the_first_epoch_on)
    assert quick(*TINY, "--quiet", "--out", "my run") == 1
    command = shlex.join([sys.executable, "train_alexnet.py", "--resume", "my run"])
    error = one_line_error(capfd)
    assert "free some space" in error
    assert error.endswith(f"; the checkpoint before it is intact: then go on with: {command}\n")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert read_checkpoint("my run").state["step"] == 0


def test_a_picture_that_cannot_be_written_is_a_warning(program, capfd, monkeypatch, tmp_path):
    replace = os.replace

    def held_open(aside, path):  # as a viewer on Windows does
        if Path(path).name == "learning_curves.png":
            raise PermissionError(13, "Access is denied")
        replace(aside, path)

    monkeypatch.setattr(os, "replace", held_open)
    assert program(*TINY, "--quiet", "--out", "run") == 0
    output = capfd.readouterr()
    assert output.out.startswith("finished after epoch 2, ")
    lines = output.err.splitlines()
    assert len(lines) == 3  # one an epoch and one at the end
    for line in lines:
        assert line.startswith("train: warning: ")
        assert "learning_curves.png: Access is denied; " in line
    assert sorted(os.listdir("run")) == [name for name in FILES if name != "learning_curves.png"]
    assert read_log(tmp_path / "run")[-1]["event"] == "final"


def test_weights_that_cannot_be_written_end_the_run(quick, capfd, monkeypatch, tmp_path):
    replace = os.replace

    def held_open(aside, path):
        if path.name == "weights.safetensors":
            raise PermissionError(13, "Access is denied")
        replace(aside, path)

    monkeypatch.setattr(os, "replace", held_open)
    assert quick(*TINY, "--quiet", "--out", "run") == 1
    assert "weights.safetensors: Access is denied; " in one_line_error(capfd)
    assert "weights.safetensors: Access is denied; " in read_log(tmp_path / "run")[-1]["reason"]


def test_ctrl_c_before_training_keeps_nothing(program, capfd, monkeypatch, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", interrupted)
    assert program("--out", "run") == 130
    assert capfd.readouterr().err == "interrupted before training began: nothing is kept\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to another process alone")
def test_ctrl_c_keeps_the_weights_and_ends_with_130(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *TINY, "--epochs", "100000", "--out", "run"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # the tests may run in background
    )
    log = tmp_path / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"event": "step"' in log.read_text("utf-8")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1].decode()
    assert process.returncode == 130
    assert re.fullmatch(
        r"interrupted in epoch \d+, after step \d+; everything is kept in run, from where the run can be resumed; "
        r"go on with: .*train_alexnet\.py --resume run\n",
        error,
    )
    last = read_log(tmp_path / "run")[-1]
    assert (last["event"], last["reason"]) == ("stopped", "interrupted")
    alexnet_mini().load_state_dict(load_weights(tmp_path / "run" / "weights.safetensors"))
    assert {"learning_curves.png", "augmentation.png"} <= set(os.listdir(tmp_path / "run"))
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".tmp")]
