"""Streams and events of GPUs, and copies from one device to another that the host does not wait for.

A stream does what it is given in order; streams know nothing of each other. An event is a moment of one stream, for
which another can wait while the host goes on. For the CPU, where all is done once it was ordered, a moment is None.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.backend.device import cupy, device_of, empty, keep_until, on, to_cpu, to_device


def new_stream(device: str) -> Any:
    """A stream of this GPU that waits for no other by itself."""
    with on(device):
        return cupy().cuda.Stream(non_blocking=True)


@contextlib.contextmanager
def in_stream(device: str, stream: Any) -> Any:
    """Inside, this Python thread computes on this GPU in `stream`."""
    with on(device), stream:
        yield


def moment(device: str, stream: Any = None) -> Any:
    """The end of all that was given so far to `stream`, or to the current stream of this device."""
    if device == "cpu":
        return None
    with on(device):
        event = cupy().cuda.Event(disable_timing=True)
        event.record(stream or cupy().cuda.get_current_stream())
    return event


def wait_for(device: str, moments: list[Any]) -> None:
    """What this device's current stream is given from now on comes after these moments; for "cpu" the host waits."""
    for each in moments:
        if each is not None and device == "cpu":
            each.synchronize()
        elif each is not None:
            with on(device):
                cupy().cuda.get_current_stream().wait_event(each)


class Clock:
    """Tells when the current stream of a device came to a place, in the host's seconds. Making one waits for the
    device."""

    def __init__(self, device: str):
        self.device = device
        if device != "cpu":
            with on(device):
                cupy().cuda.Device().synchronize()
            self._first = self.tick()
            self._first.synchronize()
        self._began = time.perf_counter()

    def tick(self) -> Any:
        """This place in the current stream; on the CPU, now."""
        if self.device == "cpu":
            return time.perf_counter()
        with on(self.device):
            event = cupy().cuda.Event()
            event.record(cupy().cuda.get_current_stream())
        return event

    def seconds(self, tick: Any) -> float:
        """When that was, by `time.perf_counter`; waits for it."""
        if self.device == "cpu":
            return tick
        tick.synchronize()
        return self._began + cupy().cuda.get_elapsed_time(self._first, tick) / 1e3


def copy_into(target: Any, array: Any) -> None:
    """target[...] = array in the current stream of target's GPU. Both are C-contiguous and equal in shape and dtype;
    array is on the CPU or on any GPU. It must stay as it is until the stream has come to there."""
    stream = cupy().cuda.get_current_stream()
    if device_of(array) == "cpu":
        target.set(array, stream)
    else:
        target.data.copy_from_device_async(array.data, array.nbytes, stream)


def pinned_copy(array: Any) -> np.ndarray:
    """A copy of an array of the current GPU in memory of the host from where GPUs can copy by themselves. It is there
    as soon as the current stream has come to here."""
    memory = cupy().cuda.alloc_pinned_memory(array.nbytes)
    host = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    array.get(stream=cupy().cuda.get_current_stream(), out=host, blocking=False)
    return host


def copy_when(
    array: Any, ready: Any, target: Any, free: Any, copier: Callable[[str, str], Any], watch: Any = None
) -> Any:
    """target[...] = array once array is `ready` and target is `free`, moments; returns the moment when that is done.

    target is on a GPU, array anywhere; both are as `copy_into` wants them. copier(source, device) is the stream of
    `device` for what comes from `source`. The copy is made in target's, inside the context `watch`; if that GPU cannot
    reach array's memory, out of pinned memory of the host, to where array goes in a stream of its own GPU. The host
    waits for nothing, so array must stay as it is, and target in use, until it is done.
    """
    source, device = device_of(array), device_of(target)
    straight = source in ("cpu", device) or reaches(source, device)
    if not straight:
        with in_stream(source, copier(source, source)):
            wait_for(source, [ready])
            array, ready = pinned_copy(array), moment(source)
    with in_stream(device, copier(source, device)):
        wait_for(device, [ready, free])
        with watch or contextlib.nullcontext():
            copy_into(target, array)
        done = moment(device)
    if not straight:
        keep_until(done, array)
    return done


def copy_in_order(target: Any, array: Any) -> None:
    """target[...] = array from GPU to GPU, after all that the current streams of both were given, and before all that
    they will be."""

    def current(source: str, device: str) -> Any:
        with on(device):
            return cupy().cuda.get_current_stream()

    source = device_of(array)
    wait_for(source, [copy_when(array, moment(source), target, None, current)])


@functools.cache
def reaches(source: str, target: str) -> bool:
    """Whether the GPU `target` can copy out of the memory of `source` by itself. Not all machines that say so do it
    right: a pattern is copied and compared, once."""
    numbers = [int(name.removeprefix("cuda:")) for name in (target, source)]
    if not cupy().cuda.runtime.deviceCanAccessPeer(*numbers):
        return False
    pattern = np.arange(1 << 16, dtype=np.uint32) * np.uint32(2654435761)
    there = to_device(pattern, source)
    with on(source):
        cupy().cuda.get_current_stream().synchronize()
    try:
        with on(target):
            here = empty(pattern.shape, pattern.dtype, target)
            copy_into(here, there)
            return np.array_equal(to_cpu(here), pattern)
    except RuntimeError:  # the driver's word for what it cannot do
        return False
