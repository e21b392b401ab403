"""A whole net cut into towers: the model that computes on several devices."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from tinynet.backend import streams
from tinynet.backend.device import checked_device, device_of, to_device
from tinynet.backend.layout import batch_first, batch_last
from tinynet.backend.threads import get_num_threads, limit_threads
from tinynet.layers import Dropout, Sequential
from tinynet.layers.layer import Layer
from tinynet.ops.elementwise import add_to
from tinynet.parallel.towers.cut import follow, joined_copy
from tinynet.parallel.towers.lanes import lane_for
from tinynet.parallel.towers.stages import Stage, cut_net
from tinynet.parallel.towers.tower import Recorder, Tower
from tinynet.parallel.towers.workers import Meeting, Worker, together


class Split(Layer):
    """A net on several devices, a tower each, which a thread of its own computes; y = net(x), as the whole net would.

    net: a Sequential, which becomes the split one's: its parameters move into parts on the devices. devices: one for
    each tower, "cpu" or "cuda:K", which may be the same. stages: the net's layers in order, EachTower(...), with an
    Exchange() wherever the next layer reads all towers' outputs, and FirstTower(...) at the end. See
    `tinynet.models.towers`.

    Names, shapes, values, `state_dict`, dropout masks and what an optimiser keeps are the whole net's; parameters
    never leave their devices. x may be on any device, y is on the first. CPU towers share the threads of
    `set_num_threads`. An error in a tower ends the pass, and says in which tower it came; the model can be used again.

    crossed: {layer behind the exchange: bytes that went from tower to tower} in the last forward and backward.
    recorder: None, or what looks on, see `tinynet.parallel.towers.tower.Recorder`.

    A subclass of a layer is cut as that layer is: each part gets its own tower's channels, or its own neurons.

    Raises ValueError for stages that are not the net's layers or a layer that cannot be cut so, and what
    `checked_device` does.
    """

    def __init__(self, net: Sequential, devices: Sequence[str], *stages: Stage):
        self.devices = tuple(checked_device(device) for device in devices)
        if len(self.devices) < 2:
            raise ValueError(f"Split: expected at least two devices, one for each tower, got {self.devices}")
        self.net = net
        self.towers = [
            Tower(i, device, lane_for(device), Worker(f"tinynet-tower-{i + 1}"))
            for i, device in enumerate(self.devices)
        ]
        self.exchanges = cut_net(net, self.towers, stages)  # between the chains of the towers
        self.crossed: dict[str, int] = {}
        self._ends: list[Any] = [None] * len(self.towers)  # of the last pass, in each tower

    def forward(self, x):
        self.__dict__.pop("_saved", None)
        self.crossed = {}
        for tower in self.towers:
            for name, layer in tower.layers.items():
                follow(layer, self.net.layers[name])
        if self.recorder is not None:
            self.recorder.forward_begins()
        y = self._pass(self._forward_in, x)[0]
        for name, layer in self.towers[0].layers.items():
            if isinstance(layer, Dropout):
                self.net.layers[name].step = layer.step
        self.saved = (self.devices[0],)
        return y

    def backward(self, dy):
        (first,) = self.saved
        dxs = self._pass(self._backward_in, dy)
        if dxs[0] is None:
            return None
        for dx in dxs[1:]:  # every tower read the picture
            add_to(dxs[0], to_device(dx, first))
        return dxs[0]

    def _forward_in(self, tower, meeting, x, ready):
        x = self._bring(tower, "x", x, ready)
        for k, chain in enumerate(tower.chains):
            if k:
                x = self.exchanges[k - 1].forward(tower, x, meeting)
            if chain is None:
                return None
            self._lend_threads(tower, k)
            x = chain.forward(x)
        return x

    def _backward_in(self, tower, meeting, dy, ready):
        dy = self._bring(tower, "dy", dy, ready) if tower.chains[-1] is not None else None
        for k, chain in reversed(list(enumerate(tower.chains))):
            if k == 0:
                return chain.backward(dy)
            exchange = self.exchanges[k - 1]
            places: list[Any] = []  # for what the others send
            if chain is not None:

                def send(dx, exchange=exchange, places=places):
                    places += exchange.send(tower, dx, meeting)
                    limit_threads(tower.threads)

                self._lend_threads(tower, k)
                chain.backward(dy, send)
            dy = exchange.receive(tower, meeting, places)
        return None

    @staticmethod
    def _bring(tower: Tower, name: str, array: Any, ready: Any) -> Any:
        """x or dy on the tower's device; that it was copied there is seen, but it is nothing that towers exchange."""
        source: str = device_of(array)
        watch: Any = contextlib.nullcontext()
        if source != tower.device:
            watch = tower.watch("copy", f"{name}: {source} to tower {tower.number + 1}", array.nbytes)
        return tower.lane.bring(array, ready, watch)

    def _lend_threads(self, tower: Tower, k: int) -> None:
        """While the first tower alone has something to do it takes all threads."""
        if k == len(self.exchanges) and set(self.devices) == {"cpu"}:
            limit_threads(self._threads)

    def _pass(self, work: Callable[[Tower, Meeting, Any, Any], Any], given: Any) -> list[Any]:
        """work(tower, meeting, given, ready) in all towers at once; `given` is an array made in the caller's stream,
        which holds its values when it is `ready`."""
        source, places = device_of(given), dict.fromkeys(self.devices)
        if source != "cpu":
            given = batch_first(batch_last(given))  # here: a copy is in order with what made it, and kept
            places[source] = None
        meeting, threads = Meeting(), get_num_threads()
        self._threads = threads
        on_cpu = [tower for tower in self.towers if tower.device == "cpu"]
        for i, tower in enumerate(on_cpu):
            tower.threads = max(1, threads // len(on_cpu) + (i < threads % len(on_cpu)))
        moments = {place: streams.moment(place) for place in places}
        ends = list(self._ends)  # of the pass before: this one's towers write theirs while others begin

        def in_tower(i: int) -> Any:
            tower = self.towers[i]
            limit_threads(tower.threads)
            with tower.lane.computing():
                tower.lane.wait(*moments.values(), *ends)
                result = work(tower, meeting, given, moments.get(source))
                self._ends[i] = tower.lane.mark()
                return result

        try:
            results, errors = together([tower.worker for tower in self.towers], in_tower, meeting.stop)
            self._raise_first(errors)
        except BaseException:
            for tower in self.towers:  # nothing may be under way in memory that is let go of
                with contextlib.suppress(RuntimeError):
                    tower.lane.drain()
            raise
        for place in places:
            streams.wait_for(place, self._ends)
        for name, nbytes in meeting.crossed.items():
            self.crossed[name] = self.crossed.get(name, 0) + nbytes
        return results

    def _raise_first(self, errors: list[BaseException | None]) -> None:
        for tower, error in zip(self.towers, errors, strict=True):
            if error is not None:
                try:
                    raise _with_place(error, f"tower {tower.number + 1} of {len(self.towers)}, on {tower.device}")
                finally:
                    errors.clear()  # or the error, its traceback and this list would keep each other, and the arrays
                    del error

    @property
    def recorder(self) -> Recorder | None:
        return self.towers[0].recorder

    @recorder.setter
    def recorder(self, recorder: Recorder | None) -> None:
        for tower in self.towers:
            tower.recorder = recorder

    @property
    def input_grad(self):
        return self.net.input_grad

    @input_grad.setter
    def input_grad(self, wanted):
        self.net.input_grad = wanted

    def children(self):
        return self.net.children()

    def __getitem__(self, key):
        return self.net[key]

    def placed(self, x):
        return x  # each tower takes it to its own device

    def to(self, device):
        raise ValueError(
            f"{self}: expected to stay on {', '.join(self.devices)}, got .to({device!r}); whole() is a copy on one "
            "device, and for others build the model anew, which takes this one's state_dict"
        )

    def whole(self) -> Sequential:
        """The net with the same values on the first device, a copy."""
        layers = {name: joined_copy(layer) for name, layer in self.net.layers.items()}
        return Sequential(layers).train(self.training).to(self.devices[0])

    def output_shape(self, shape):
        return self.net.output_shape(shape)

    def macs(self, shape):
        return self.net.macs(shape)

    def __getstate__(self) -> dict[str, Any]:  # a copy has no pass behind it
        return {**self.__dict__, "_ends": [None] * len(self.towers)}

    def __repr__(self) -> str:
        return f"Split({', '.join(self.devices)}; {self.net!r})"


def _with_place(error: BaseException, place: str) -> BaseException:
    """The error, which says where it came; of the same kind, so that whoever expects it finds it."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} (in {place})",)
    elif isinstance(error, MemoryError):  # NumPy's, or one without words
        error = MemoryError(f"{error or 'out of memory'} (in {place})").with_traceback(error.__traceback__)
    else:
        error.add_note(f"in {place}")
    return error
