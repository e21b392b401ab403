import contextvars
import os
import signal
import threading

import numpy as np
import pytest
from checks import error_text, run_python
from hypothesis import example, given
from hypothesis import strategies as st

from tinynet.backend import threads
from tinynet.backend.threads import get_num_threads, limit_threads, parallel_for, set_num_threads

pytestmark = pytest.mark.usefixtures("_threads_as_before")


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 40))
@example(0, 3, 1)
@example(1, 4, 1)
@example(7, 8, 1)
@example(10, 3, 4)
def test_ranges_cover_the_whole_once(length, threads, grain):
    set_num_threads(threads)
    ranges, lock = [], threading.Lock()

    def loop(tag, start, stop):
        with lock:
            ranges.append((tag, start, stop))

    parallel_for(loop, length, "tag", grain=grain)

    covered = [i for tag, start, stop in sorted(ranges) for i in range(start, stop) if tag == "tag"]
    assert covered == list(range(length))
    assert 1 <= len(ranges) <= threads
    if len(ranges) > 1:
        assert min(stop - start for _, start, stop in ranges) >= grain


def test_ranges_run_on_as_many_threads_as_wanted():
    set_num_threads(3)
    together = threading.Barrier(3, timeout=60)  # is passed only if three threads are here at once
    names = []

    def loop(start, stop):
        together.wait()
        names.append(threading.current_thread().name)

    parallel_for(loop, 3)
    assert len(set(names)) == 3
    assert threading.current_thread().name in names


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_error_in_any_range_is_raised(culprit):
    set_num_threads(3)

    def loop(start, stop):
        if start == culprit:
            raise LookupError(f"range {start}")

    assert error_text(lambda: parallel_for(loop, 3), LookupError) == f"range {culprit}"
    done = np.zeros(3)

    def fill(start, stop):
        done[start:stop] = 1

    parallel_for(fill, 3)  # the threads have survived
    assert done.all()


def test_no_range_runs_on_after_an_error():
    """What raises has stopped writing: nobody may still be at work on the arrays of the caller."""
    set_num_threads(2)
    started, caller_has_raised, still_running = threading.Event(), threading.Event(), []

    def loop(start, stop):
        if start == 0:
            started.wait(60)
            raise LookupError("first range")
        started.set()
        caller_has_raised.wait(0.2)
        still_running.append(caller_has_raised.is_set())

    with pytest.raises(LookupError):
        parallel_for(loop, 2)
    caller_has_raised.set()
    assert still_running == [False]


def test_work_goes_on_when_all_threads_are_gone():
    """As in a forked child, which has none of them."""
    set_num_threads(3)
    done = np.zeros(9)

    def fill(start, stop):
        done[start:stop] += 1

    parallel_for(fill, 9)
    threads._forget_workers()
    parallel_for(fill, 9)
    assert done.tolist() == [2] * 9


def test_set_num_threads():
    set_num_threads(5)
    assert get_num_threads() == 5
    for wrong in (0, -1, 2.0, "2", None, True):
        text = error_text(lambda wrong=wrong: set_num_threads(wrong), ValueError)
        assert text == f"set_num_threads: expected a whole number of at least 1, got {wrong!r}"
    assert get_num_threads() == 5


def test_the_environment_sets_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("TINYNET_NUM_THREADS", "7")
    assert get_num_threads() == 7


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_in_the_environment(monkeypatch, value):
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("TINYNET_NUM_THREADS", value)
    text = error_text(get_num_threads, ValueError)
    assert text == f"TINYNET_NUM_THREADS: expected a whole number of at least 1, got {value!r}"
    monkeypatch.setenv("TINYNET_NUM_THREADS", "1")  # for the fixture, which asks again


