"""The digests of the layers' files: up to date here, and renewed only where a layer's lines and its twin agree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet.fast import __main__ as renewing
from tinynet.fast import identity, plan, relu, single
from tinynet.fast.agreement import disagreement
from tinynet.layers import Conv2d, Dropout, Flatten, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A copy of the digests, which the program takes for its own."""
    path = tmp_path / "digests.json"
    shutil.copy(renewing.FILE, path)
    monkeypatch.setattr(renewing, "FILE", path)
    monkeypatch.setattr(identity, "stored_digests", lambda: json.loads(path.read_text(encoding="utf-8")))
    return path


def test_the_digests_are_those_of_the_files():
    found = renewing.changes(identity.stored_digests(), renewing.digests())
    assert found == [], "run `python -m tinynet.fast` in the checkout, which renews them if plain and fast agree"


def test_each_class_with_a_twin_has_a_digest():
    modules = set(renewing.digests())
    assert {kind.__module__ for kind in single.TWINS} <= modules
    assert {kind.__module__ for kind in (Flatten, Sequential)} <= modules
    assert {kind.__module__ for kind in plan.KNOWN} <= modules
    assert "tinynet.layers.windows" in modules  # of what they call


def test_nothing_to_do(file, capsys):
    before = file.read_bytes()
    assert renewing.main(["--check"]) == 0
    assert renewing.main([]) == 0
    assert file.read_bytes() == before
    assert capsys.readouterr().out.splitlines() == [
        "the digests are up to date",
        "plain and fast agree; the digests are up to date",
    ]


def test_what_changed_is_said_and_written(file, capsys):
    right = json.loads(file.read_text(encoding="utf-8"))
    stale = right | {"tinynet.layers.relu": "0" * 64, "tinynet.layers.gone": "1" * 64}
    del stale["tinynet.layers.lrn"]
    file.write_text(json.dumps(stale), encoding="utf-8")
    assert renewing.main(["--check"]) == 1
    assert json.loads(file.read_text(encoding="utf-8")) == stale
    capsys.readouterr()
    assert renewing.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tinynet.layers.lrn: has no digest yet",
        "tinynet.layers.relu: changed",
        "tinynet.layers.gone: nothing depends on it any more",
        "plain and fast agree; wrote digests.json",
    ]
    assert json.loads(file.read_text(encoding="utf-8")) == right


@pytest.mark.parametrize("kind", single.TWINS, ids=lambda kind: kind.__name__)
def test_a_twin_agrees_with_the_lines(kind):
    assert disagreement(kind) is None


@pytest.mark.parametrize("kind", single.TWINS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_lines_that_are_spoiled_do_not_agree(monkeypatch, kind, method):
    right = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda self, *args: np.array(right(self, *args)) * (1 + 1e-6))
    text = disagreement(kind)
    assert text is not None
    assert text.startswith(f"{kind.__name__}: {'y' if method == 'forward' else 'dx'} ")
    assert "of its largest entry, more than 1e-13" in text


def test_gradients_of_weights_are_compared(monkeypatch):
    right = Conv2d.backward

    def backward(self, dy):
        dx = right(self, dy)
        self.weight.grad *= 1 + 1e-6
        return dx

    monkeypatch.setattr(Conv2d, "backward", backward)
    assert "weight.grad differs by" in str(disagreement(Conv2d))


def test_evaluation_is_compared(monkeypatch):
    right = Dropout.forward
    monkeypatch.setattr(
        Dropout, "forward", lambda self, x: right(self, x) * (1.0 if self.training else x.dtype.type(1.5))
    )
    assert "in evaluation" in str(disagreement(Dropout))


def test_a_twin_that_fails_is_no_agreement(monkeypatch):
    monkeypatch.setattr(relu, "backward", lambda layer, dy: layer.no_such_thing)
    assert str(disagreement(ReLU)).startswith("ReLU: its twin fails: AttributeError")
    monkeypatch.setattr(SoftmaxCE, "forward", lambda self, logits: 0.0)
    assert str(disagreement(SoftmaxCE)).startswith("SoftmaxCE: its own lines fail: TypeError")


def test_nothing_is_written_where_they_differ(file, monkeypatch, capsys):
    stale = json.loads(file.read_text(encoding="utf-8")) | {"tinynet.layers.relu": "0" * 64}
    file.write_text(json.dumps(stale), encoding="utf-8")
    monkeypatch.setattr(ReLU, "backward", lambda self, dy: 2 * dy)
    assert renewing.main([]) == 1
    assert json.loads(file.read_text(encoding="utf-8")) == stale
    out, err = capsys.readouterr()
    assert out == "tinynet.layers.relu: changed\n"
    assert err.startswith("ReLU: dx differs by ")
    assert err.endswith("; nothing was written\n")


def wrong_update(self, w, v, grad, lr, decay):
    v[...] = self.momentum * v - lr * grad
    w += v


@pytest.mark.parametrize(
    ("kind", "method", "wrong", "said"),
    [
        (SGD, "update", wrong_update, "SGD.update and its fast twin differ by "),
        (Flatten, "backward", lambda self, dy: 2 * dy.reshape(self.saved[0]), "backward of Flatten ("),
        (Sequential, "backward", lambda self, dy: dy, "backward of Sequential ("),
    ],
    ids=["SGD", "Flatten", "Sequential"],
)
def test_what_has_no_twin_of_a_layer_must_be_right_too(file, monkeypatch, capsys, kind, method, wrong, said):
    stale = json.loads(file.read_text(encoding="utf-8")) | {kind.__module__: "0" * 64}
    file.write_text(json.dumps(stale), encoding="utf-8")
    monkeypatch.setattr(kind, method, wrong)
    assert renewing.main([]) == 1
    assert json.loads(file.read_text(encoding="utf-8")) == stale
    assert capsys.readouterr().err.startswith(said)


def test_without_the_source_there_is_nothing_to_renew(file, monkeypatch, capsys):
    monkeypatch.setattr(identity, "source_of", lambda module: None)
    assert renewing.main([]) == 1
    assert "expected a checkout" in capsys.readouterr().err


def test_wrong_usage(capsys):
    assert renewing.main(["--chek"]) == 2
    assert "usage: python -m tinynet.fast [--check]" in capsys.readouterr().err


def test_a_line_that_is_edited_in_a_copy_of_the_package(tmp_path):
    """Another process, which reads the file as it is: spoiled, then written in another way."""
    ignored = shutil.ignore_patterns("__pycache__", "*.nbc", "*.nbi")
    shutil.copytree(Path(tinynet.__file__).parent, tmp_path / "tinynet", ignore=ignored)
    path, digests = tmp_path / "tinynet/layers/relu.py", tmp_path / "tinynet/fast/digests.json"
    source, before = path.read_text(encoding="utf-8"), digests.read_bytes()

    def program(*words):
        return subprocess.run(
            [sys.executable, "-m", "tinynet.fast", *words],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    path.write_text("# a comment changes nothing\n" + source, encoding="utf-8")
    assert program("--check").returncode == 0
    path.write_text(source.replace("y > 0, dy, 0", "y > 0, 2 * dy, 0"), encoding="utf-8")
    assert program("--check").stdout.startswith("tinynet.layers.relu: changed\n")
    done = program()
    assert done.returncode == 1
    assert done.stderr.startswith("ReLU: dx differs by 0.5 of its largest entry")
    assert digests.read_bytes() == before
