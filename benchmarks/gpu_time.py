"""How long do layers and training steps take on the GPU, tinynet's and PyTorch's in turn?

All by CuPy's events on the default stream, which both libraries use. What is compared is called in turn, round by
round, after rounds that do not count: these compile, choose algorithms and fill the memory pools. Medians.

A step is timed as training runs it, several in a row, so that the host prepares the next while the GPU works. A layer
is timed alone: before each call other memory is written, so that no input is left in the cache, for long enough that
the host is ahead of the GPU and what it takes to launch does not count.
"""

import importlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gpu_nets
import gpu_peer
import gpu_roofline
import nets
import numpy as np

from tinynet.backend import device
from tinynet.layers import Layer, passes

Row = dict[str, Any]
OWN = "tinynet"
WARM_UP = 2  # rounds
STEPS_S, MOST_STEPS = 0.05, 50  # seconds that one timing of steps should fill, in at most so many steps
OTHER_BYTES, OTHER_TIMES = 1 << 28, 16  # written before a layer's call: several caches full, and more than 1 ms


class Call(NamedTuple):
    run: Callable[[], Any]
    prepare: Callable[[], Any]  # before each timing, not timed: the process's settings


def own(run: Callable[[], Any]) -> Call:
    return Call(run, lambda: None)


def peers(run: Callable[[], Any], setting: gpu_peer.Setting) -> Call:
    return Call(run, lambda: gpu_peer.apply(setting))


def seconds(call: Callable[[], Any], count: int = 1) -> float:
    """Of one of `count` calls in a row."""
    cuda = device.cupy().cuda
    begin, end = cuda.Event(), cuda.Event()
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return cuda.get_elapsed_time(begin, end) / 1e3 / count


