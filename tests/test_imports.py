"""Every module can be the first that a program imports: none leans on what another one has loaded."""

import pytest
from checks import run_python

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


@pytest.mark.elsewhere
def test_every_module_can_be_the_first_one():
    assert int(run_python(EACH_FIRST)) > 100
