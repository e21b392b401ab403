"""The command line: help, errors of two lines, and what is understood."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinynet
from tinynet.backend import precision
from tinynet.cli.defaults import DATA, FEW, INPUT_SIZES, MODELS, PRECISIONS
from tinynet.cli.usage import device_names
from tinynet.data import NAMES
from tinynet.data.names import PHOTOS, data_kind
from tinynet.mode import SWITCH, is_plain
from tinynet.models import PRESETS

COMMANDS = "train", "evaluate", "predict", "summary", "compare"
ROOT = Path(__file__).parents[2]


def in_a_process(*arguments, cwd, **environment):
    command = [sys.executable, "-W", "error", "-m", "tinynet", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False)


def test_without_a_command_it_shows_what_can_be_done(tinynet_program, capfd):
    assert tinynet_program() == 0
    output = capfd.readouterr()
    assert output.err == ""
    for command in COMMANDS:
        assert f"\n  tinynet {command} " in output.out  # an example
        assert f"\n  {command} " in output.out
    assert output.out.count("\n") < 30


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(tinynet_program, capfd, command):
    for option in ("--help", "-h"):
        assert tinynet_program(command, option) == 0
        output = capfd.readouterr()
        assert output.err == ""
        assert output.out.startswith(f"Usage: tinynet {command} ")
        assert "--help" in output.out


def test_the_options_of_train_stand_under_headings(tinynet_program, capfd):
    assert tinynet_program("train", "--help") == 0
    lines = capfd.readouterr().out.splitlines()
    heads = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["what to learn from:", "the net:", "how to learn:", "the run:", "help:"]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "summary"])
def test_plain_is_told_in_one_sentence(tinynet_program, capfd, command):
    assert tinynet_program(command, "--help") == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "--plain Compute by the lines of the layers' own files, without numba, kernels or fused passes" in text


def test_plain_holds_while_the_command_works_and_for_what_it_starts(tinynet_program, monkeypatch, capfd):
    seen = []

    def show(given):
        child = [sys.executable, "-c", "from tinynet.mode import is_plain; print(is_plain())"]
        seen.append((is_plain(), os.environ.get(SWITCH), subprocess.check_output(child, text=True).strip(), given))
        return 0

    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("tinynet.cli.summary.show_summary", show)
    assert tinynet_program("summary", "--plain", "--model", "alexnet_mini") == 0
    assert tinynet_program("summary") == 0
    given = {"model": "alexnet_mini"}
    assert seen == [(True, "1", "True", given), (False, None, "False", {})]


def test_version(tinynet_program, capfd):
    assert tinynet_program("--version") == 0
    assert capfd.readouterr().out == f"tinynet {tinynet.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        ("trian", "tinynet: error: trian: no such command; did you mean train?", "tinynet --help"),
        ("xyz", "tinynet: error: xyz: no such command", "tinynet --help"),
        ("--hlep", "tinynet: error: --hlep: no such option; did you mean --help?", "tinynet --help"),
        ("--version=3", "tinynet: error: --version: expected no value, got one", "tinynet --help"),
        ("--foo", "tinynet: error: --foo: no such option", "tinynet --help"),
        ("train --epoch 3", "tinynet train: error: --epoch: no such option; did you mean --epochs?", "tinynet train"),
        ("train --epochs", "tinynet train: error: --epochs: expected a value, got none", "tinynet train --help"),
        ("train --quiet=3", "tinynet train: error: --quiet: expected no value, got one", "tinynet train --help"),
        ("train more", "tinynet train: error: expected options, got 'more'", "tinynet train --help"),
        ("train .", "expected options, got '.'; did you mean --data .?", "tinynet train --help"),
        ("train --data ./gone", "got './gone'; there is no folder of that name", "tinynet train --help"),
        (
            "train --model alexnet_mni",
            "--model: expected one of alexnet_mini, alexnet, got 'alexnet_mni'; did you mean alexnet_mini?",
            "tinynet train --help",
        ),
        ("train --augment miror", "got 'miror'; did you mean mirror?", "tinynet train --help"),
        ("train --data fashon-mnist", "got 'fashon-mnist'; did you mean fashion-mnist?", "tinynet train --help"),
        ("train --data CIFAR10x", "got 'CIFAR10x'; did you mean cifar-10?", "tinynet train --help"),
        ("train --ten-crop", "--ten-crop: no such option", "tinynet train --help"),
        ("train --devices gpu", "--devices: expected cpu, the number of a GPU", "tinynet train --help"),
        ("train --out=", "tinynet train: error: --out: expected a path, got ''", "tinynet train --help"),
        ("train --data=", "--data: expected one of shapes, mnist, ", "tinynet train --help"),
        ("predict run a.jpg --csv=", "--csv: expected a path, got ''", "tinynet predict --help"),
        ("train --resume run --seed 1 --lr 1", "--lr: expected none beside --resume, got '1", "tinynet train --help"),
        ("evaluate", "tinynet evaluate: error: expected RUN..., got none", "tinynet evaluate --help"),
        ("evaluate run --ten-crops", "--ten-crops: no such option; did you mean --ten-crop?", "tinynet evaluate"),
        ("predict run", "tinynet predict: error: expected IMAGE..., got none", "tinynet predict --help"),
        ("predict run a.jpg --top 0", "--top: expected a whole number of at least 1, got '0'", "tinynet predict"),
        ("predict run a.jpg --csv out.csv", "--csv: expected its file behind =, as in --csv=out.csv", "tinynet"),
        ("compare run other --csv out.csv", "as in --csv=out.csv, got 'out.csv'", "tinynet compare"),
        ("summary --preset papr", "got 'papr'; did you mean paper?", "tinynet summary --help"),
        ("summary --model alexnet --image-size 64", "expected 3 x 227 x 227, what paper's", "tinynet summary"),
        ("compare", "tinynet compare: error: expected RUN..., got none", "tinynet compare --help"),
        ("compare a --plot curves.txt", "--plot: expected a file whose name ends with .png", "tinynet compare"),
    ],
)
def test_wrong_usage_is_two_lines(tinynet_program, capfd, tmp_path, arguments, error, hint):
    assert tinynet_program(*arguments.split()) == 2
    output = capfd.readouterr()
    first, second = output.err.splitlines()
    assert error in first
    assert first.startswith("tinynet")
    assert second.startswith(f"'{hint}")
    assert second.endswith(("' lists the options", "' lists the commands"))
    assert output.out == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["evaluate", "predict run", "compare", "summary"])
def test_an_empty_name_is_no_folder(tinynet_program, capfd, command):
    """As of a variable that the shell does not know: the folder where one stands is not meant."""
    assert tinynet_program(*command.split(), "") == 2
    assert "expected a path, got ''" in capfd.readouterr().err


def test_names_cannot_move_the_cursor(tinynet_program, capfd):
    assert tinynet_program("compare", "a\r\x1b[2Jb\nc") == 1
    assert "got a\\r\\x1b[2Jb c: nothing there" in capfd.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["summary", "--help"])
def test_a_result_that_a_full_disk_does_not_take_is_an_error(tmp_path, command):
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "tinynet", command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert process.returncode == 1
    (line,) = process.stderr.decode().splitlines()
    assert "No space left on device" in line


def test_a_reader_that_wants_no_more_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        process = subprocess.run(
            [sys.executable, "-m", "tinynet", "summary"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (process.returncode, process.stderr) == (0, b"")


def test_started_by_m_it_names_a_command_that_works(tmp_path):
    process = in_a_process("train", "--epoch", 3, cwd=tmp_path)
    assert process.returncode == 2
    lines = process.stderr.decode().splitlines()
    assert lines[0] == "tinynet train: error: --epoch: no such option; did you mean --epochs?"
    assert lines[1] == "'python -m tinynet train --help' lists the options"


@pytest.mark.parametrize("heavy", ["numba", "matplotlib", "scipy"])
@pytest.mark.parametrize("arguments", ["--help", "train --help", "train --epoch 3", "train --data fashon-mnist", "x"])
def test_help_and_wrong_usage_wait_for_no_heavy_module(tmp_path, heavy, arguments):
    program = f"""if True:
        import sys
        sys.modules[{heavy!r}] = None  # to import it fails
        from tinynet.cli import main
        sys.exit(main({arguments.split()!r}))"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert process.returncode == (0 if "--help" in arguments else 2), process.stderr
    assert "Traceback" not in process.stderr


