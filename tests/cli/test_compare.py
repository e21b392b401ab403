"""`tinynet compare` and `tinynet summary`."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import tinynet
from tinynet.cli.runs import read_run
from tinynet.cli.table import table
from tinynet.io.checkpoints import save_weights
from tinynet.models import alexnet_mini
from tinynet.plots import compared_curves

START = {"event": "start", "epochs": 3, "data": "shapes", "lr": 0.01, "freeze": [], "fingerprints": {"train": [1]}}


def epoch(number, error, loss):
    rates = {"images_per_second": 100.0 + number, "seconds": 2.5 * number}
    return {"event": "epoch", "epoch": number, "val_top1_error": error, "val_loss": loss, **rates}


ONE = [
    START,
    epoch(1, 0.5, 1.5),
    epoch(2, 0.2, 0.7),
    epoch(3, 0.3, 0.9),
    {"event": "final", "epochs": 3, "seconds": 8.0},
]
TWO = [START | {"lr": 0.1, "freeze": ["conv1", "conv2=0.1"]}, epoch(1, 0.9, 2.2)]
ENDED = [START, epoch(1, 0.9, 2.2), {"event": "stopped", "reason": "interrupted", "epoch": 2, "step": 9}]
FAILED = [START, {"event": "stopped", "reason": "cannot write", "epoch": 1, "step": 0}]


@pytest.fixture
def runs(tmp_path):
    def write(name, records, end=""):
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(record) + "\n" for record in records) + end
        (tmp_path / name / "log.jsonl").write_text(text, "utf-8")
        return name

    return write


def shown(text):
    """{run: {column: words}} of a table in either direction."""
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    columns = rows if rows[0][1:2] == ["lr"] or "state" in rows[0] else list(zip(*rows, strict=True))
    return {row[0]: dict(zip(columns[0], row, strict=True)) for row in columns[1:]}


def test_runs_side_by_side(tinynet_program, runs, capfd):
    assert (
        tinynet_program("compare", runs("one", ONE), runs("two", TWO), runs("ended", ENDED), runs("failed", FAILED))
        == 0
    )
    output = capfd.readouterr()
    assert output.err == ""
    found = shown(output.out)
    assert list(found) == ["one", "two", "ended", "failed"]
    same = {"lr": "0.01", "freeze": "none"}
    assert found["one"] == {
        **{"run": "one", **same, "state": "finished", "epochs": "3 of 3", "best error": "20.00%"},
        **{"final error": "30.00%", "final loss": "0.9000", "seconds": "8", "images/s": "102"},
    }
    assert (found["two"]["lr"], found["two"]["freeze"]) == ("0.1", "conv1,conv2=0.1")
    assert [found[run]["state"] for run in ("two", "ended", "failed")] == ["unfinished", "interrupted", "failed"]
    assert [found["failed"][name] for name in ("epochs", "best error", "images/s")] == ["0 of 3", "-", "-"]


def test_the_table_turns_round_where_it_is_too_wide(monkeypatch, tinynet_program, runs, capfd):
    names = runs("one", ONE), runs("two", TWO)
    found = []
    for columns in ("60", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert tinynet_program("compare", *names) == 0
        text = capfd.readouterr().out
        assert max(map(len, text.splitlines())) < int(columns)
        found.append(shown(text))
        assert text.startswith("run ")
    assert text.count("\n") == 3
    assert found[0] == found[1]


def test_equal_settings_are_said_to_be(tinynet_program, runs, capfd):
    assert tinynet_program("compare", runs("one", ONE), runs("two", ONE)) == 0
    assert capfd.readouterr().out.endswith("their settings are the same\n")


def test_other_pictures_are_warned_of(tinynet_program, runs, capfd):
    other = [START | {"fingerprints": {"train": [2]}}, *ONE[1:]]
    assert tinynet_program("compare", runs("one", ONE), runs("two", other)) == 0
    assert "warning: they did not learn from the same pictures" in capfd.readouterr().err


@pytest.mark.parametrize("end", ['{"event": "ep', "\udcff", "[1, 2]\n", "[" * 100_000 + "\n"])
def test_a_damaged_run_is_named_and_compared_as_far_as_it_goes(tinynet_program, runs, capfd, tmp_path, end):
    runs("one", ONE)
    runs("cut", TWO)
    with open(tmp_path / "cut" / "log.jsonl", "ab") as file:
        file.write(end.encode("utf-8", "surrogateescape"))
    assert tinynet_program("compare", "one", "cut", "gone", ".") == 1
    output = capfd.readouterr()
    gone, here, cut = output.err.splitlines()
    assert "error: expected a run's folder, with its log.jsonl, got gone: nothing there" in gone
    assert "error: expected a run's folder, with its log.jsonl, got ., which holds none" in here
    assert "warning: cut: line 3 of log.jsonl is damaged" in cut
    assert (shown(output.out)["cut"]["state"], shown(output.out)["cut"]["best error"]) == ("damaged", "90.00%")


@pytest.mark.parametrize(
    "records", [[], [epoch(1, 0.5, 1.0)], [{"event": 3}], [START | {"versions": 3, "provenance": []}]]
)
def test_a_log_of_odd_records_is_no_traceback(tinynet_program, runs, capfd, records):
    name = runs("odd", records)
    code = tinynet_program("compare", name, runs("one", ONE), "--plot", "curves.png")
    assert code == (0 if START["event"] in str(records) else 1)
    assert ("has no first line that tells of its settings" in capfd.readouterr().err) == bool(code)


def test_nothing_to_compare(tinynet_program, capfd):
    assert tinynet_program("compare", "gone") == 1
    output = capfd.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("target", ["", "=-", "=table.csv"])
def test_csv(tinynet_program, runs, capfd, tmp_path, target):
    name = runs('a, "b"', TWO)
    assert tinynet_program("compare", f"--csv{target}", runs("one", ONE), name) == 0
    text = capfd.readouterr().out
    if target == "=table.csv":
        assert text == ""
        text = (tmp_path / "table.csv").read_text("utf-8")
    one, two = csv.DictReader(io.StringIO(text))
    assert list(one)[:3] == ["run", "lr", "freeze"]
    assert (float(one["best error"]), float(one["final loss"]), int(one["epochs"])) == (0.2, 0.9, 3)
    assert (two["run"], two["freeze"]) == (name, "conv1,conv2=0.1")


def test_curves_in_one_picture(tinynet_program, runs, capfd, tmp_path):
    assert tinynet_program("compare", runs("one", ONE), runs("two", TWO), runs("c_$x$", FAILED), "--plot", "a.png") == 0
    assert capfd.readouterr().out.endswith("drawn in a.png\n")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 400


def test_each_run_has_a_curve_of_its_own_look():
    records = {f"run {i}": ONE for i in range(20)} | {"$x": FAILED}
    figure = compared_curves(records)
    loss, error = figure.axes
    assert [list(line.get_ydata()) for line in loss.get_lines()[:2]] == [[1.5, 0.7, 0.9]] * 2
    assert list(error.get_lines()[0].get_ydata()) == [0.5, 0.2, 0.3]
    looks = {(line.get_color(), line.get_linestyle()) for line in error.get_lines()[:20]}
    assert len(looks) == 20
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert (texts[0], texts[-1]) == ("run 0", "$x: no epoch yet")
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        top = max(max(line.get_ydata(), default=0) for line in axes.get_lines())
        assert axes.get_ylim()[1] > top
    with pytest.raises(ValueError, match="expected at least one run"):
        compared_curves({})


def test_a_real_run(tinynet_program, monkeypatch, capfd):
    monkeypatch.setattr("tinynet.plots.RunPictures.__call__", lambda *args: None)
    tiny = "--train-size", 20, "--val-size", 10, "--batch-size", 10, "--image-size", 28, "--epochs", 1, "--quiet"
    for out, lr in (("a", 0.001), ("b", 0.002)):
        assert tinynet_program("train", *tiny, "--lr", lr, "--out", out) == 0
    capfd.readouterr()
    assert tinynet_program("compare", "a", "b") == 0
    output = capfd.readouterr()
    assert output.err == ""
    found = shown(output.out)
    assert [found[run]["lr"] for run in "ab"] == ["0.001", "0.002"]
    assert "out" not in found["a"]
    assert read_run(Path("a")).problem == ""


def test_a_table_of_one_column():
    assert table([["run"], ["a"]], 80) == "run\na"


# summary


def test_the_summary_of_options_and_of_a_run(tinynet_program, capfd, tmp_path):
    about = {"model": "alexnet_mini", "preset": None, "num_classes": 7, "in_channels": 1, "image_size": 28}
    save_weights(tmp_path / "w.safetensors", alexnet_mini(7, 1, 28), about)
    assert tinynet_program("summary", "w.safetensors", "--batch-size", 8) == 0
    expected = str(tinynet.summary(alexnet_mini(7, 1, 28), (8, 1, 28, 28)))
    assert capfd.readouterr().out == expected + "\n"
    options = "--num-classes", 7, "--in-channels", 1, "--image-size", 28, "--batch-size", 8
    assert tinynet_program("summary", *options) == 0
    assert capfd.readouterr().out == expected + "\n"
    assert tinynet_program("summary") == 0
    assert "368,842" in capfd.readouterr().out
    assert tinynet_program("summary", "--preset", "torchvision") == 0
    assert "61,100,840" in capfd.readouterr().out  # as torchvision counts them
    assert tinynet_program("summary", "w.safetensors", "--num-classes", 7) == 2
    assert "--num-classes: expected none beside w.safetensors, whose net is known" in capfd.readouterr().err


def test_the_summary_of_what_is_no_run(tinynet_program, capfd, tmp_path):
    save_weights(tmp_path / "w.safetensors", alexnet_mini())
    assert tinynet_program("summary", "w.safetensors") == 1
    assert "the net is not known" in capfd.readouterr().err
    assert tinynet_program("summary", "gone") == 1
    assert capfd.readouterr().err.count("\n") == 1
