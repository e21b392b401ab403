"""Devices, streams, events and graphs, simulated. A stream has done at once all that it was given, unless recording.

While a stream is recording nothing is done; `Graph.launch` does it, on the memory where the arrays were at the time.
What is copied to the host without waiting is there as soon as the host knows of it, by waiting for an event or asking
whether it is `done`. Which work must come after which is checked (fake_order.py) when it is done.

Time is simulated, too: an instruction takes its stream a millisecond, an event a microsecond, and the host none but to
wait. A stream begins what it was given when it has done what came before, and what it waits for, but not before the
host gave it. So events tell the same times in every run, and what could overlap on devices does.

The current device and the current stream of each device are a Python thread's own, as CuPy has it.
"""

import itertools
import threading

import numpy as np

from .fake_order import knows, learn

INSTRUCTION, EVENT = 1e-3, 1e-6  # s
_numbers = itertools.count(1)


class _Here(threading.local):
    """What is current in this Python thread: the device, {device: stream}, the allocator of using_allocator. `before`:
    the streams that were current outside of the `with`s in which it is."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.device, self.streams, self.allocator, self.before = 0, {}, None, []


here = _Here()


class Device:
    """The current device, in a `with`."""

    fake = None
    compute_capability = "90"
    # as CuPy has it; few multiprocessors, so that small work fills them
    attributes = {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 227 << 10}  # noqa: RUF012

    def __init__(self, number=None):
        self.id = here.device if number is None else number
        self.before = []

    def __enter__(self):
        self.before.append(here.device)
        here.device = self.id
        return self

    def __exit__(self, *failure):
        here.device = self.before.pop()

    def synchronize(self):
        """The host waits for all streams of this device."""
        self.fake.current_stream(self.id).refuse_while_recording("waiting for the device")
        self.fake.host_waits(*self.fake.given.get(self.id, ({}, 0)))

    @property
    def cublas_handle(self):
        return f"handle of device {self.id}"

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id


class Event:
    """A moment: what a stream had been given when it was recorded. `seconds`: when the stream came to it.

    While the fake is `busy` nothing is done before the host waits for it."""

    fake = None
    clock = None

    def __init__(self, block=False, disable_timing=False):
        self.timing = not disable_timing

    def record(self, stream=None):
        stream = stream or self.fake.current_stream()
        stream.refuse_while_recording("an event that is seen outside")
        with self.fake.lock:
            stream.takes(EVENT)
            self.clock, self.seconds, self.device = dict(stream.clock), stream.seconds, stream.device

    @property
    def done(self):
        if not self.fake.busy:
            self.fake.host_learns(self.clock)
        return knows(self.fake.known, self.clock)

    def synchronize(self):
        self.fake.host_waits(self.clock, self.seconds)


def elapsed_time(begin, end):
    """Milliseconds between two events, as CUDA tells them: of one device, made with timing, and known to be over."""
    for event in (begin, end):
        if not event.timing or event.clock is None or event.device != begin.device:
            raise RuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
        if not knows(event.fake.known, event.clock):
            raise RuntimeError("cudaErrorNotReady: device not ready")
    return 1e3 * (end.seconds - begin.seconds)


class Stream:
    """A stream of the device that is current when it is made; it waits for no other by itself. In a `with`, the current
    stream. null_of: the device whose default stream it is."""

    fake = None

    def __init__(self, non_blocking=False, null_of=None):
        assert non_blocking or null_of is not None, "a stream that waits for the default one hides what is forgotten"
        self.number, self.clock, self.recorded, self.seconds = next(_numbers), {}, None, 0.0
        self.device = here.device if null_of is None else null_of
        self.ptr = 0 if null_of is not None else self.number

    def __enter__(self):
        assert self.device == here.device, "a stream of another device than the current one"
        here.before.append(here.streams.get(self.device))
        here.streams[self.device] = self
        return self

    def __exit__(self, *failure):
        here.streams[self.device] = here.before.pop()

    def give(self, call, *uses):
        """call(), which makes these uses of memory: now, or when the graph that is being recorded is launched."""
        if self.recorded is not None:
            self.recorded.append((call, uses))
            return
        with self.fake.lock, np.errstate(all="ignore"):  # a device warns of nothing
            learn(self.clock, self.fake.known)
            for use in uses:
                use.note(self)
            self.takes(INSTRUCTION)
            call()

    def takes(self, seconds):
        """The stream comes to its end that much later."""
        self.seconds = max(self.seconds, self.fake.now) + seconds
        clock, latest = self.fake.given.get(self.device, ({}, 0.0))
        learn(clock, self.clock)
        self.fake.given[self.device] = clock, max(latest, self.seconds)

    def wait_event(self, event):
        assert event.clock is not None, "an event that was never recorded"
        self.refuse_while_recording("waiting for an event from outside")
        with self.fake.lock:
            learn(self.clock, event.clock)
            self.seconds = max(self.seconds, event.seconds)

    def synchronize(self):
        self.refuse_while_recording("waiting for the stream")
        self.fake.host_waits(self.clock, self.seconds)

    def refuse_while_recording(self, what, kind=RuntimeError):
        if self.recorded is not None:
            copies = {"a copy to the host": "D2H", "a copy from the host": "H2D"}  # in CuPy's own words
            if what in copies:
                raise kind(f"the current stream is capturing, so {copies[what]} transfers are disallowed")
            raise kind(f"{what} during stream capture is currently unsupported")

    def begin_capture(self):
        if self.ptr == 0 or self.recorded is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        self.recorded = []

    def end_capture(self):
        if self.recorded is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not capturing")
        graph, self.recorded = Graph(self.fake, self.recorded), None
        return graph


class Graph:
    def __init__(self, fake, work):
        self.fake, self.work = fake, work

    def launch(self):
        self.fake.graph_launches += 1
        for call, uses in self.work:
            self.fake.do(call, *uses)
