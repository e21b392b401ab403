"""Packages whose names come when they are first used."""

import subprocess
import sys

import pytest

import tinynet
from tinynet import data


def fresh(program):
    """What a new process prints that runs the program."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_to_import_tinynet_loads_next_to_nothing():
    heavy = "numpy", "numba", "matplotlib", "PIL", "requests"
    print_loaded = f"print(*[name for name in {heavy} if name in sys.modules])"
    assert fresh(f"import sys, tinynet, tinynet.data; {print_loaded}") == []
    assert fresh(f"import sys, tinynet; tinynet.layers.Conv2d; {print_loaded}") == ["numpy"]


@pytest.mark.parametrize("first", ["tinynet.data.shapes", "tinynet.data.load"])
def test_a_function_keeps_its_name_where_a_module_has_it_too(first):
    package, _, name = first.rpartition(".")
    assert fresh(f"import {first}, {package} as p; print(type(p.{name}).__name__)") == ["function"]
    assert fresh(f"import {package} as p, {first}; print(type(p.{name}).__name__)") == ["function"]
    assert fresh(f"from {package} import {name}; print(type({name}).__name__)") == ["function"]
    assert fresh(f"from {first} import {name}; print(type({name}).__name__)") == ["function"]


@pytest.mark.parametrize("package", [tinynet, data])
def test_all_that_is_promised_is_there(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    assert package.__all__ == sorted(
        package.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )


def test_modules_are_found_by_their_names_and_nothing_else_is():
    assert tinynet.to_cpu
    assert not hasattr(tinynet, "nothing_of_the_kind")
    with pytest.raises(AttributeError, match=r"module 'tinynet\.data' has no attribute 'imagenet'"):
        data.imagenet  # noqa: B018
    with pytest.raises(ImportError):
        exec("from tinynet import nothing_of_the_kind")


def test_what_a_module_lacks_is_no_missing_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "tinynet.io.checkpoints", raising=False)
    monkeypatch.delitem(vars(tinynet), "load_weights", raising=False)
    with pytest.raises(ModuleNotFoundError, match="safetensors"):
        tinynet.load_weights  # noqa: B018
