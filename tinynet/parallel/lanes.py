"""Where a tower computes: on the CPU at once, on a GPU in a stream of its own; and how arrays come there from another.

Copies have streams of their own, one for each direction, so that they overlap with computing. Two rules keep memory
safe, which CuPy gives to the next array of the same stream as soon as the host lets go of the last: what crosses is
kept until the pass is over (`Meeting`), and the next pass begins, in every stream, after the end of the last one in all
streams (`Split`).
"""

import contextlib
from typing import Any

from tinynet import streams
from tinynet.device import device_of, empty, to_cpu


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

    def begin(self, moments: list[Any]) -> None:
        """A pass begins, after these moments."""
        self.wait(*moments)

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

    def drain(self) -> None:
        """Wait until nothing is under way."""


class GpuLane(CpuLane):
    """A GPU: a stream to compute in, and one for the copies from each other device."""

    def __init__(self, device: str):
        super().__init__(device)
        self._stream = streams.new_stream(device)
        self._copying: dict[tuple[str, str], Any] = {}  # (from, the stream's own device): stream
        self._on_the_way: list[Any] = []  # host memory of copies that may be under way
        self._end: Any = None

    def computing(self) -> Any:
        return streams.in_stream(self.device, self._stream)

    def begin(self, moments: list[Any]) -> None:
        if self._on_the_way:
            self._end.synchronize()  # the host could write there again
            self._on_the_way.clear()
        self.wait(*moments)

    def mark(self) -> Any:
        self._end = streams.moment(self.device, self._stream)
        return self._end

    def wait(self, *moments: Any) -> None:
        with self.computing():
            streams.wait_for(self.device, list(moments))

    def reserve(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return empty(shape, dtype, self.device), self.mark()

    def copy(self, array: Any, ready: Any, target: Any, watch: Any, free: Any = None) -> None:
        source = device_of(array)
        if source not in ("cpu", self.device) and not streams.reaches(source, self.device):
            array, ready = self._through_the_host(source, array, ready)
        free = free or self.mark()  # the target's memory may have been another array's, still in use before here
        with streams.in_stream(self.device, self._copier(source, self.device)):
            streams.wait_for(self.device, [ready, free])
            with watch:
                streams.copy_into(target, array)
            done = streams.moment(self.device)
        self.wait(done)

    def fetch(self, array: Any, ready: Any, watch: Any, place: Any = None) -> Any:
        if device_of(array) == self.device:
            self.wait(ready)
            with watch:
                return array
        target, free = place or self.reserve(array.shape, array.dtype)
        self.copy(array, ready, target, watch, free)
        return target

    def _through_the_host(self, source: str, array: Any, ready: Any) -> tuple[Any, Any]:
        with streams.in_stream(source, self._copier(source, source)):
            streams.wait_for(source, [ready])
            array = streams.pinned_copy(array)
            self._on_the_way.append(array)
            return array, streams.moment(source)

    def _copier(self, source: str, device: str) -> Any:
        if (source, device) not in self._copying:
            self._copying[source, device] = streams.new_stream(device)
        return self._copying[source, device]

    def drain(self) -> None:
        for stream in (self._stream, *self._copying.values()):
            stream.synchronize()
