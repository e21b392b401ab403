"""Plain mode: everything works without numba, llvmlite and threadpoolctl, and nothing imports them."""

import json
import re
from pathlib import Path

import pytest
from checks import run_python

import tinynet
from tinynet.mode import SWITCH, is_plain

# a program in which none of the three can be imported
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite", "threadpoolctl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
# a program in which they can, and which fails at its end if one was
UNUSED = """
import atexit, os, sys

def look():
    found = {"numba", "llvmlite", "threadpoolctl"} & set(sys.modules)
    if found:
        print("imported in plain mode:", *found, file=sys.stderr, flush=True)
        os._exit(3)

atexit.register(look)
"""
ROOT = Path(__file__).resolve().parent.parent
START = pytest.mark.parametrize("start", [WITHOUT, UNUSED], ids=["without", "unused"])


def run_plainly(start, program, **environment):
    return run_python(start + program, **{SWITCH: "1"} | environment)


OUTSIDE_THE_LAYERS = """
import importlib, pkgutil
import numpy as np
import tinynet
from tinynet import data, random
from tinynet.data.augment import colour_components
from tinynet.layers import Parameter
from tinynet.ops.matmul import matmul
from tinynet.optim import SGD

for found in pkgutil.walk_packages(tinynet.__path__, "tinynet."):
    if not found.name.endswith(("__main__", ".vector_code")):
        importlib.import_module(found.name)

assert random.normal((200, 3), 1, "a").std() > 0.5
pictures = data.shapes(40, 20)
mean, std = data.channel_statistics(pictures)
view = data.Augment(16, padding=2, colour_noise=0.1, colour=colour_components(pictures))
for workers in (0, 2):
    batches = list(data.Loader(pictures, 16, view=view, mean=mean, std=std, workers=workers).epoch(1))
    assert [x.shape for x, _ in batches] == [(16, 3, 16, 16), (16, 3, 16, 16), (8, 3, 16, 16)]

parameter = Parameter(np.ones((3, 4), np.float32))
optimizer = SGD([parameter], lr=0.5, momentum=0.5, weight_decay=0)
parameter.grad[...] = 1
optimizer.step()
optimizer.step()
assert (parameter.data == 1 - 0.5 - 0.75).all()
assert (matmul(np.ones((2, 3)), np.ones((3, 4))) == 3).all()
"""


@START
def test_what_is_outside_the_layers(start):
    run_plainly(start, OUTSIDE_THE_LAYERS)


TRAINING = """
import numpy as np
from pathlib import Path
import tinynet
from tinynet import data
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.optim import SGD
from tinynet.training.trainer import Trainer

def trainer(folder):
    model = Sequential(
        Conv2d(3, 4, 3, padding=1), ReLU(), LRN(), MaxPool(2, 2), Flatten(), Dropout(0.5), Linear(4 * 6 * 6, 10)
    )
    pictures, others = data.shapes(60, 12), data.shapes(20, 12, split="validation")
    mean, std = data.channel_statistics(pictures)
    loaders = data.Loader(pictures, 16, seed=1, mean=mean, std=std), data.Loader(others, 16, mean=mean, std=std)
    options = {"epochs": 2, "quiet": True, "checkpoint_minutes": 1e-9}  # a checkpoint after each step
    return Trainer(model, SGD(model.parameters(), 0.01), *loaders, out=Path(FOLDER, folder), **options)

straight = trainer("straight")
straight.fit()
stopped = trainer("stopped")
update, updates = stopped.optimizer.step, []

def step():
    if len(updates) == 5:
        raise KeyboardInterrupt  # in the middle of the sixth step
    updates.append(update())

stopped.optimizer.step = step
try:
    stopped.fit()
except KeyboardInterrupt as stop:
    assert "can be resumed" in str(stop), stop
else:
    raise AssertionError("was not interrupted")
resumed = trainer("stopped")
resumed.fit(resume=Path(FOLDER, "stopped"))
for (name, one), two in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
    assert np.array_equal(one.data, two.data), name
assert [r["event"] for r in resumed.records][-1] == "final"
"""


