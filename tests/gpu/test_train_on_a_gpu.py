"""The main program with --devices 0, on a simulated GPU and tiny sizes."""

import json

import numpy as np
import pytest
from bounds import FACTOR
from parallel.nets import rounding

from tinynet.backend import device, launch
from tinynet.models import alexnet_mini

SIZES = ["--train-size", "4", "--val-size", "2", "--batch-size", "2", "--image-size", "28", "--epochs", "1", "--quiet"]
# of a step of the program's net: how far two orders of all sums may take it, relative to the largest number
STEP = rounding(alexnet_mini(image_size=28), (2, 3, 28, 28), np.float32)[1]


def losses(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record["train_loss"] for record in records if record["event"] in ("step", "epoch")]


def test_trains_and_measures_and_moves_between_devices(other_gpu, quick, tmp_path, capfd):
    assert quick(*SIZES, "--out", "cpu") == 0
    assert quick(*SIZES, "--out", "gpu", "--devices", "0", "--graph") == 0
    assert launch._compiled.cache_info().currsize > 10
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=2 * STEP)

    capfd.readouterr()
    other = other_gpu.removeprefix("cuda:")
    for folder, devices in (("gpu", "cpu"), ("cpu", other)):  # the checkpoint of one goes on on the other
        assert quick("--resume", folder, "--epochs", "2", "--devices", devices, "--quiet") == 0
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=4 * STEP)

    capfd.readouterr()
    assert quick("--evaluate", "gpu/weights.safetensors", "--devices", "0", "--batch-size", "2") == 0
    on_gpu = capfd.readouterr().out
    assert quick("--evaluate", "gpu/weights.safetensors", "--batch-size", "2") == 0
    assert on_gpu.split(", loss")[0] == capfd.readouterr().out.split(", loss")[0]


def test_a_run_goes_on_where_its_gpu_is_missing_only_if_told_so(simulated_gpu, quick, capfd, monkeypatch):
    assert quick(*SIZES, "--out", "run", "--devices", "1") == 0
    device._try_out.cache_clear()
    monkeypatch.setattr(simulated_gpu, "devices", 1)
    assert quick("--resume", "run", "--epochs", "2") == 1
    text = capfd.readouterr().err
    assert "--resume: the run was on 1: cuda:1: no such GPU; this machine has cuda:0; --devices says another" in text
    assert quick("--resume", "run", "--epochs", "2", "--devices", "cpu", "--quiet") == 0


def test_a_gpu_that_is_not_there_is_wrong_usage(simulated_gpu, program, capfd):
    assert program(*SIZES, "--devices", "7") == 2
    text = capfd.readouterr().err
    assert "--devices: cuda:7: no such GPU; this machine has cuda:0, cuda:1" in text
    assert "--devices cpu" in text


def test_no_memory_in_the_middle_of_a_run_keeps_the_last_checkpoint(gpu, quick, tmp_path, capfd, monkeypatch):
    from tinynet.optim import SGD

    step = SGD.step

    def full(self):
        step(self)
        gpu.memory = 1000

    monkeypatch.setattr(SGD, "step", full)
    assert quick(*SIZES, "--out", "run", "--devices", "0") == 1
    text = capfd.readouterr().err
    assert "cuda:0 is out of memory for an array of shape" in text
    assert "smaller batch" in text
    monkeypatch.undo()
    gpu.reset()
    monkeypatch.chdir(tmp_path)
    assert list((tmp_path / "run" / "checkpoints").glob("*.safetensors"))


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tensor_cores")
def test_a_run_keeps_its_precision(other_gpu, quick, tmp_path, capfd):
    for precision in ("fp32", "bf16"):
        assert quick(*SIZES, "--out", precision, "--devices", "0", "--precision", precision) == 0
        config = json.loads((tmp_path / precision / "config.json").read_text("utf-8"))
        assert config["precision"] == precision
    exact, coarse = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert coarse != pytest.approx(exact, rel=FACTOR["bf16"] / 1000)
    assert coarse == pytest.approx(exact, rel=8 * FACTOR["bf16"])  # eight layers

    capfd.readouterr()
    assert quick("--resume", "bf16", "--epochs", "2", "--devices", "cpu", "--quiet") == 0
    assert "warning: the run was in bf16; on the CPU it goes on in float32" in capfd.readouterr().err
    assert quick("--resume", "bf16", "--epochs", "3", "--devices", other_gpu.removeprefix("cuda:"), "--quiet") == 0
    assert "bf16" not in capfd.readouterr().err
    assert quick("--resume", "bf16", "--precision", "fp32") == 2
    assert "--precision: expected none beside --resume" in capfd.readouterr().err


@pytest.mark.parametrize("where", [(), ("--devices", "cpu")])
def test_a_precision_for_the_cpu_is_wrong_usage(program, capfd, where):
    assert program(*SIZES, *where, "--precision", "tf32") == 2
    text = "--precision: expected fp32 with --devices cpu, got 'tf32'; the others are for a GPU"
    assert text in capfd.readouterr().err


def test_a_precision_that_the_gpu_has_not_is_wrong_usage(simulated_gpu, program, capfd, monkeypatch):
    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "70")
    assert program(*SIZES, "--devices", "0", "--precision", "bf16") == 2
    assert '--precision: cuda:0: precision "bf16" needs tensor cores' in capfd.readouterr().err
