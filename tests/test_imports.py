"""`import tinynet` loads nothing but itself; every module can be the first that a program imports."""

from checks import run_python

import tinynet

EACH_FIRST = """
import importlib, pkgutil, sys, tinynet
names = [found.name for found in pkgutil.walk_packages(tinynet.__path__, "tinynet.")]
assert len(names) > 100, names
for name in names:
    if name.endswith("__main__"):
        continue
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "tinynet"]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_can_be_the_first_one():
    assert int(run_python(EACH_FIRST)) > 100


def test_the_package_itself_loads_nothing():
    script = "import sys, tinynet; print(sorted({'numpy', 'numba', 'matplotlib', 'tinynet.layers'} & set(sys.modules)))"
    assert run_python(script).strip() == "[]"


def test_every_name_at_the_top_is_there():
    for name in tinynet.__all__:
        assert getattr(tinynet, name) is not None
    assert set(tinynet.__all__) <= set(dir(tinynet))


def test_a_name_that_is_not_there_is_an_attribute_error_that_lists_what_is():
    text = run_python("import tinynet\ntry:\n    tinynet.nn\nexcept AttributeError as error:\n    print(error)")
    assert text.startswith("module 'tinynet' has no attribute 'nn'; it has Trainer, ")
