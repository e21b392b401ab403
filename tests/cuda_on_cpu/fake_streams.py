"""Streams, events and graphs of a simulated device, which has done all that it was given at once, unless recording.

While a stream is recording nothing is done; `Graph.launch` does it, on the memory where the arrays were at the time.
"""

import time


class Event:
    """A moment on the host's clock. What was copied to the host before it is there only once the event was looked at:
    `done`, which is False while the fake is `busy`, or `synchronize`, which counts."""

    fake = None

    def __init__(self, block=False, disable_timing=False):
        self._landing = []

    def record(self, stream=None):
        self.seconds = time.perf_counter()
        self._landing, self.fake.landing = self.fake.landing, []

    @property
    def done(self):
        if not self.fake.busy:
            self._land()
        return not self.fake.busy

    def synchronize(self):
        self.fake.synchronisations += 1
        self._land()

    def _land(self):
        for target, values in self._landing:
            target[...] = values
        self._landing = []


class Stream:
    """In a `with`, the current stream."""

    fake = None

    def __init__(self, non_blocking=False):
        self.recorded = None
        self.legacy = not non_blocking

    def __enter__(self):
        self.fake.streams.append(self)
        return self

    def __exit__(self, *failure):
        assert self.fake.streams.pop() is self

    def begin_capture(self):
        if self.legacy or self.recorded is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        self.recorded = []

    def end_capture(self):
        if self.recorded is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not capturing")
        graph, self.recorded = Graph(self.fake, self.recorded), None
        return graph

    def synchronize(self):
        self.fake.synchronisations += 1


class Graph:
    def __init__(self, fake, calls):
        self.fake, self.calls = fake, calls

    def launch(self):
        self.fake.graph_launches += 1
        for call in self.calls:
            self.fake.do(call)
