"""`tinynet predict` and `tinynet evaluate`."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet.io.checkpoints import save_weights
from tinynet.models import alexnet_mini

ROOT = Path(__file__).parents[2]
CLASSES = ["a golden retriever", "кот", "c", "d", "e", "f", "a name that is longer than what a screen has room for"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def run(tmp_path):
    """A run's folder, whose net was not trained, and a folder `album` of three pictures and a file that is none."""
    model = alexnet_mini(7, 3, 28, seed=3)
    model["fc8"].bias.data[:] = [2, 3, 0, 1, 0.5, 0, 2.5]
    about = {"model": "alexnet_mini", "preset": None, "num_classes": 7, "in_channels": 3, "image_size": 28}
    about |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "classes": CLASSES, "data_kind": "photos"}
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / "weights.safetensors", model, about | {"stored_size": 32})
    rng = np.random.default_rng(0)
    (tmp_path / "album" / "deep").mkdir(parents=True)
    for i, name in enumerate(("1.png", "2.png", "deep/3.png")):
        pixels = rng.integers(0, 256, (40 + i, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "album" / name)
    (tmp_path / "album" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (tmp_path / "album" / "notes.txt").write_text("no picture, and not named as one")
    return "run"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_bars_for_each_picture(monkeypatch, tinynet_program, run, capfd):
    monkeypatch.setenv("COLUMNS", "80")
    assert tinynet_program("predict", run, "album/1.png", "album/2.png") == 0
    output = capfd.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert [lines[0], lines[6]] == ["album/1.png", "album/2.png"]
    assert len(lines) == 12
    expected = tinynet.load_run(run).predict(["album/1.png"]).top(5)[0]
    for line, (name, probability) in zip(lines[1:6], expected, strict=True):
        percent, shown, bar = re.fullmatch(r"  +([\d.]+)%  (.{40})  (.*)", line).groups()
        assert float(percent) == pytest.approx(100 * probability, abs=0.05)
        assert shown.rstrip() == (name if len(name) <= 40 else name[:37] + "...")
        width = 80 - len("  100.0%    ") - 40 - 1
        assert len(bar) == pytest.approx(probability * width, abs=1)
        assert set(bar) <= set("▏▎▍▌▋▊▉█") or set(bar) <= {"#"}
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize(("encoding", "full"), [("ascii", "#"), ("cp1252", "#"), ("cp437", "#"), ("utf-8", "█")])
def test_bars_suit_the_screens_encoding(run, tmp_path, encoding, full):
    command = [sys.executable, "-W", "error", "-m", "tinynet", "predict", run, "album/1.png"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    process = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True)
    assert process.stderr == b""
    text = process.stdout.decode(encoding)
    assert full in text
    assert ("кот" if encoding == "utf-8" else "\\u043a\\u043e\\u0442") in text


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_bars_go_with_the_terminal(monkeypatch, tinynet_program, run, capfd, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert tinynet_program("predict", run, "album/1.png", "--top", 7) == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert len(lines) == 7
    assert all(re.match(r"  +[\d.]+%  \S", line) for line in lines)
    assert max(map(len, lines)) <= max(columns - 1, 12 + 40 + 10)


def test_a_folder_and_pictures_that_cannot_be_read(tinynet_program, run, capfd):
    assert tinynet_program("predict", run, "album", "gone.png", "--top", 1) == 1
    output = capfd.readouterr()
    found = [line for line in output.out.splitlines() if not line.startswith(" ")]
    assert [Path(line).as_posix() for line in found] == ["album/1.png", "album/2.png", "album/deep/3.png"]
    lines = output.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("tinynet predict: error: ") for line in lines)
    assert "broken.jpg: " in lines[0]
    assert "gone.png: " in lines[1]


def test_nothing_that_can_be_read(tinynet_program, run, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    for images in (("album/broken.jpg",), ("empty",)):
        assert tinynet_program("predict", run, *images) == 1
        output = capfd.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("target", ["", "=-", "=answers.csv"])
def test_csv(tinynet_program, run, capfd, tmp_path, target):
    shutil.copy(tmp_path / "album" / "1.png", tmp_path / 'a, "b".png')
    assert tinynet_program("predict", run, f"--csv{target}", 'a, "b".png', "album/2.png", "--top", 3) == 0
    text = capfd.readouterr().out
    if target == "=answers.csv":
        assert text == ""
        text = (tmp_path / "answers.csv").read_text("utf-8")
    rows = rows_of(text)
    assert list(rows[0]) == ["file", "rank", "class", "probability"]
    expected = tinynet.load_run(run).predict(['a, "b".png', "album/2.png"]).top(3)
    assert [(row["file"], row["class"]) for row in rows] == [
        (file, name) for file, best in zip(('a, "b".png', "album/2.png"), expected, strict=True) for name, _ in best
    ]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    got = [float(row["probability"]) for row in rows]
    assert got == pytest.approx([probability for best in expected for _, probability in best], rel=1e-5)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names of files are text there")
@pytest.mark.parametrize("target", ["-", "answers.csv"])
def test_csv_of_a_name_that_is_no_text(tinynet_program, run, capfd, tmp_path, target):
    shutil.copy(tmp_path / "album" / "1.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert tinynet_program("predict", run, f"--csv={target}", os.fsdecode(b"caf\xe9.png"), "--top", 1) == 0
    text = capfd.readouterr().out if target == "-" else (tmp_path / target).read_text("utf-8")
    assert [row["file"] for row in rows_of(text)] == ["caf\\udce9.png"]


def test_a_picture_behind_csv_is_a_picture(tinynet_program, run, capfd, tmp_path):
    before = (tmp_path / "album" / "1.png").read_bytes()
    assert tinynet_program("predict", run, "--csv", "album/1.png", "--top", 1) == 0
    assert [row["file"] for row in rows_of(capfd.readouterr().out)] == ["album/1.png"]
    assert (tmp_path / "album" / "1.png").read_bytes() == before


def test_ten_crops_and_weights_by_their_file(tinynet_program, run, capfd):
    assert tinynet_program("predict", "run/weights.safetensors", "album/1.png", "--csv", "--ten-crop") == 0
    got = [float(row["probability"]) for row in rows_of(capfd.readouterr().out)]
    net = tinynet.load_run(run)
    ten, one = (net.predict("album/1.png", ten_crop=crops).top(5)[0] for crops in (True, False))
    assert got == pytest.approx([probability for _, probability in ten], rel=1e-5)
    assert got != pytest.approx([probability for _, probability in one], rel=1e-5)


def test_what_is_no_run(tinynet_program, run, capfd):
    for path in ("gone", "album"):
        assert tinynet_program("predict", path, "album/1.png") == 1
        error = capfd.readouterr().err
        assert error.startswith("tinynet predict: error: ")
        assert error.count("\n") == 1


def test_a_picture_in_the_runs_place(tinynet_program, run, capfd):
    assert tinynet_program("predict", "album/1.png", run) == 2
    first, second = capfd.readouterr().err.splitlines()
    assert first == "tinynet predict: error: expected the run first and then pictures, got the picture album/1.png"
    assert second == "'tinynet predict --help' lists the options"


def test_many_pictures_are_answered_as_they_come(monkeypatch, tinynet_program, run, capfd):
    monkeypatch.setattr("tinynet.cli.predict.BATCH", 2)
    monkeypatch.setattr("tinynet.cli.predict.BATCHES", 1)
    assert tinynet_program("predict", run, *["album/1.png", "album/2.png"] * 2, "album/deep/3.png", "--csv") == 0
    rows = rows_of(capfd.readouterr().out)
    assert [row["file"] for row in rows[::5]] == ["album/1.png", "album/2.png"] * 2 + ["album/deep/3.png"]


# evaluate


TINY = "--train-size", 40, "--val-size", 20, "--batch-size", 10, "--lr", 0.001, "--epochs", 1, "--quiet"
MINI = "--image-size", 32, "--batch-size", 4, "--epochs", 1, "--lr", 0.001, "--quiet"


@pytest.fixture
def quick(tinynet_program, monkeypatch):
    monkeypatch.setattr("tinynet.plots.RunPictures.__call__", lambda *args: None)
    return tinynet_program


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (60, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photographs" / name / f"{i}.png")
    return tmp_path / "photographs"


def test_evaluate_knows_the_runs_pictures(quick, capfd):
    assert quick("train", *TINY, "--seed", 3, "--out", "one") == 0
    assert quick("train", *TINY, "--seed", 3, "--lr", 0.002, "--out", "two") == 0
    trained = capfd.readouterr().out.splitlines()[0]
    assert quick("evaluate", "one") == 0
    output = capfd.readouterr()
    assert output.err == ""
    assert re.match(r"20 pictures, 1 net, centre crop: top-1 error ", output.out)
    error = r"top-1 error ([\d.]+)%"
    assert re.search(error, output.out)[1] == re.search(error, trained)[1]
    assert quick("evaluate", "one", "two", "--ten-crop", "--batch-size", 30, "--workers", 0) == 0
    assert capfd.readouterr().out.startswith("20 pictures, 2 nets, ten crops: ")
    assert quick("evaluate", "one", "--val-size", 12, "--data", "SHAPES") == 0
    assert capfd.readouterr().out.startswith("12 pictures, ")


def test_evaluate_a_run_of_photographs_and_a_whole_folder(quick, capfd, photographs):
    assert quick("train", "--data", photographs, *MINI, "--out", "run") == 0
    capfd.readouterr()
    assert quick("evaluate", "run") == 0
    output = capfd.readouterr()
    assert (output.out.startswith("2 pictures, "), output.err) == (True, "")
    shutil.copytree(photographs, photographs.with_name("test"))
    assert quick("evaluate", "run", "--data", "test", "--whole") == 0
    output = capfd.readouterr()
    assert (output.out.startswith("10 pictures, "), output.err) == (True, "")
    shutil.rmtree(photographs.with_name("test") / "dogs")
    assert quick("evaluate", "run", "--data", "test", "--whole") == 0
    output = capfd.readouterr()
    assert output.out.startswith("5 pictures, ")
    assert "warning: there is no picture of 'dogs'\n" in output.err
    assert quick("evaluate", "run", "--whole") == 0
    assert "warning: the net learned from some of these pictures" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--data", "fashon-mnist"), 2, "did you mean fashion-mnist?"),
        (("--precision", "tf32"), 2, "--precision: expected fp32 with --devices cpu"),
        (("--data", "shapes", "--data-dir", "."), 2, "--data-dir: expected none"),
        (("--devices", "gpu"), 2, "--devices: expected cpu, the number of a GPU"),
        ((), 1, "expected a run's folder, a weights file or a checkpoint at gone, got nothing there"),
    ],
)
def test_evaluate_wrongly(tinynet_program, capfd, options, code, text):
    assert tinynet_program("evaluate", "gone", *options) == code
    error = capfd.readouterr().err
    assert text in error
    assert error.count("\n") == code
