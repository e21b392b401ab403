"""`tinynet check`: one sentence first, exit code 0, 1 or 2, and nothing imported that it does not need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinynet
from tinynet.inspect.examples import ROWS
from tinynet.layers import ReLU
from tinynet.mode import is_plain

TANH = """
import numpy as np
from tinynet.layers import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)
        self.saved = (y,)
        return y

    def backward(self, dy):
        (y,) = self.saved
        return dy * (1 - y**2)
"""
SCALE = """

class Scale(Layer):
    def __init__(self, features):
        self.features = features

    def forward(self, x):
        assert x.shape[1] == self.features
        return 3 * x

    def backward(self, dy):
        return 3 * dy
"""


@pytest.fixture
def file(tinynet_program, tmp_path):
    """Writes a file beside which the program runs."""

    def write(text, name="my_layer.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


@pytest.fixture
def checked(tinynet_program, capsys):
    """(exit code, lines on stdout, lines on stderr) of `tinynet check` with these words."""

    def run(*words):
        code = tinynet_program("check", *words)
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.mark.parametrize("word", ["relu", "ReLU", "RELU", "tinynet.layers.relu:ReLU", "tinynet.layers.relu"])
def test_a_layer_by_its_name(checked, word):
    code, (first, *details), errors = checked(word)
    assert (code, errors) == (0, [])
    assert first.startswith("ReLU is right: forward is what its formula says")
    assert 0 < len(details) <= 15


@pytest.mark.parametrize(
    ("word", "name"), [("max_pool", "MaxPool"), ("max-pool", "MaxPool"), ("softmax_ce", "SoftmaxCE")]
)
def test_a_name_in_any_spelling(checked, word, name):
    code, (first, *_), _ = checked(word)
    assert code == 0
    assert first.split()[0] in ("MaxPool", "SoftmaxCE", "Conv2d")


def test_all_layers_a_line_each(checked):
    code, lines, _ = checked()
    assert code == 0
    assert [line.split()[0] for line in lines] == [kind.__name__ for kind in ROWS]
    assert all(" is right: " in line for line in lines)


def test_all_layers_with_one_that_is_wrong(checked, monkeypatch):
    monkeypatch.delattr(ReLU, "backward")
    code, lines, _ = checked()
    assert code == 1
    missing = "ReLU has no backward: write backward(self, dy) in tinynet/layers/relu.py"
    assert any(line.startswith(missing) for line in lines)
    assert sum(" is right: " in line for line in lines) == len(ROWS) - 2  # Sequential's example has a ReLU


def test_a_file_of_ones_own(checked, file):
    code, (first, *_), _ = checked(file(TANH))
    assert code == 0
    assert first.startswith("Tanh is right: backward is the derivative of forward")


def test_a_mistake_in_a_file_of_ones_own(checked, file):
    code, (first, *details), _ = checked(file(TANH.replace("return dy *", "return -dy *")))
    assert code == 1
    assert first.startswith("backward of Tanh (my_layer.py, line 12) gives dx[")
    assert first.endswith("likely cause: wrong sign: analytic = -1 x numeric everywhere")
    assert 0 < len(details) <= 15


def test_what_a_layer_prints_comes_after_the_sentence(checked, file):
    text = TANH.replace("        y = ", '        print("here")\n        y = ') + '\nprint("at first")\n'
    code, lines, _ = checked(file(text))
    assert code == 0
    assert lines[0].startswith("Tanh is right")
    assert "    at first" in lines
    assert len(lines) <= 20


def test_several_layers_in_a_file(checked, file):
    name = file(TANH + SCALE)
    code, lines, errors = checked(name)
    assert (code, lines) == (2, [])
    assert errors[0] == f"tinynet check: error: {name}: expected one layer, got Tanh, Scale; say which: {name}:Tanh"
    assert checked(f"{name}:tanh")[0] == 0
    code, _, errors = checked(f"{name}:Sigmoid")
    assert code == 2
    assert "expected a layer of that file, Tanh, Scale; got Sigmoid" in errors[0]


def test_how_to_make_a_layer(checked, file):
    name = file(TANH + SCALE)
    code, (first, hint), _ = checked(f"{name}:Scale")
    assert code == 1
    assert first.startswith("__init__ of Scale (my_layer.py, line 18) fails: TypeError: ")
    assert "--args" in hint
    assert checked(f"{name}:Scale", "--args", "5", "--shape", "2,5")[0] == 0
    assert checked(f"{name}:Scale", "--args", "features=3", "--shape", "4,3")[0] == 0
    code, (first, *details), _ = checked(f"{name}:Scale", "--args", "7")
    assert code == 1
    assert first.startswith("forward of Scale (my_layer.py, line 22) fails for an x of shape (2, 3, 4, 5): ")
    assert any("--shape" in line for line in details)


def test_an_example_in_the_class(checked, file):
    text = TANH + SCALE.replace("(Layer):", '(Layer):\n    example = {"features": 3}, (4, 3)\n')
    code, lines, _ = checked(f"{file(text)}:Scale")
    assert code == 0
    assert "x of shape (4, 3)" in lines[1]
    code, _, errors = checked(f"{file(text.replace(', (4, 3)', ', 4'))}:Scale")
    assert code == 2
    assert "Scale.example: expected (constructor's arguments, shape of an x)" in errors[0]


def test_a_copy_with_the_name_of_a_layer_is_judged_as_that_one(checked, file):
    source = Path(tinynet.layers.relu.__file__).read_text(encoding="utf-8")
    code, (first, *_), _ = checked(file(source.replace("np.maximum(x, 0)", "np.abs(x)"), "relu.py"))
    assert code == 1
    assert first.startswith("forward of ReLU (relu.py, line ")
    assert first.endswith("likely cause: the sign is the wrong way round: negative numbers should become 0")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def f(:\n", "my_layer.py, line 1, is not Python: def f(: (SyntaxError: invalid syntax)"),
        ("import no_such\n", "my_layer.py, line 1, fails when it is imported: ModuleNotFoundError: No module named"),
        ("x = 1\nraise SystemExit(3)\n", "my_layer.py, line 2, fails when it is imported: SystemExit: 3"),
        ("x = 1\n", "my_layer.py has no layer: expected a class that inherits from tinynet.layers.Layer"),
    ],
)
def test_a_file_that_is_broken(checked, file, text, sentence):
    code, (first,), errors = checked(file(text))
    assert (code, errors) == (1, [])
    assert first.startswith(sentence)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["relux"], "; did you mean ReLU?"),
        (["qqq"], "a file of yours ends with .py"),
        (["nothing.py"], "nothing.py: there is no such file"),
        (["tinynet.layers.nothing:X"], "there is no module of that name"),
        (["relu", "--shape", "0,2"], "--shape: expected sizes of at least 1"),
        (["relu", "--args", "x y"], "expected the constructor's arguments"),
        (["relu", "lrn"], "expected options, got 'lrn'"),
        (["--shape", "2,3"], "--shape: expected it beside one layer, got it without"),
    ],
)
def test_wrong_usage(checked, words, expected):
    code, lines, errors = checked(*words)
    assert (code, lines, len(errors)) == (2, [], 2)
    assert expected in errors[0]
    assert errors[1].endswith("check --help' lists the options")


def test_it_leaves_the_mode_as_it_was(checked):
    assert not is_plain()
    checked("relu")
    assert not is_plain()


def other_process(folder, *words):
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, to be edited."""
    folder = tmp_path_factory.mktemp("copy")
    source = Path(tinynet.__file__).parent
    shutil.copytree(source, folder / "tinynet", ignore=shutil.ignore_patterns("__pycache__", "*.nbc", "*.nbi"))
    return folder


