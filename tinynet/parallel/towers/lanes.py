"""Where a tower computes: on the CPU at once, on a GPU in a stream of its own; and how arrays come there from another.

Copies have streams of their own, one for each direction, so that they overlap with computing. Two rules keep memory
safe, which CuPy gives to the next array of the same stream as soon as the host lets go of the last: what crosses is
kept until the pass is over (`Meeting`), and the next pass begins, in every stream, after the end of the last one in all
streams (`Split`). Pinned memory of the host, between GPUs that do not reach each other, is kept by events
(`tinynet.backend.device.keep_until`): the host does not wait for a pass to end.
"""

import contextlib
from typing import Any

from tinynet.backend import streams
from tinynet.backend.device import device_of, empty, to_cpu, to_device
from tinynet.backend.layout import batch_first, batch_last


def lane_for(device: str) -> "CpuLane":
    return CpuLane(device) if device == "cpu" else GpuLane(device)


class CpuLane:
    """The CPU: what was ordered is done."""

    def __init__(self, device: str):
        self.device = device

    def __reduce__(self) -> Any:  # a copy has streams of its own
        return lane_for, (self.device,)

    def computing(self) -> Any:
        """A context in which a tower computes."""
        return contextlib.nullcontext()

    def mark(self) -> Any:
        """The moment when all that was ordered so far is done; None if it is."""
        return None

    def wait(self, *moments: Any) -> None:
        """What is ordered from now on comes after these."""
        streams.wait_for("cpu", list(moments))

    def reserve(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A place that `fetch` can fill at any time from now on; None where it needs none."""
        return None

    def copy(self, array: Any, ready: Any, target: Any, watch: Any) -> None:
        """target[...] = array once that is `ready`, inside the context `watch`; target is on this device."""
        self.wait(ready)
        with watch:
            target[...] = to_cpu(array)

    def fetch(self, array: Any, ready: Any, watch: Any, place: Any = None) -> Any:
        """The array on this device: itself if it is there, else a copy, in a `place` if one was reserved."""
        self.wait(ready)
        with watch:
            return to_cpu(array)

    def bring(self, x: Any, ready: Any, watch: Any) -> Any:
        """The net's x on this device, as `fetch`. Where it is on another GPU the batch is innermost in memory."""
        return self.fetch(x, ready, watch)

    def drain(self) -> None:
        """Wait until nothing is under way."""


class GpuLane(CpuLane):
    """A GPU: a stream to compute in, and one for the copies from each other device."""

    def __init__(self, device: str):
        super().__init__(device)
        self._stream = streams.new_stream(device)
        self._copying: dict[tuple[str, str], Any] = {}  # (from, the stream's own device): stream

    def computing(self) -> Any:
        return streams.in_stream(self.device, self._stream)

    def mark(self) -> Any:
        return streams.moment(self.device, self._stream)

    def wait(self, *moments: Any) -> None:
        with self.computing():
            streams.wait_for(self.device, list(moments))

    def reserve(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return empty(shape, dtype, self.device), self.mark()

    def copy(self, array: Any, ready: Any, target: Any, watch: Any, free: Any = None) -> None:
        free = free or self.mark()  # the target's memory may have been another array's, still in use before here
        self.wait(streams.copy_when(array, ready, target, free, self._copier, watch))

    def fetch(self, array: Any, ready: Any, watch: Any, place: Any = None) -> Any:
        if device_of(array) == self.device:
            self.wait(ready)
            with watch:
                return array
        target, free = place or self.reserve(array.shape, array.dtype)
        self.copy(array, ready, target, watch, free)
        return target

    def bring(self, x: Any, ready: Any, watch: Any) -> Any:
        if device_of(x) == "cpu":  # staged by CuPy, so that the host waits for nothing
            with watch:
                return to_device(x, self.device)
        return batch_first(self.fetch(batch_last(x), ready, watch))

    def _copier(self, source: str, device: str) -> Any:
        if (source, device) not in self._copying:
            self._copying[source, device] = streams.new_stream(device)
        return self._copying[source, device]

    def drain(self) -> None:
        for stream in (self._stream, *self._copying.values()):
            stream.synchronize()
