"""`tinynet train`: what it adds to examples/train_alexnet.py, whose tests are in tests/examples."""

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
from conftest import PROGRAM
from PIL import Image

from tinynet import data
from tinynet.cli import announce, defaults, screen, usage
from tinynet.io.checkpoints import load_metadata
from tinynet.models import alexnet, alexnet_mini

ROOT = Path(__file__).parents[2]
TINY = "--train-size", 20, "--val-size", 10, "--batch-size", 10, "--image-size", 28, "--epochs", 1
MINI = "--image-size", 32, "--batch-size", 4, "--epochs", 1, "--lr", 0.001


@pytest.fixture
def quick(tinynet_program, monkeypatch):
    monkeypatch.setattr("tinynet.plots.RunPictures.__call__", lambda *args: None)
    return lambda *arguments: tinynet_program("train", *arguments)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def album(tmp_path):
    """A folder of ten coloured photographs."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "album" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (80, 90, 3), np.uint8)).save(tmp_path / "album" / name / f"{i}.png")
    return tmp_path / "album"


# a folder of few photographs


def test_few_photographs_train_the_small_net_and_it_says_so(quick, capfd, monkeypatch, album):
    module = sys.modules[data.photos.__module__]
    monkeypatch.setattr(module, "find_photos", lambda folder: pytest.fail("looked through twice"))
    assert quick("--data", album, *MINI) == 0
    output = capfd.readouterr()
    (line,) = [line for line in output.out.splitlines() if line.startswith("choose")]
    assert "alexnet_mini, 32 x 32: 10 photographs, fewer than 5,000; --model alexnet is the paper's net" in line
    assert output.out.index("choose") < output.out.index("data   ")
    assert load_metadata("runs/album-1")["model"] == "alexnet_mini"


def chosen(folder, *words, few_photos="alexnet_mini"):
    given = {"data": str(folder)} | dict(word.split("=") for word in words)
    args = usage.completed(given, few_photos)
    return args.model, args.image_size


def test_which_net_a_folder_of_photographs_trains(monkeypatch, album):
    assert chosen(album) == ("alexnet_mini", 64)
    assert chosen(album, "model=alexnet") == ("alexnet", 227)
    assert chosen(album, "preset=torchvision") == ("alexnet", 224)
    assert chosen(album, few_photos="alexnet") == ("alexnet", 227)
    monkeypatch.setattr(usage, "FEW", 10)
    assert chosen(album) == ("alexnet", 227)  # ten are not fewer than ten
    monkeypatch.setattr(usage, "FEW", 11)
    assert chosen(album) == ("alexnet_mini", 64)


def test_the_papers_net_says_first_what_it_takes(program, capfd, monkeypatch, album):
    class Spy:
        def __init__(self, *args, **options):
            pass

        def fit(self, resume=None):
            return {}

    monkeypatch.setattr("tinynet.cli.train.Trainer", Spy)
    monkeypatch.setattr("tinynet.cli.train.announce", lambda *args: None)
    looked, photos = [], data.photos
    monkeypatch.setattr(
        data, "photos", lambda *args, **options: looked.append(capfd.readouterr().out) or photos(*args, **options)
    )
    assert program("--data", album, "--batch-size", 2) == 0
    (before,) = looked  # what was said before any photograph was decoded
    found = re.fullmatch(
        r"takes  about (\d\.\d) GB of memory with --batch-size 2, up to (\d\.\d) GB on the disk, for the paper's net; "
        r"--model alexnet_mini trains the small one\n",
        before,
    )
    memory, disk = map(float, found.groups())
    assert 1.5 < memory < 3
    assert 2 < disk < 3
    for options in (("--model", "alexnet"), ("--quiet",)):
        assert program("--data", album, "--batch-size", 2, *options) == 0
        assert looked[-1] == ""


def test_the_estimate_grows_with_net_and_batch():
    model = alexnet_mini()
    (memory, disk), (more, same) = (announce.gigabytes(model, (N, 3, 32, 32)) for N in (64, 128))
    assert disk == same == pytest.approx(11 * 4 * 368_842 / 1e9)
    activations = 179_050  # of one picture, as `tinynet.inspect.summary` counts them
    assert more - memory == pytest.approx(1.1 * 4 * 64 * activations / 1e9)
    (paper, _), (large, _) = (announce.gigabytes(alexnet(), (N, 3, 227, 227)) for N in (32, 128))
    assert 2.28 < paper < 2.7  # what was measured with few and with many photographs
    assert 3.1 < large < 3.5


# where the user stands


def test_data_in_another_spelling_is_the_set(quick, capfd, tmp_path):
    assert quick(*TINY, "--data", "Shapes", "--quiet", "--devices", "cpu") == 0
    assert load_metadata("runs/shapes-1")["data"] == "shapes"


@pytest.mark.parametrize(
    ("argv0", "words"),
    [
        ("here/tinynet/__main__.py", (sys.executable, "-m", "tinynet")),
        ("examples/train_alexnet.py", (sys.executable, "examples/train_alexnet.py")),
        ("{bin}/tinynet", ("tinynet",)),
        ("elsewhere/tinynet", ("elsewhere/tinynet",)),
    ],
)
def test_how_it_was_started(monkeypatch, tmp_path, argv0, words):
    script = tmp_path / "bin" / ("tinynet.exe" if os.name == "nt" else "tinynet")
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [argv0.format(bin=script.parent)])
    assert screen.launched() == words


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to another process alone")
def test_the_command_that_it_names_goes_on(tmp_path):
    command = [sys.executable, "-m", "tinynet", "train", *map(str, TINY), "--epochs", "100000", "--out", "my run"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # the tests may run in background
    )
    log = tmp_path / "my run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"event": "step"' in log.read_text("utf-8")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1].decode()
    assert process.returncode == 130
    words = shlex.split(error.partition("go on with: ")[2])
    assert words == [sys.executable, "-m", "tinynet", "train", "--resume", "my run"]
    again = subprocess.Popen([*words, "--quiet"], cwd=tmp_path, env=env, stderr=subprocess.PIPE)
    before = log.stat().st_size
    while again.poll() is None and log.stat().st_size <= before:
        time.sleep(0.05)
    again.send_signal(signal.SIGTERM)
    assert "terminated in epoch" in again.communicate()[1].decode()
    assert again.returncode == 143


@pytest.mark.elsewhere
@pytest.mark.parametrize("safe", ["", "1"])
def test_the_example_works_alone_in_an_empty_folder(tmp_path, safe):
    alone = tmp_path / "train_alexnet.py"
    alone.write_bytes(PROGRAM.read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": safe}
    command = [sys.executable, "-W", "error", alone.name, *map(str, TINY), "--quiet"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["runs", "train_alexnet.py"]


def test_ctrl_c_before_training_is_no_traceback(quick, capfd, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(usage, "checked_data", interrupted)
    assert quick() == 130
    assert capfd.readouterr().err == "interrupted\n"


# screens of other encodings


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_no_name_is_too_odd_for_the_screen(album, tmp_path, encoding):
    odd = tmp_path / "走る"
    album.rename(odd)
    (odd / "cats" / "запись.txt").write_text("no picture")
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-W", "error", "-m", "tinynet", "train", "--data", odd.name, *map(str, MINI)]
    process = subprocess.run([*command, "--model", "alexnet_mini"], cwd=tmp_path, env=env, capture_output=True)
    assert process.returncode == 0, process.stderr
    assert b"\\u8d70\\u308b" in process.stdout
    assert b"\\u0437" in process.stderr  # the skipped file
    process = subprocess.run([*command, "--out", "走る/cats/1.png"], cwd=tmp_path, env=env, capture_output=True)
    assert process.returncode == 1
    assert process.stderr.count(b"\n") == 1
    assert b"error: --out: expected a folder, got \\u8d70\\u308b" in process.stderr


def test_defaults_of_every_kind_of_data_and_net_are_complete():
    for kind in defaults.DATA.values():
        for model in defaults.MODELS.values():
            values = defaults.COMMON | kind | model
            assert {"epochs", "augment", "batch_size", "lr", "schedule", "workers"} <= values.keys()