# what is understood


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("cpu", ("cpu",)),
        ("0", ("cuda:0",)),
        ("cuda", ("cuda:0",)),
        ("cuda:0", ("cuda:0",)),
        ("cuda:0,cuda:1", ("cuda:0", "cuda:1")),
        ("cuda:1,cpu", ("cuda:1", "cpu")),
        ("0,cuda:0", ("cuda:0", "cuda:0")),
    ],
)
def test_devices_as_pytorch_calls_them(said, meant):
    assert device_names(said) == meant


@pytest.mark.parametrize("said", ["gpu", "cuda:", "cuda:x", "0,0,0", "", "cpu,", "cuda:cuda:0", "cuda:-1", "cuda:cpu"])
def test_what_is_no_device(said):
    with pytest.raises(ValueError):  # noqa: PT011  the text is all that is wrong
        device_names(said)


def test_names_of_data_in_any_spelling_but_a_folder_is_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert data_kind("MNIST") == ("mnist", "mnist")
    assert data_kind("Fashion_MNIST") == ("fashion-mnist", "fashion-mnist")
    assert data_kind("imagenet") is None
    for folder in ("cifar10", "mnist"):
        (tmp_path / folder).mkdir()
    assert data_kind("cifar10") == ("cifar10", PHOTOS)
    assert data_kind("mnist") == ("mnist", "mnist")
    assert data_kind("cifar-10") == ("cifar-10", "cifar-10")


def test_what_is_written_down_here_for_speed_is_what_the_library_has():
    assert tuple(INPUT_SIZES) == tuple(PRESETS)
    assert precision.PRECISIONS == PRECISIONS
    assert set(DATA) == {*NAMES, PHOTOS}
    assert all(hasattr(tinynet.models, model) for model in MODELS)
    assert FEW == 5000
