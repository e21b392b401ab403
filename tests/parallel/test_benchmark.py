"""benchmarks/towers.py on a small net: it measures what is there and says what is not."""

import json
import sys
from pathlib import Path

import pytest

import tinynet

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


pytestmark = pytest.mark.usefixtures("_threads_as_before")


def test_measures_what_is_there(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setitem(sys.modules, "cupy", None)  # not installed, wherever the test runs
    import towers

    options = ["--batch-size", "4", "--repeat", "1", "--pause", "0", "--threads", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["towers.py", "--devices", "cpu,cpu", "0,1", *options])
    assert towers.main() == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert tinynet.get_num_threads() == 2
    split, missing = json.loads(last)["rows"]
    assert split["ratio"] == pytest.approx(split["split_s"] / split["whole_s"])
    assert set(split["crossed"]) == {"conv3", "fc6", "fc7", "fc8"}
    assert missing["ratio"] is None
    assert "0,1      not measured: a GPU needs CuPy" in lines[-1]


def test_nets_that_differ_are_not_timed(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    import towers

    build = towers.BUILD["mini"]
    monkeypatch.setitem(towers.BUILD, "mini", lambda devices: build(devices=devices, seed=len(devices)))
    monkeypatch.setattr(sys, "argv", ["towers.py", "--devices", "cpu,cpu", "--batch-size", "4", "--threads", "2"])
    assert towers.main() == 1
    assert "cpu,cpu  WRONG: logits differ by" in capsys.readouterr().out
