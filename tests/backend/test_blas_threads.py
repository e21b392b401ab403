"""Python threads, compiled loops, processes at once: no crash, no hang, the same numbers as one after another."""

import os

import numpy as np
import pytest
from checks import run_python
from parallel.nets import rounding
from strategies import numbers

import tinynet
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

# one thread of BLAS: what its threads do is not ours to test
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}

TRAINING = """
import os, sys, threading
import numpy as np
import tinynet
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

def trained(seed):
    net = Sequential(
        Conv2d(3, 8, 3, padding=1, seed=seed), ReLU(), LRN(3, 0.5, groups=2), MaxPool(3, 2), Conv2d(8, 8, 3, groups=2),
        Flatten(), Dropout(0.5, seed), Linear(8 * 5 * 7, 5, seed=seed),
    )
    optimizer, loss = SGD(net.parameters(), lr=0.05), SoftmaxCE()
    x = tinynet.random.normal((6, 3, 16, 20), seed, "x", dtype=np.float32)
    for _ in range(3):
        optimizer.zero_grad()
        loss(net(x), np.arange(6) % 5)
        net.backward(loss.backward())
        optimizer.step()
    return b"".join(parameter.data.tobytes() for parameter in net.parameters())
"""


def test_four_threads_train_four_nets_under_workqueue():
    """numba's own workqueue layer aborts the process when two threads enter compiled parallel code."""
    script = """
tinynet.set_num_threads(3)
alone = [trained(seed) for seed in range(4)]
assert len(set(alone)) == 4
for _ in range(5):
    together, start = [None] * 4, threading.Barrier(4)
    def work(seed):
        start.wait()
        together[seed] = trained(seed)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert together == alone, [a == b for a, b in zip(alone, together)]
import numba
try:
    print("numba's layer:", numba.threading_layer())
except ValueError:
    print("numba's threads were never started")
"""
    assert run_python(TRAINING + script, **QUIET).strip() == "numba's threads were never started"


def test_the_number_of_threads_may_change_while_others_compute():
    script = """
alone = trained(0)
results = []
threads = [threading.Thread(target=lambda: results.append(trained(0))) for _ in range(3)]
for thread in threads: thread.start()
while any(thread.is_alive() for thread in threads):
    for count in (1, 4, 2):
        tinynet.set_num_threads(count)
for thread in threads: thread.join()
assert len(results) == 3
for result in results:  # a convolution's weight gradient is a sum over threads: its last bits depend on their number
    weights, others = (np.frombuffer(each, np.float32) for each in (result, alone))
    assert np.abs(weights - others).max() <= ALLOWED * np.abs(others).max()
print("same")
"""
    like_it = (
        *(Conv2d(3, 8, 3, padding=1), ReLU(), LRN(3, 0.5, groups=2), MaxPool(3, 2), Conv2d(8, 8, 3, groups=2)),
        *(Flatten(), Dropout(0.5), Linear(8 * 5 * 7, 5)),
    )
    allowed = 3 * rounding(Sequential(*like_it), (6, 3, 16, 20), np.float32)[1]  # three steps
    script = f"ALLOWED = {allowed}\n{script}"
    assert run_python(TRAINING + script, **QUIET).strip() == "same"


def test_another_process_gives_the_same_bits():
    script = "import zlib; print(zlib.crc32(trained(0)))"
    first, again = (
        run_python(TRAINING + script, **QUIET, TINYNET_NUM_THREADS="2", PYTHONHASHSEED=seed) for seed in ("1", "2")
    )
    assert first == again


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork: nothing to test")
def test_a_forked_child_computes():
    """A child has none of its parent's threads: waiting for one would be for ever."""
    script = """
tinynet.set_num_threads(3)
before = trained(0)
child = os.fork()
if child == 0:
    try:
        same = trained(0) == before and tinynet.get_num_threads() == 3
        os._exit(0 if same else 1)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(2)
_, status = os.waitpid(child, 0)
assert trained(0) == before
print("child:", os.waitstatus_to_exitcode(status))
"""
    assert run_python(TRAINING + script, **QUIET, PYTHONWARNINGS="ignore").strip() == "child: 0"


@pytest.fixture
def _threads_as_before():
    before = tinynet.get_num_threads()
    yield
    tinynet.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_of_threads_gives_the_same_bits(dtype):
    """Layers whose loops are ours; large enough that each thread has its part."""
    x = numbers((5, 6, 17, 13), dtype)
    results = []
    for threads in (1, 2, 3, 3, 7):
        tinynet.set_num_threads(threads)
        found = []
        for layer in (LRN(3, 0.5, groups=2), MaxPool(3, 2, 1), Dropout(0.5, seed=4), ReLU()):
            y = layer(x)
            found += [y.tobytes(), layer.backward(numbers(y.shape, dtype, seed=1)).tobytes()]
        cols = tinynet.layers.im2col(x, 3, 2, 1)
        found += [cols.tobytes(), tinynet.layers.col2im(cols, x.shape, 3, 2, 1).tobytes()]
        results.append(found)
    assert all(found == results[0] for found in results)


@pytest.mark.usefixtures("_threads_as_before")
def test_the_same_number_of_threads_gives_the_same_bits_in_training():
    def trained():
        net = Sequential(Conv2d(2, 4, 3), ReLU(), MaxPool(2), Flatten(), Dropout(0.5), Linear(4 * 5 * 4, 3))
        optimizer, loss = SGD(net.parameters(), lr=0.1), SoftmaxCE()
        for step in range(5):
            optimizer.zero_grad()
            loss(net(numbers((4, 2, 12, 10), np.float32, seed=step)), [0, 2, 1, 1])
            net.backward(loss.backward())
            optimizer.step()
        return [parameter.data.tobytes() for parameter in net.parameters()]

    tinynet.set_num_threads(2)
    assert trained() == trained()


def test_what_other_threads_compute_does_not_change_a_bit():
    """A small product used BLAS's own threads, unless another thread happened to have limited them."""
    script = """
import threading
import numpy as np
from tinynet import random
from tinynet.layers import Linear
from tinynet.ops.matmul import matmul

layer, x = Linear(4096, 250), random.normal((1, 4096), 0, "x", dtype=np.float32)
alone = {layer(x).tobytes() for _ in range(100)}
done = threading.Event()
a, b = np.ones((64, 300), np.float32), np.ones((300, 500), np.float32)

def busy():
    while not done.is_set():
        matmul(a, b)

thread = threading.Thread(target=busy)
thread.start()
beside = {layer(x).tobytes() for _ in range(1000)}
done.set()
thread.join()
print(len(alone | beside))
"""
    assert run_python(script, OPENBLAS_NUM_THREADS="2").split() == ["1"]
