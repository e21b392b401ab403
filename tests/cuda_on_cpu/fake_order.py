"""What on simulated GPUs comes before what, and memory that two streams use in no order.

Whatever a simulated stream is given is done at once, so that a forgotten event changes no number. It is found in
another way: every stream, every event and the host keep a clock, {stream: how much of it is known to be done}, memory
notes which stream read or wrote which of its bytes when, and a read or write that is not ordered after the writes of
the same bytes (a write: nor after the reads) is an error.
"""

from typing import Any, NamedTuple


def learn(clock, other):
    """What `other` knows to be done, `clock` knows from now on, too."""
    for stream, count in other.items():
        clock[stream] = max(clock.get(stream, 0), count)


def knows(clock, other):
    return all(clock.get(stream, 0) >= count for stream, count in other.items())


class Notes:
    """Who used which bytes of some memory: {(start, stop, stream, written): when last, by that stream's clock}."""

    def __init__(self):
        self.uses: dict[tuple, int] = {}


class Use(NamedTuple):
    """Bytes from `start` to `stop` that are read or written: those of `what`, an array or a matrix."""

    notes: Notes
    what: str
    start: int
    stop: int
    written: bool

    def note(self, stream: Any) -> None:
        """By this stream, now. Raises AssertionError unless that comes after what it must."""
        uses, (_, what, start, stop, written) = self.notes.uses, self
        for (begin, end, other, wrote), count in uses.items():
            if begin < stop and start < end and (wrote or written) and stream.clock.get(other, 0) < count:
                raise AssertionError(
                    f"{what}: stream {stream.number} of device {stream.device} {'writes' if written else 'reads'} "
                    f"what stream {other} {'wrote' if wrote else 'read'}, in no order: an event is missing"
                )
        if written:  # which stands for all that it comes after
            for use in [use for use in uses if start <= use[0] and use[1] <= stop]:
                del uses[use]
        stream.clock[stream.number] = count = stream.clock.get(stream.number, 0) + 1
        uses[start, stop, stream.number, written] = count
