"""The threads of CPU towers: a share each, under every numba threading layer, and after a fork."""

import contextlib
import os

import pytest
from checks import run_python
from strategies import numbers

import tinynet
from parallel.nets import SHAPE, small

TWO = ("cpu", "cpu")


@pytest.mark.usefixtures("_threads_as_before")
def test_the_towers_share_the_threads():
    """And the first one has all of them while the other has nothing to do."""
    tinynet.set_num_threads(5)
    net, seen = small(TWO), {}

    @contextlib.contextmanager
    def recorder(tower, kind, name, nbytes):
        seen[tower.number, kind, name] = tinynet.get_num_threads()
        yield

    recorder.forward_begins = lambda: None
    net.recorder = recorder
    net.backward(net(numbers(SHAPE)))
    assert {count for (tower, _, name), count in seen.items() if tower == 0 and "fc8" not in name} == {3}
    assert {count for (tower, *_), count in seen.items() if tower == 1} == {2}
    assert seen[0, "forward", "fc8"] == 5
    assert seen[0, "backward", "fc8"] == 3  # its weights' gradients, while the other goes on
    assert tinynet.get_num_threads() == 5


def test_two_workers_under_workqueue():
    """numba's own workqueue layer aborts the process when two threads enter compiled parallel code."""
    script = """
import numpy as np, numba, tinynet
from tinynet.models import alexnet_mini

net = alexnet_mini(devices=("cpu", "cpu"))
x = tinynet.random.normal((4, 3, 32, 32), 0, "x", dtype=np.float32)
for step in range(3):
    net.zero_grad()
    net.backward(net(x))
try:
    print("numba's layer:", numba.threading_layer())
except ValueError:
    print("numba's threads were never started")
"""
    said = run_python(script, NUMBA_THREADING_LAYER="workqueue", TINYNET_NUM_THREADS="4")
    assert said.strip() == "numba's threads were never started"


def test_a_forked_child_has_threads_of_its_own():
    if not hasattr(os, "fork"):
        pytest.skip("this system has no os.fork: nothing to test")
    script = """
import os, sys
import numpy as np, tinynet
from tinynet.models import alexnet_mini

net = alexnet_mini(devices=("cpu", "cpu")).eval()
x = tinynet.random.normal((2, 3, 32, 32), 0, "x", dtype=np.float32)
before = net(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(net(x), before) else 1)
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(net(x), before))
"""
    assert run_python(script, PYTHONWARNINGS="ignore").strip() == "child: 0 True"
