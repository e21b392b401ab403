"""A tower: the part of a net that lives on one device."""

import contextlib
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinynet.errors import NonFiniteError
from tinynet.layers import Sequential
from tinynet.layers.layer import Layer
from tinynet.layers.passes import backward_halves, backward_steps
from tinynet.parallel.towers.lanes import CpuLane
from tinynet.parallel.towers.workers import Worker


class Recorder(Protocol):
    """Who looks on, such as a `tinynet.parallel.towers.timeline.Timeline`."""

    def forward_begins(self) -> None:
        """Called before each forward, by the thread that gives the towers their work."""

    def __call__(self, tower: "Tower", kind: str, name: str, nbytes: int) -> contextlib.AbstractContextManager:
        """A context in which the tower makes a piece of its work, in the tower's current stream if it is on a GPU.
        kind: "forward", "backward" or "copy"; name: which layers or between whom."""


@dataclass(eq=False)
class Tower:
    """What one device has of the net, and the thread that computes it: one more chain than there are exchanges."""

    number: int  # from 0
    device: str
    lane: CpuLane
    worker: Worker
    chains: "list[Chain | None]" = field(default_factory=list)  # None where the first tower alone computes
    threads: int = 1  # its share, on the CPU
    recorder: Recorder | None = None

    def watch(self, kind: str, name: str, nbytes: int = 0) -> contextlib.AbstractContextManager:
        return self.recorder(self, kind, name, nbytes) if self.recorder else contextlib.nullcontext()

    @property
    def layers(self) -> dict[str, Layer]:
        return {name: layer for chain in self.chains if chain is not None for name, layer in chain.layers.items()}


class Chain(Sequential):
    """What a tower computes between two exchanges."""

    tower: Tower
    before = ""  # the layer that made x, for errors

    def forward(self, x):
        try:
            return super().forward(x)
        except NonFiniteError as error:
            if not self.before or error.layer != str(self[0]):
                raise
            raise NonFiniteError(self.before, f"gave NaN or infinity as its output (met by {error})") from error

    def backward(self, dy, send=None):
        """dx; `send` gets it as soon as it is there: where a twin computes the first layer, before the gradients of
        its weights, which nobody waits for."""
        if send is None:
            return super().backward(dy)
        *later, (head, whole) = backward_steps(list(self))
        for layers, step in later:
            dy = self.run("backward", step, dy, layers)
        input_first = backward_halves(head[0])
        if len(head) > 1 or input_first is None:
            return send(self.run("backward", whole, dy, head))
        dx, weight = input_first
        send(self.run("backward", dx, dy, head))
        return self.run("backward", weight, dy, head)

    def run(self, direction: str, step: Any, array: Any, layers: Any) -> Any:
        with self.tower.watch(direction, " ".join(layer.name for layer in layers)):
            return step(array, *layers)