@pytest.mark.parametrize("value", ["", None])
def test_the_default_is_the_cores_of_this_process(monkeypatch, value):
    monkeypatch.setattr(threads, "_num_threads", None)
    if value is None:
        monkeypatch.delenv("TINYNET_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("TINYNET_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert get_num_threads() == 3


def test_the_default_where_affinity_is_unknown(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.delenv("TINYNET_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert get_num_threads() == 6
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert get_num_threads() == 1


def test_the_callers_context_holds_in_every_thread():
    setting = contextvars.ContextVar("setting", default="none")
    seen = []

    def loop(start, stop):
        seen.extend([(setting.get(), np.geterr()["over"])] * (stop - start))

    setting.set("caller")
    with np.errstate(over="raise"):
        threads.parallel_for(loop, 12)
    assert seen == [("caller", "raise")] * 12


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that raise signals")
def test_ctrl_c_at_any_moment_neither_hangs_nor_leaves_a_thread_behind():
    script = """
import random, signal, tinynet
from tinynet.backend.threads import parallel_for
tinynet.set_num_threads(3)
def interrupt(number, frame): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
draw, caught = random.Random(0), 0
for _ in range(400):
    begun, ended = [], []
    def loop(start, stop):
        begun.append(start)
        ended.append(start)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 4e-4))
            while True:
                parallel_for(loop, 3)
        finally:
            begun_then, ended_then = len(begun), len(ended)
    except KeyboardInterrupt:
        caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    # the calling thread's own part may be cut short; the two others' are not
    assert begun_then - ended_then <= 1, (begun_then, ended_then)
assert caught == 400
print("done")
"""
    assert run_python(script).strip() == "done"


def test_each_of_several_callers_has_its_share():
    set_num_threads(5)
    found, together = {}, threading.Barrier(2, timeout=60)

    def compute(share):
        limit_threads(share)
        ranges, lock = [], threading.Lock()
        meet = threading.Barrier(share, timeout=60)  # is passed only if so many threads are in the loop at once

        def loop(start, stop):
            with lock:
                ranges.append((start, stop))
            meet.wait()

        together.wait()
        parallel_for(loop, 100)
        found[share] = len(ranges), get_num_threads()

    callers = [threading.Thread(target=compute, args=(share,)) for share in (3, 2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert found == {3: (3, 3), 2: (2, 2)}
    assert get_num_threads() == 5


def test_loops_are_compiled_where_nothing_can_be_kept():
    """As in a library that is read-only, for a user without a home; here the source is no file."""
    names = {}
    exec("def twice(x):\n    return 2 * x", names)
    twice = threads.compiled(fastmath={"reassoc"})(names["twice"])
    assert twice(3) == 6
    assert twice.signatures
    assert threads.kernel(names["twice"])(1.5) == 3


def test_no_module_of_the_loops_needs_numba():
    """It is imported at the first call of a loop, threadpoolctl at the first product."""
    program = """if True:
        import importlib, pkgutil, sys
        late = dict.fromkeys(["numba", "llvmlite", "threadpoolctl"])
        sys.modules.update(late)  # to import one fails
        from tinynet import ops
        for found in pkgutil.walk_packages(ops.__path__, "tinynet.ops."):
            if found.name != "tinynet.ops.conv.vector_code":
                importlib.import_module(found.name)
        for name in late:
            del sys.modules[name]
        import numpy as np
        ops.elementwise.all_finite(np.ones(3))
        print("numba" in sys.modules, "threadpoolctl" in sys.modules)
        ops.matmul.matmul(np.ones((2, 2)), np.ones((2, 2)))
        print("threadpoolctl" in sys.modules)"""
    assert run_python(program).split() == ["True", "False", "True"]


def test_a_second_program_finds_the_loops_compiled(tmp_path):
    """Also those that call another one, and those that were made for a size."""
    program = """if True:
        import numpy as np
        from tinynet.ops import dropout, elementwise
        from tinynet.ops.conv.winograd_loops import transform_kernels
        elementwise.all_finite(np.ones(3))
        dropout.dropout_forward(np.ones((2, 3)), 0.5, 1, 2, 3)
        transform_kernels(2, 3)(np.ones((1, 1, 3, 3)), np.ones(9999), 300, 0, 1)
        loops = elementwise._mark_not_finite, dropout._drop, transform_kernels(2, 3)
        print([sum(loop.stats.cache_hits.values()) for loop in loops])
        print([sum(loop.stats.cache_misses.values()) for loop in loops])"""
    assert run_python(program, NUMBA_CACHE_DIR=str(tmp_path)).splitlines() == ["[0, 0, 0]", "[1, 1, 1]"]
    assert run_python(program, NUMBA_CACHE_DIR=str(tmp_path)).splitlines() == ["[1, 1, 1]", "[0, 0, 0]"]


def test_a_loop_that_several_threads_call_first_is_compiled_once():
    loop = threads.kernel(_add_one)
    together, found = threading.Barrier(8, timeout=60), []

    def call():
        together.wait()
        found.append((loop(1), loop.dispatcher))

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert [value for value, _ in found] == [2] * 8
    assert len({id(dispatcher) for _, dispatcher in found}) == 1
    assert len(loop.signatures) == 1


def test_a_loop_may_call_a_loop_that_was_never_called():
    assert threads.kernel(_add_two)(1) == 3


def test_a_loop_is_known_by_its_function():
    loop = threads.kernel(_add_one)
    assert (loop.__name__, loop.__doc__, loop.py_func) == ("_add_one", "x + 1.", _add_one)
    with pytest.raises(AttributeError, match="_nothing"):
        loop._nothing  # noqa: B018


def _add_one(x):
    """x + 1."""
    return x + 1


_added = threads.kernel(_add_one)


def _add_two(x):
    return _added(x) + 1
