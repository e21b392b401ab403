"""The simulated devices must see what they are there for: work of two streams on the same memory in no order, and
numbers that the host reads before they came. And they must not see what is not there."""

import contextlib
import gc

import numpy as np
import pytest
from cuda_on_cpu.fake_memory import notes_at

from tinynet.backend import device, streams
from tinynet.backend.cuda_graph import Recorded
from tinynet.ops.matmul import matmul

MISSING = "in no order: an event is missing"


@pytest.fixture
def other(gpu):
    """A stream of device 0 beside the default one."""
    assert gpu.peers == "yes"  # the stand-in: a real GPU says nothing
    return streams.new_stream("cuda:0")


def ones():
    return device.to_device(np.ones((4, 4), np.float32), "cuda:0")


WORK = {
    "fill": lambda x: x.fill(0),
    "assign": lambda x: device.assign(x[1:2], 2 * np.ones((1, 4), np.float32)),
    "operator": lambda x: x + 1,
    "view": lambda x: x[3].copy(),
    "product": lambda x: matmul(x, x),
    "product into it": lambda x: matmul(ones(), ones(), out=x),
    "copy to the host": lambda x: x.get(),
    "copy into it": lambda x: streams.copy_into(x, np.zeros((4, 4), np.float32)),
}


@pytest.mark.parametrize("name", WORK)
def test_work_in_another_stream(other, name):
    x = ones()
    with streams.in_stream("cuda:0", other):
        with pytest.raises(AssertionError, match=MISSING):
            WORK[name](x)
        streams.wait_for("cuda:0", [streams.moment("cuda:0", other)])  # of the wrong stream
        with pytest.raises(AssertionError, match=MISSING):
            WORK[name](x)
    ready = streams.moment("cuda:0")
    with streams.in_stream("cuda:0", other):
        streams.wait_for("cuda:0", [ready])
        WORK[name](x)


def test_two_may_read_and_two_may_write_different_parts(other):
    x = ones()
    ready = streams.moment("cuda:0")
    with streams.in_stream("cuda:0", other):
        streams.wait_for("cuda:0", [ready])
        x[:2].fill(2)
        x[2:].copy()
    x[2:].copy()
    with pytest.raises(AssertionError, match="reads what stream"):
        x.copy()
    with pytest.raises(AssertionError, match="writes what stream"):
        x[2:].fill(3)


def test_a_graph_is_checked_where_it_is_launched(other):
    x = ones()
    recorded = Recorded(lambda: x + 1, "cuda:0")  # nothing is done yet
    recorded.replay()
    with streams.in_stream("cuda:0", other), pytest.raises(AssertionError, match=MISSING):
        recorded.replay()


@pytest.mark.parametrize("waits", [False, True])
def test_memory_that_was_let_go_of_while_another_stream_uses_it(other, waits):
    x = ones()
    place = x.data.ptr
    ready = streams.moment("cuda:0")
    with streams.in_stream("cuda:0", other):
        streams.wait_for("cuda:0", [ready])
        y = x + 1
    del x
    if waits:
        streams.wait_for("cuda:0", [streams.moment("cuda:0", other)])
        assert ones().data.ptr == place
    else:
        with pytest.raises(AssertionError, match="writes what stream"):
            ones()
    assert y.number == 0


def test_memory_of_a_stream_is_for_that_stream_until_the_pool_gives_it_back(gpu, other):
    x = ones()
    place = x.data.ptr
    del x
    with streams.in_stream("cuda:0", other):
        assert ones().data.ptr != place
    del other
    gpu.get_default_memory_pool().free_all_blocks()
    with streams.in_stream("cuda:0", streams.new_stream("cuda:0")):
        assert place in {array.data.ptr for array in [ones() for _ in range(3)]}


def test_memory_that_was_part_of_a_reference_cycle_is_the_devices_as_before(other):
    cycle = [ones()]
    cycle.append(cycle)
    place = cycle[0].data.ptr
    del cycle
    gc.collect()
    x = ones()
    assert x.data.ptr == place
    with streams.in_stream("cuda:0", other), pytest.raises(AssertionError, match=MISSING):
        matmul(x, x)
    assert (matmul(x, x).get() == 4).all()


def test_the_addresses_that_cublas_gets_are_the_devices(simulated_gpu):
    start, host = ones().data.ptr, np.ones((4, 4), np.float32).ctypes.data
    assert notes_at(start, start + 512) is ones().chunk.block.notes  # all of the block
    for begin, end in ((start, start + 513), (start - 4, start + 64), (host, host + 64)):
        with pytest.raises(AssertionError, match="not a device's memory, or past the end of it"):
            notes_at(begin, end)


def test_what_the_host_reads_too_early_is_not_there(simulated_gpu):
    simulated_gpu.busy = True
    x = ones()
    host = streams.pinned_copy(x)
    x.fill(5)
    early = streams.moment("cuda:0")
    later = streams.pinned_copy(x)
    assert not early.done
    assert not host.any()
    early.synchronize()
    assert host.all()
    assert not later.any()
    simulated_gpu.busy = False
    assert streams.moment("cuda:0").done
    assert (later == 5).all()


def test_through_the_hosts_memory_without_the_host(gpu, other):
    gpu.busy, host = True, streams.pinned_copy(ones())
    waited = gpu.synchronisations
    target = device.empty((4, 4), np.float32, "cuda:0")
    ready = streams.moment("cuda:0")
    with streams.in_stream("cuda:0", other):
        with pytest.raises(AssertionError, match=r"pinned memory of the host.*an event is missing"):
            streams.copy_into(target, host)
        streams.wait_for("cuda:0", [ready])
        streams.copy_into(target, host)
        assert gpu.synchronisations == waited
        assert (target.get() == 1).all()


@pytest.mark.parametrize("kept", [True, False])
def test_pinned_memory_is_not_used_again_while_a_gpu_reads_it(simulated_gpu, monkeypatch, kept):
    """Of GPUs that do not reach each other the second copies out of it when the first has long gone on."""
    monkeypatch.setattr(simulated_gpu, "peers", "no")
    if not kept:
        monkeypatch.setattr(streams, "keep_until", lambda event, *arrays: None)
    copiers = {name: streams.new_stream(name) for name in ("cuda:0", "cuda:1")}
    sources, targets = [ones(), ones()], [device.empty((4, 4), np.float32, "cuda:1") for _ in range(2)]
    refused = contextlib.nullcontext() if kept else pytest.raises(AssertionError, match=r"pinned memory.*an event is")
    with refused:
        for source, target in zip(sources, targets, strict=True):
            ready, free = streams.moment("cuda:0"), streams.moment("cuda:1")
            streams.copy_when(source, ready, target, free, lambda source, device: copiers[device])


def test_memory_that_is_not_pinned_makes_the_host_wait(gpu):
    x, out = ones(), np.zeros((4, 4), np.float32)
    waited = gpu.synchronisations
    x.get(out=out, blocking=False)
    assert gpu.synchronisations == waited + 1
    assert out.all()
