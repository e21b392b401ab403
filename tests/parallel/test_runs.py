"""The main program with --devices cpu,cpu, on tiny sizes; and its checkpoints on other devices."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from parallel.nets import rounding
from tinynet.layers import Conv2d
from tinynet.models import alexnet_mini
from tinynet.plots import RunPictures

SIZES = ["--train-size", "12", "--val-size", "4", "--batch-size", "4", "--image-size", "28", "--epochs", "1"]
# of a step of the program's net: how far two orders of all sums may take it, relative to the largest number
STEP = rounding(alexnet_mini(image_size=28), (4, 3, 28, 28), np.float32)[1]


def losses(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record["train_loss"] for record in records if record["event"] in ("step", "epoch")]


def names_and_shapes(file):
    return {name: array.shape for name, array in load_file(file).items()}


def test_a_run_moves_between_one_device_and_two(quick, tmp_path, capfd):
    assert quick(*SIZES, "--out", "whole") == 0
    capfd.readouterr()
    assert quick(*SIZES, "--out", "split", "--devices", "cpu,cpu") == 0
    screen = capfd.readouterr().out
    assert "2 towers on cpu, cpu, " in screen
    # maps of 6 x 6 before conv3 and of 2 x 2 before fc6, of 64 channels; 256 neurons, twice
    crossing = 4 * 2 * 64 * 36, 4 * 2 * 64 * 4, 4 * 2 * 256, 4 * 256
    each = "conv3 {:,}, fc6 {:,}, fc7 {:,}, fc8 {:,}".format(*crossing)
    assert f"cross  {sum(crossing):,} bytes a picture ({each}), {4 * sum(crossing):,} a step" in screen
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=3 * STEP)
    for file in ("weights.safetensors", "checkpoints/step-000000003.safetensors"):
        assert names_and_shapes(tmp_path / "split" / file) == names_and_shapes(tmp_path / "whole" / file)

    for folder, devices in (("split", "cpu"), ("whole", "cpu,cpu")):
        assert quick("--resume", folder, "--epochs", "2", "--devices", devices, "--quiet") == 0
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=6 * STEP)
    capfd.readouterr()
    for devices in ("cpu", "cpu,cpu"):
        assert quick("--evaluate", "split", "--devices", devices, "--quiet") == 0
    one, two = capfd.readouterr().out.splitlines()
    assert one == two


def test_pictures_pretrained_and_frozen(program, tmp_path, capfd):
    assert program(*SIZES, "--out", "first", "--devices", "cpu,cpu", "--quiet") == 0
    assert (tmp_path / "first" / "nearest_in_fc7.png").exists()
    assert (tmp_path / "first" / "activation_maps.png").exists()
    assert "warning" not in capfd.readouterr().err
    assert RunPictures  # which drew them
    more = ["--devices", "cpu,cpu", "--pretrained", "first", "--freeze", "conv1,fc6", "--out", "second", "--quiet"]
    assert program(*SIZES, *more) == 0
    first, second = (load_file(tmp_path / run / "weights.safetensors") for run in ("first", "second"))
    same = {name.split(".")[0] for name in first if (first[name] == second[name]).all()}
    assert same == {"conv1", "fc6"}


def test_an_error_in_a_worker_ends_the_run_with_the_last_checkpoint_intact(quick, tmp_path, capfd, monkeypatch):
    forward, calls = Conv2d.forward, []

    def full(self, *args, **options):
        calls.append(self.name)
        if self.name == "conv4" and calls.count("conv4") == 7:
            raise MemoryError("no room left")
        return forward(self, *args, **options)

    monkeypatch.setattr(Conv2d, "forward", full)
    assert quick(*SIZES, "--out", "run", "--devices", "cpu,cpu", "--quiet") == 1
    text = capfd.readouterr().err
    assert "error: no room left (in tower " in text
    assert " of 2, on cpu)" in text
    monkeypatch.setattr(Conv2d, "forward", forward)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunPictures, "__call__", lambda *args: None)
    assert quick("--resume", "run", "--quiet") == 0
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("devices", "texts"),
    [
        ("0,0,0", ["--devices: expected cpu, the number of a GPU, such as 0, or two of these", "got '0,0,0'"]),
        ("gpu", ["--devices: expected cpu, the number of a GPU", "got 'gpu'"]),
        ("cpu,", ["got 'cpu,'"]),
        ("0,1", ["--devices: a GPU needs CuPy", "the CPU serves, too: --devices cpu,cpu"]),
        ("0", ["--devices: a GPU needs CuPy", "the CPU serves, too: --devices cpu"]),
    ],
)
def test_wrong_usage(program, capfd, devices, texts, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # not installed, wherever the test runs
    assert program(*SIZES, "--devices", devices) == 2
    error = capfd.readouterr().err
    assert all(text in error for text in texts), error


def test_one_tower_is_not_split(program, tmp_path, capfd):
    (tmp_path / "photos").mkdir()
    assert program("--data", "photos", "--preset", "torchvision", "--devices", "cpu,cpu") == 2
    assert "expected one device for torchvision's net, which has one tower, got 'cpu,cpu'" in capfd.readouterr().err
