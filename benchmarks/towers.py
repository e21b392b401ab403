"""What does a net split over two devices take, beside the whole one?

    python benchmarks/towers.py --net paper --batch-size 128
    python benchmarks/towers.py --net paper --devices 0,0 0,1

What is timed: training steps as in train_step.py (zero_grad, forward, loss, backward, SGD), of the split net and of the
whole one on the first of its devices, in turn, in one process; the ratio is the median over pairs of the split one's
time divided by the whole one's. "cpu,cpu" has the same number of threads in all as "cpu". Below 1, splitting gains. The
pictures are on the first device before the clock starts, where a Loader has them; that a second GPU takes them from
there belongs to the step. The host waits for the devices at the end of a step, and not before.

Before anything is timed, both must give the same logits after an update, within 1e-4 of the largest. The numbers also
say how much crosses between the towers in a step. Devices that are not there are "not measured". Exit code 1 if the
nets differ.
"""

import argparse
import json
import sys
import time
from typing import Any

import nets
import numpy as np
import timing

import tinynet
from tinynet import models
from tinynet.backend import streams
from tinynet.backend.device import checked_device, to_cpu, to_device
from tinynet.errors import DeviceError
from tinynet.layers import passes
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD
from tinynet.parallel import Split

BUILD: dict[str, Any] = {"paper": models.alexnet, "mini": models.alexnet_mini}
BOUND = 1e-4


class Training:
    """One model, and a step of it."""

    def __init__(self, name: str, devices: tuple[str, ...]):
        self.devices, self.model = devices, BUILD[name](devices=devices)
        self.model.input_grad = False
        self.optimizer, self.loss, self.steps = SGD(self.model.parameters(), 1e-4), SoftmaxCE(), 0

    def step(self, x: Any, labels: np.ndarray) -> Any:
        """The logits."""
        self.model.at_step(self.steps)
        self.optimizer.zero_grad()
        logits = self.model(self.model.placed(x))
        self.loss(logits, labels)
        self.model.backward(passes.backward(self.loss))
        self.optimizer.step()
        self.steps += 1
        return logits

    def seconds(self, x: Any, labels: np.ndarray) -> float:
        began = time.perf_counter()
        self.step(x, labels)
        for device in self.devices:
            if (end := streams.moment(device)) is not None:
                end.synchronize()
        return time.perf_counter() - began


def named(devices: str) -> tuple[str, ...]:
    """As in train_alexnet.py: "0,1" is ("cuda:0", "cuda:1")."""
    return tuple(each if each == "cpu" else f"cuda:{each}" for each in devices.split(","))


def batch(name: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers, in the loader's memory order."""
    random, size = np.random.default_rng(0), nets.NETS[name].image_size
    x = random.standard_normal((3, size, size, batch_size), np.float32) * np.float32(nets.NETS[name].scale)
    return np.moveaxis(x, -1, 0), random.integers(0, 10, batch_size)


def compare(args: argparse.Namespace, devices: str) -> dict[str, Any]:
    """The row for `devices`; its "ratio" is None, with the reason, if they are not there."""
    row: dict[str, Any] = {"devices": devices, "whole_on": devices.split(",")[0], "ratio": None}
    try:
        for device in named(devices):
            checked_device(device)
    except DeviceError as error:
        print(f"{devices:8} not measured: {error}")
        return {**row, "not_measured": str(error)}
    x, labels = batch(args.net, args.batch_size)
    x = to_device(x, named(devices)[0])
    pair = [Training(args.net, named(which)) for which in (row["whole_on"], devices)]
    for _ in range(2):
        logits = [to_cpu(each.step(x, labels)) for each in pair]
    difference = float(np.abs(logits[1] - logits[0]).max() / np.abs(logits[0]).max())
    if not difference <= BOUND:
        print(f"{devices:8} WRONG: logits differ by {difference:.1e}, more than {BOUND:.0e}")
        return {**row, "difference": difference, "wrong": True}
    times: list[list[float]] = [[], []]
    for _ in range(args.repeat):
        for each, own in zip(pair, times, strict=True):
            time.sleep(args.pause)
            own.append(each.seconds(x, labels))
    row["ratio"], row["ratio_spread"] = timing.middle([b / a for a, b in zip(*times, strict=True)])
    row["whole_s"], row["split_s"] = (timing.middle(own)[0] for own in times)
    assert isinstance(pair[1].model, Split)
    row |= {"difference": difference, "crossed": pair[1].model.crossed}
    print(
        f"{devices:8} {row['split_s']:.4f} s, {row['whole_on']} {row['whole_s']:.4f} s: ratio {row['ratio']:.3f} "
        "({:.3f} to {:.3f}), ".format(*row["ratio_spread"])
        + f"{sum(row['crossed'].values()):,} bytes crossed"
    )
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=BUILD, default="mini", help="which net (default: mini)")
    parser.add_argument(
        "--devices", nargs="+", default=["cpu,cpu", "0,0", "0,1"], metavar="A,B", help="the split nets'"
    )
    parser.add_argument("--batch-size", type=timing.whole, default=128, metavar="N", help="pictures (default: 128)")
    parser.add_argument("--threads", type=timing.whole, default=2, metavar="T", help="of the CPU (default: 2)")
    parser.add_argument("--repeat", type=timing.whole, default=10, metavar="R", help="pairs (default: 10)")
    parser.add_argument("--pause", type=timing.number, default=0.3, metavar="S", help="before each (default: 0.3 s)")
    parser.add_argument("--json", action="store_true", help="print all numbers as one object in the last line")
    args = parser.parse_args()
    tinynet.set_num_threads(args.threads)
    print(f"{args.net}, batch {args.batch_size}, {args.threads} CPU threads, medians of {args.repeat}")
    rows = [compare(args, devices) for devices in args.devices]
    if args.json:
        print(json.dumps({**vars(args), "machine": timing.machine(), "rows": rows}))
    return 1 if any(row.get("wrong") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