def alternate(calls: dict[str, Call], repeat: int, before: Callable[[], Any] | None = None) -> dict[str, float]:
    """Medians of `repeat` rounds, by name. With `before` it is called before every single call; without, calls are
    repeated to fill STEPS_S."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + repeat):
        for name, call in calls.items():
            call.prepare()
            count = 1
            if before:
                before()
            elif number >= WARM_UP:
                count = max(1, min(MOST_STEPS, round(STEPS_S / max(times[name][WARM_UP - 1], 1e-6))))
            times[name].append(seconds(call.run, count))
    return {name: statistics.median(each[WARM_UP:]) for name, each in times.items()}


def typical(call: Callable[[], Any], repeat: int = 5) -> float:
    """The median of one thing alone."""
    return alternate({"": own(call)}, repeat)[""]


def writer(where: str) -> Callable[[], Any]:
    """What is called before a layer: it writes other memory."""
    other = device.empty((OTHER_BYTES // 4,), np.float32, where)

    def write() -> None:
        with device.on(where):
            for _ in range(OTHER_TIMES):
                other.fill(1.0)

    return write


class Jobs(NamedTuple):
    """What is timed, and how. peer_where: "cuda:K", or "cpu" to try PyTorch's side without a GPU."""

    where: str
    peer_where: str
    repeat: int
    ceilings: gpu_roofline.Ceilings

    def row(self, about: Row, who: str, time: float, flops: int, floor: float | None) -> Row:
        return {**about, "who": who, "s": time, "flops": flops, "floor_s": floor}

    def steps(self, net: str, batch_size: int, precision: str, against: Sequence[str]) -> tuple[list[Row], list[str]]:
        """Rows of whole training steps with peak memory; and what did not work, in words: PyTorch's settings that fail
        do not stop the others."""
        x, labels = gpu_nets.batch(net, batch_size)
        model, failed = gpu_nets.placed(net, precision, self.where), []
        step = gpu_nets.step(model, device.to_device(x, self.where), labels)
        calls, peaks = {OWN: own(step)}, {}
        for _ in range(2):
            step()
        peaks[OWN] = device.cupy().get_default_memory_pool().total_bytes()
        for name in against:
            setting = gpu_peer.SETTINGS[name]
            try:
                gpu_peer.release()
                gpu_peer.apply(setting)
                before = gpu_peer.memory()[0]
                calls[name] = peers(gpu_peer.step(model, setting, x, labels, self.peer_where), setting)
                for _ in range(2):
                    calls[name].run()
                peaks[name] = gpu_peer.memory()[1] - before
            except Exception as error:  # whatever PyTorch raises; the rest goes on
                calls.pop(name, None)
                text = str(error).strip().split("\n")[0]
                failed.append(f"PyTorch, {name}, {net} at {batch_size}: {type(error).__name__}: {text}")
        times = alternate(calls, self.repeat)
        flops = sum(work.flops for work in gpu_roofline.step_work(model, x.shape, precision))
        floor = gpu_roofline.step_floor(model, x.shape, self.ceilings, precision)
        about = {"net": net, "batch_size": batch_size, "precision": precision, "layer": "step", "direction": "step"}
        return [
            {**self.row(about, who, time, flops, floor), "peak_bytes": peaks[who]} for who, time in times.items()
        ], failed

    def layers(self, net: str, batch_size: int, precision: str, against: Sequence[str]) -> tuple[list[Row], list[str]]:
        """Rows of each layer alone, forward and backward; in other precisions than fp32 only of those that differ."""
        rows, write = [], writer(self.where)
        for layer, shape in gpu_nets.layers(gpu_nets.placed(net, precision, self.where), net, batch_size):
            if precision == "fp32" or gpu_nets.depends_on_precision(layer):
                forward, backward = self._layer(layer, shape, nets.NETS[net].scale, against)
                for calls, work in zip(
                    (forward, backward), gpu_roofline.layer_work(layer, shape, precision), strict=True
                ):
                    about = {"net": net, "batch_size": batch_size, "precision": precision, "layer": layer.name}
                    about["direction"] = work.direction
                    floor = gpu_roofline.floor(work, self.ceilings, precision)
                    for who, time in alternate(calls, self.repeat, write).items():
                        rows.append(self.row(about, who, time, work.flops, floor))
        return rows, []

    def _layer(self, layer: Layer, shape: tuple[int, ...], scale: float, against: Sequence[str]) -> Any:
        """Two dicts of calls by name: forwards, backwards."""
        x, dy = gpu_nets.numbers(shape, scale), gpu_nets.numbers(layer.output_shape(shape))
        there, dthere = device.to_device(x, self.where), device.to_device(dy, self.where)

        def backward_call() -> Any:
            layer.zero_grad()  # notes only that they are zero, as in a step
            return passes.backward(layer, dthere)

        layer(there)
        forward, backward = {OWN: own(lambda: layer(there))}, {OWN: own(backward_call)}
        for name in against:
            setting = gpu_peer.SETTINGS[name]
            gpu_peer.apply(setting)
            calls = gpu_peer.layer_calls(layer, setting, x, dy, self.peer_where)
            forward[name], backward[name] = (peers(call, setting) for call in calls)
        return forward, backward

    def recorded(self, net: str, batch_size: int, precision: str, against: Sequence[str]) -> Any:
        """The step of `Trainer(graph=True)`: tinynet.training.step records it as CUDA graphs. Beside it the plain one;
        `against` is not used."""
        TrainingStep = importlib.import_module("tinynet.training.step").TrainingStep
        x, labels = gpu_nets.batch(net, batch_size)
        calls, there = {}, device.to_device(x, self.where)
        model = gpu_nets.placed(net, precision, self.where)
        calls[OWN] = own(gpu_nets.step(model, there, labels))
        step = TrainingStep(model, *gpu_nets.loss_and_optimizer(model), graph=True)
        calls[f"{OWN}, graph"] = own(lambda: step(there, labels, 1))
        flops = sum(work.flops for work in gpu_roofline.step_work(model, x.shape, precision))
        floor = gpu_roofline.step_floor(model, x.shape, self.ceilings, precision)
        about = {"net": net, "batch_size": batch_size, "precision": precision, "layer": "step", "direction": "step"}
        times = alternate(calls, self.repeat)
        return [self.row(about, who, time, flops, floor) for who, time in times.items()], []


def copy_call(where: str, count: int) -> tuple[Callable[[], Any], int]:
    """(a copy between two arrays of `count` floats, the bytes that it reads and writes)."""
    source, target = (device.empty((count,), np.float32, where) for _ in range(2))
    filled = min(count, gpu_nets.BLOCK)
    device.assign(source[:filled], gpu_nets.numbers((1, filled)).reshape(-1))
    while filled < count:  # there, again and again: so many numbers are not made on the host
        more = min(filled, count - filled)
        device.assign(source[filled : filled + more], source[:more])
        filled += more
    return lambda: device.assign(target, source), 8 * count