def edited(package, file, change):
    path = package / "tinynet" / file
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")
    try:
        return other_process(package, "-m", "tinynet", "check", "relu")
    finally:
        path.write_text(before, encoding="utf-8")


def test_an_edited_file_of_the_package_is_what_runs(package):
    done = edited(package, "layers/relu.py", lambda text: text.replace("y > 0, dy, 0", "y > 0, 2 * dy, 0"))
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("backward of ReLU (tinynet/layers/relu.py, line ")
    assert "analytic = 2 x numeric everywhere" in done.stdout.splitlines()[0]


def test_a_layer_file_that_is_no_python(package):
    done = edited(package, "layers/conv2d.py", lambda text: text.replace("forward(self, x):", "forward(self, x)"))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("tinynet/layers/conv2d.py, line ")
    assert "is not Python: def forward(self, x) (SyntaxError: expected ':')" in done.stdout


def test_it_imports_nothing_that_it_does_not_need():
    script = (
        "import sys\nfrom tinynet.cli import main\nassert main(['check', 'relu']) == 0\n"
        "heavy = {'numba', 'llvmlite', 'threadpoolctl', 'matplotlib', 'PIL', 'scipy', 'cupy', 'torch', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = other_process(Path(tinynet.__file__).parents[1], "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_class_that_is_no_layer_of_its_file_is_not_taken(checked, file):
    """Layers that a file imports are not its own."""
    code, (first, *_), _ = checked(file("from tinynet.layers import ReLU\n" + TANH))
    assert code == 0
    assert first.startswith("Tanh is right")


def test_a_new_layer_of_the_package_needs_no_row(package):
    path = package / "tinynet" / "layers" / "tanh.py"
    path.write_text(TANH, encoding="utf-8")
    try:
        done = other_process(package, "-m", "tinynet", "check", "tanh")
    finally:
        path.unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Tanh is right: backward is the derivative of forward")


def test_it_runs_where_numba_cannot_be_imported():
    script = (
        "import sys\n"
        "for name in ('numba', 'llvmlite', 'threadpoolctl', 'matplotlib', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "from tinynet.cli import main\nsys.exit(main(['check']))"
    )
    done = other_process(Path(tinynet.__file__).parents[1], "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(ROWS)
