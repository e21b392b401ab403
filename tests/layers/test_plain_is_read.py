"""What is read is all there is: a layer's own lines need no other file of tinynet than those that are lessons."""

import ast
import inspect
import json

import pytest
from checks import run_python

from tinynet.inspect.examples import EXAMPLES
from tinynet.layers import Sequential

# file: the class, how to make one, the shape of x, further arguments of forward
LESSONS = {
    kind.__module__.removeprefix("tinynet.").replace(".", "/") + ".py": (kind, repr(make()), shape, args)
    for kind, (make, shape, args, _) in EXAMPLES.items()
    if kind is not Sequential
}
READ = {"layers/layer.py", "layers/parameter.py", "layers/windows.py", "random.py", "checks.py", "mode.py"}
# of tinynet: what a layer may import, and what tinynet.layers.layer itself does
MAY_BE_THERE = {
    *("tinynet", "tinynet.checks", "tinynet.errors", "tinynet.mode", "tinynet.random"),
    *("tinynet.layers", "tinynet.layers.init", "tinynet.layers.layer", "tinynet.layers.parameter"),
    *("tinynet.layers.passes", "tinynet.layers.sequential", "tinynet.layers.windows"),
    *("tinynet.backend", "tinynet.backend.buffers", "tinynet.backend.device", "tinynet.backend.lazy"),
    *("tinynet.backend.precision", "tinynet.losses"),
}
FORBIDDEN = ("tinynet.fast", "tinynet.ops", "numba", "llvmlite", "threadpoolctl", "cupy", "scipy")
LINES = 100  # of a layer's file, without __init__

SCRIPT = """
import json, os, sys
import numpy as np
from {module} import {kind}

import tinynet
package = os.path.dirname(tinynet.__file__)
ran = set()


def trace(frame, event, arg):
    file = frame.f_code.co_filename
    if file.startswith(package):
        ran.add((os.path.relpath(file, package).replace(os.sep, "/"), frame.f_lineno))
        return trace
    return None


layer, args = {make}, {args}
x = np.random.default_rng(0).normal(size={shape}).astype(np.float32)
[parameter.data for parameter in layer.parameters()]  # drawn when first read
sys.settrace(trace)
y = layer.{forward}(x, *args)
dx = layer.backward(*([] if args else [np.ones_like(y)]))
sys.settrace(None)
print(json.dumps({{"modules": sorted(sys.modules), "ran": sorted(ran), "dx": dx.shape == x.shape}}))
"""


@pytest.fixture(scope="module")
def alone():
    """What a process in plain mode had imported and run that only knows the layer of this file."""
    found = {}

    def look(file, forward="forward"):
        if (file, forward) not in found:
            kind, make, shape, args = LESSONS[file]
            names = {"module": kind.__module__, "kind": kind.__name__}
            script = SCRIPT.format(**names, make=make, args=args, shape=shape, forward=forward)
            found[file, forward] = json.loads(run_python(script, TINYNET_PLAIN="1"))
        return found[file, forward]

    return look


@pytest.mark.parametrize("file", LESSONS)
def test_forward_and_backward_run_with_the_modules_of_a_lesson_alone(file, alone):
    found = alone(file)
    assert found["dx"]
    own = {name for name in found["modules"] if name.partition(".")[0] == "tinynet"}
    lessons = {kind.__module__ for kind, *_ in LESSONS.values()}  # tinynet.layers imports them all
    assert own <= MAY_BE_THERE | lessons, own - MAY_BE_THERE - lessons
    assert not [name for name in found["modules"] if name.startswith(FORBIDDEN)]


@pytest.mark.parametrize("file", LESSONS)
def test_no_other_file_computes(file, alone):
    """Of all lines that were executed: there is no facade, behind which the layer is computed elsewhere."""
    files = {path for path, _ in alone(file)["ran"]}
    assert file in files
    assert files - {file} <= READ, files - {file} - READ


def test_the_trace_sees_another_file(alone):
    """layer(x) goes through tinynet.layers.passes."""
    assert "layers/passes.py" in {path for path, _ in alone("layers/relu.py", "__call__")["ran"]}


@pytest.mark.parametrize("file", LESSONS)
def test_both_methods_are_there_and_backward_stands_directly_below_forward(file):
    kind = LESSONS[file][0]
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind)))
    (own,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    methods = [node.name for node in own.body if isinstance(node, ast.FunctionDef)]
    assert methods[methods.index("forward") + 1] == "backward"
    assert ast.get_docstring(own)


@pytest.mark.parametrize("file", LESSONS)
def test_a_lesson_is_at_most_a_hundred_lines(file, record_property):
    """Without __init__, whose checks are no lesson. Never squeezed: no line is longer than 120, and one statement is on
    a line. The end of a test run shows the counts."""
    source = inspect.getsource(inspect.getmodule(LESSONS[file][0]))
    tree, lines = ast.parse(source), source.splitlines()
    inits = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    without = len(lines) - sum(node.end_lineno - node.lineno + 1 for node in inits)
    record_property("lesson", f"{file}: {without} lines without __init__, {len(lines)} in all")
    assert without <= LINES
    assert max(map(len, lines)) <= 120
    first = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    assert len(first) == len(set(first))
