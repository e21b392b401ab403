"""The program train_alexnet.py, called as a function."""

import importlib.util
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "train_alexnet.py"


@pytest.fixture
def program(monkeypatch, tmp_path):
    """main(*arguments) in this process, in an empty folder."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("train_alexnet", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_alexnet.py", *map(str, arguments)])
        return module.main()

    main.module, main.parts = module, sys.modules["parts"]
    return main


@pytest.fixture
def quick(program, monkeypatch):
    """As `program`, without the pictures of a run, which take longer than a small run itself."""
    monkeypatch.setattr("tinynet.plots.RunPictures.__call__", lambda *args: None)
    return program
