"""Where data crosses between towers."""

import contextlib
from typing import Any, NamedTuple

from tinynet.backend.device import empty
from tinynet.backend.layout import batch_first, batch_last
from tinynet.ops.elementwise import add_to
from tinynet.parallel.towers.workers import Meeting


class Sent(NamedTuple):
    """An array that another tower may read: (C, ..., N), the batch innermost; `ready`: the moment from which on it
    holds its values, None where that is now."""

    source: Any  # its tower
    array: Any
    ready: Any


class Exchange:
    """Stands where the next layer reads the outputs of all T towers: in every tower, or before a FirstTower in that.

    forward: x = the towers' y side by side along axis 1. backward: each tower that read x sends every source its slice
    of dx; a source sums what it gets, its own first and then in the towers' order, so that the sum has the same bits in
    every run. In memory the batch is innermost and axis 1 outermost, so every part and every slice is one block.
    """

    def connect(self, name: str, towers: int, first_alone: bool) -> None:
        """Between these `towers`, before the layer `name`, which all of them read or the first one alone."""
        self.name, self.towers, self.readers = name, towers, range(1 if first_alone else towers)

    def forward(self, tower: Any, y: Any, meeting: Meeting) -> Any:
        """The x (N, T * C, ...) that `tower` goes on with, on its device; None for one that does not read."""
        meeting.give((self, tower.number), Sent(tower, batch_last(y), tower.lane.mark()))
        if tower.number not in self.readers:
            return None
        parts = [meeting.take((self, source)) for source in range(self.towers)]
        C, *rest = parts[0].array.shape
        x = empty((self.towers * C, *rest), y.dtype, tower.device)
        for t, part in enumerate(parts):
            tower.lane.copy(part.array, part.ready, x[t * C : (t + 1) * C], self._crossing(tower, part, meeting))
        return batch_first(x)

    def send(self, tower: Any, dx: Any, meeting: Meeting) -> list[Any]:
        """backward, the first half: the slices of dx (N, T * C, ...) may now be read by their sources. Returns places
        for what this tower will receive: from now on, so that the copies need not wait for what it computes next."""
        C = dx.shape[1] // self.towers
        parts = [batch_last(dx[:, source * C : (source + 1) * C]) for source in range(self.towers)]
        ready = tower.lane.mark()
        for source, part in enumerate(parts):
            meeting.give((self, tower.number, source), Sent(tower, part, ready))
        own = parts[tower.number]
        return [tower.lane.reserve(own.shape, own.dtype) for reader in self.readers if reader != tower.number]

    def receive(self, tower: Any, meeting: Meeting, places: list[Any]) -> Any:
        """backward, the second half: dy (N, C, ...), the sum of this tower's slices, on its device."""
        total, places = None, list(places)
        for reader in sorted(self.readers, key=lambda reader: reader != tower.number):
            sent = meeting.take((self, reader, tower.number))
            place = places.pop() if places and sent.source is not tower else None
            part = tower.lane.fetch(sent.array, sent.ready, self._crossing(tower, sent, meeting), place)
            if total is None:
                total = part
            else:  # in place: only this tower has seen its own slice
                add_to(total, part)
        return batch_first(total)

    def _crossing(self, tower: Any, sent: Sent, meeting: Meeting) -> Any:
        """Counts the bytes that `tower` takes from another; a context for the copy itself, see `Split.recorder`."""
        if sent.source is tower:
            return contextlib.nullcontext()
        meeting.count(self.name, sent.array.nbytes)
        name = f"{self.name}: tower {sent.source.number + 1} to {tower.number + 1}"
        return tower.watch("copy", name, sent.array.nbytes)