@START
def test_a_run_that_is_interrupted_and_goes_on(start, tmp_path):
    run_plainly(start, f"FOLDER = {str(tmp_path)!r}\n{TRAINING}")


COMMANDS = """
import os, sys
from tinynet.cli import main
os.chdir(FOLDER)
tiny = "--train-size 20 --val-size 10 --batch-size 10 --image-size 28 --epochs 1".split()
assert main(["train", "--plain", *tiny, "--out", "run"]) == 0
assert main(["train", "--plain", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
assert main(["evaluate", "--plain", "run", "--quiet"]) == 0
from PIL import Image
Image.new("RGB", (40, 30), "red").save("red.png")
assert main(["predict", "--plain", "run", "red.png"]) == 0
assert main(["summary", "--plain", "run"]) == 0
assert main(["compare", "run"]) == 0
"""


@START
def test_the_programs_option(start, tmp_path):
    output = run_python(start + f"FOLDER = {str(tmp_path)!r}\n{COMMANDS}", **{SWITCH: ""})
    assert "alexnet_mini" in output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["provenance"]["plain"] is True
    assert "plain" not in config


def test_without_the_three_the_versions_say_what_is_installed():
    program = "from tinynet.cli.begin import versions; print(*versions())"
    assert run_plainly(WITHOUT, program).split() == ["python", "numpy", "numba", "tinynet"]
    missing = """
import importlib.metadata
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
"""
    assert run_plainly(WITHOUT, missing + program).split() == ["python", "numpy", "tinynet"]


TESTS = """
import os
import pytest
os.chdir(ROOT)
assert pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *CHOSEN]) == 0
"""


@pytest.mark.parametrize(
    ("chosen", "least"),
    [
        (["tests/layers", "tests/losses", "-k", "plain and not cuda"], 140),
        (["tests/inspect/test_gradcheck.py"], 40),
        (["tests/test_readme.py", "-k", "students_layer or training_loop"], 4),
    ],
    ids=["layers", "gradcheck", "readme"],
)
def test_the_tests_of_layers_pass_without_the_three(chosen, least):
    program = f"ROOT, CHOSEN = {str(ROOT)!r}, {chosen!r}\n{TESTS}"
    output = run_plainly(WITHOUT, program, PYTEST_ADDOPTS="")  # the tests around them may measure coverage
    passed = re.search(r"(\d+) passed", output)
    assert int(passed[1]) >= least, output
    assert "skipped" not in output


def test_a_block_restores_what_was_before():
    assert not is_plain()
    block = tinynet.plain()
    assert is_plain()
    for _ in range(2):
        with block:
            assert is_plain()
        assert not is_plain()
    with tinynet.plain(), tinynet.plain(False):
        assert not is_plain()
    assert not is_plain()

    @tinynet.plain()
    def inside():
        return is_plain()

    tinynet.plain(False)
    assert inside()
    assert inside()
    assert not is_plain()
    with pytest.raises(TypeError, match="expected True or False, got '0'"):
        tinynet.plain("0")


@pytest.mark.parametrize(("word", "plain"), [("", 0), (" 0 ", 0), ("False", 0), ("no", 0), ("1", 1), ("YES", 1)])
def test_the_words_of_the_variable(word, plain):
    assert run_python("from tinynet.mode import is_plain; print(int(is_plain()))", **{SWITCH: word}).strip() == str(
        plain
    )


def test_a_variable_that_is_neither_yes_nor_no():
    program = "from tinynet.cli import main; print(main(['summary']))"
    script = f"import sys; sys.stderr = sys.stdout\n{program}"
    lines = run_python(script, **{SWITCH: "maybe"}).splitlines()
    assert "TINYNET_PLAIN: expected 1 for plain mode, or 0, got 'maybe'" in lines[0]
    assert lines[-1] == "1"
