"""What every tower did in one training step, and when."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tinynet.backend import streams
from tinynet.io.files import atomic_write

STEP = 3  # the first ones compile and take memory
COMPUTE, COPY = "compute", "copy"  # the two lines of a tower


class Span(NamedTuple):
    """tower: from 0; kind: "forward", "backward" or "copy"; name: which layers, or between whom; begin, end: seconds
    since the step began; bytes of a copy."""

    tower: int
    device: str
    kind: str
    name: str
    begin: float
    end: float
    nbytes: int

    @property
    def line(self) -> str:
        return COPY if self.kind == COPY else COMPUTE


class Timeline:
    """Looks on while a `Split` makes one training step: `model.recorder = timeline = Timeline(model)`, some steps, and
    `timeline.spans()`.

    It records step number `step`, from 1, of those that the model makes in training mode from now on: its forward and
    its backward. A span lasts from the first to the last instruction: on the CPU by the host's clock; on a GPU by the
    stream's own, which tells when it came to the work and not when the host gave the order. The clocks of all devices
    are compared just before the step, for which the host waits.
    """

    def __init__(self, model: Any, step: int = STEP):
        self.model, self.step = model, step
        self._steps = 0
        self._clocks: dict[str, Any] = {}
        self._marks: list[tuple[Any, ...]] = []

    def forward_begins(self) -> None:
        """To be called before each forward, by the thread that gives the towers their work."""
        if self.model.training:
            self._steps += 1
            if self._steps == self.step:
                self._clocks = {device: streams.Clock(device) for device in dict.fromkeys(self.model.devices)}

    @contextlib.contextmanager
    def __call__(self, tower: Any, kind: str, name: str, nbytes: int) -> Iterator[None]:
        if self._steps != self.step or not self.model.training:
            yield
            return
        clock = self._clocks[tower.device]
        begin = clock.tick()
        yield
        self._marks.append((tower.number, tower.device, kind, name, begin, clock.tick(), nbytes))

    @property
    def done(self) -> bool:
        """Whether the step is over, and another has begun."""
        return self._steps > self.step

    def spans(self) -> list[Span]:
        """In the order of their beginnings; empty before the step was made. Waits for the GPUs."""
        found = []
        for number, device, kind, name, begin, end, nbytes in self._marks:
            clock = self._clocks[device]
            found.append(Span(number, device, kind, name, clock.seconds(begin), clock.seconds(end), nbytes))
        start = min((span.begin for span in found), default=0.0)
        return sorted(
            (span._replace(begin=span.begin - start, end=span.end - start) for span in found),
            key=lambda span: (span.begin, span.tower),
        )


def write_chrome_trace(spans: Sequence[Span], path: str | os.PathLike) -> None:
    """Write the spans as a file that chrome://tracing and ui.perfetto.dev show ("Trace Event Format", complete events;
    times in microseconds): a process for each tower, in it a line for computing and one for copies."""
    events: list[dict[str, Any]] = []
    for tower, device in sorted({(span.tower, span.device) for span in spans}):
        name = {"name": f"tower {tower + 1}, {device}"}
        events.append({"ph": "M", "name": "process_name", "pid": tower, "tid": 0, "args": name})
        for thread, line in enumerate((COMPUTE, COPY)):
            events.append({"ph": "M", "name": "thread_name", "pid": tower, "tid": thread, "args": {"name": line}})
    for span in spans:
        times = {"ts": span.begin * 1e6, "dur": (span.end - span.begin) * 1e6}
        where = {"pid": span.tower, "tid": int(span.line == COPY)}
        more = {"args": {"bytes": span.nbytes}} if span.kind == COPY else {}
        events.append({"ph": "X", "name": span.name, "cat": span.kind, **times, **where, **more})
    atomic_write(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}).encode())
