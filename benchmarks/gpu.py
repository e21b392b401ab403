"""Check the kernels on a GPU, at the sizes of real nets, and time them.

    python benchmarks/gpu.py --nets paper torchvision --batch-sizes 128 256

First each layer of each net, forward and backward, in float32 on the GPU, with fresh random numbers, against the same
layer in float64 on the CPU: the relative L2 errors of y, dx and the parameters' gradients must lie within 2e-6, of the
parameters' gradients within 1e-5 (dropout's masks must be the CPU's). Then times, by the device's own clock, medians of
--repeat: each layer, forward and backward, and whole training steps, with the TFLOP/s of their products.

Writes all of it to benchmarks/results/gpu-<name of the GPU>.json, and prints it. Exit codes: 0; 1 if an error is above
its bound; 3 where no GPU can be used. There is no comparison with PyTorch on a GPU yet.
"""

import argparse
import copy
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nets
import numpy as np
import timing

from tinynet import device
from tinynet.errors import DeviceError
from tinynet.layers import Layer, Sequential, SoftmaxCE
from tinynet.optim import SGD

NO_GPU = 3
BOUND, GRADIENT_BOUND = 2e-6, 1e-5
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def error(got: Any, expected: np.ndarray) -> float:
    """Relative, in the L2 norm."""
    difference = np.linalg.norm((device.to_cpu(got) - expected).astype(np.float64).ravel())
    return float(difference / max(float(np.linalg.norm(expected.ravel())), 1e-30))


def layers_of(net: Sequential, name: str, batch_size: int) -> Iterator[tuple[Layer, np.ndarray, np.ndarray]]:
    """(layer, an x, a dy) of random numbers, x with the batch innermost in memory."""
    random = np.random.default_rng(0)
    size = nets.NETS[name].image_size
    shape: tuple[int, ...] = (batch_size, 3, size, size)
    for layer in net:
        x = random.standard_normal((*shape[1:], batch_size), np.float32) * np.float32(nets.NETS[name].scale)
        shape = layer.output_shape(shape)
        dy = random.standard_normal((*shape[1:], batch_size), np.float32)
        yield layer, np.moveaxis(x, -1, 0), np.moveaxis(dy, -1, 0)


def check(name: str, batch_size: int, where: str) -> list[Row]:
    rows = []
    for layer, x, dy in layers_of(nets.build(name), name, batch_size):
        exact = copy.deepcopy(layer).astype(np.float64)
        layer.to(where)
        y, expected_y = layer(device.to_device(x, where)), exact(x.astype(np.float64))
        errors = {"y": error(y, expected_y)}
        dx, expected_dx = layer.backward(device.to_device(dy, where)), exact.backward(dy.astype(np.float64))
        errors["dx"] = error(dx, np.asarray(expected_dx))
        for (key, own), (_, theirs) in zip(layer.named_parameters(), exact.named_parameters(), strict=True):
            errors[f"d{key}"] = error(own.grad, theirs.grad)
        bounds = {key: BOUND if key in ("y", "dx") else GRADIENT_BOUND for key in errors}
        wrong = [key for key in errors if not errors[key] <= bounds[key]]
        rows.append({"net": name, "batch_size": batch_size, "layer": layer.name, "errors": errors, "wrong": wrong})
        found = "  ".join(f"{key} {value:.1e}{' !' * (key in wrong)}" for key, value in errors.items())
        print(f"check  {name:12} {batch_size:5} {layer.name:8} {found}", flush=True)
    return rows


def seconds(function: Callable[[], object], repeat: int) -> float:
    cuda = device.cupy().cuda
    times = []
    for number in range(repeat + 2):
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        function()
        end.record()
        end.synchronize()
        if number >= 2:  # the first compile kernels and fill the memory pool
            times.append(cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


def time_layers(name: str, batch_size: int, where: str, repeat: int) -> list[Row]:
    rows = []
    for layer, x, dy in layers_of(nets.build(name).to(where), name, batch_size):
        x, dy = device.to_device(x, where), device.to_device(dy, where)
        flops = 2 * layer.macs(x.shape)
        forward = seconds(lambda layer=layer, x=x: layer.forward(x), repeat)  # type: ignore[misc]
        backward = seconds(lambda layer=layer, dy=dy: layer.backward(dy), repeat)  # type: ignore[misc]
        for direction, took, work in (("forward", forward, flops), ("backward", backward, 2 * flops)):
            rows.append(show(name, batch_size, layer.name, direction, took, work))
    return rows


def time_step(name: str, batch_size: int, where: str, repeat: int) -> Row:
    net, loss = nets.build(name).to(where), SoftmaxCE()
    net.input_grad = False
    optimizer, size = SGD(net.parameters(), lr=1e-4), nets.NETS[name].image_size
    x = np.moveaxis(np.random.default_rng(0).standard_normal((3, size, size, batch_size), np.float32), -1, 0)
    batch, labels = device.to_device(x, where), np.zeros(batch_size, np.int64)

    def step() -> None:
        optimizer.zero_grad()
        loss(net(batch), labels)
        net.backward(loss.backward())
        optimizer.step()

    return show(name, batch_size, "step", "training", seconds(step, repeat), 3 * 2 * net.macs(x.shape))


def show(name: str, batch_size: int, layer: str, direction: str, took: float, flops: int) -> Row:
    rate = flops / took / 1e12
    print(
        f"time   {name:12} {batch_size:5} {layer:8} {direction:9} {took * 1e3:10.3f} ms {rate:8.2f} TFLOP/s", flush=True
    )
    return {"net": name, "batch_size": batch_size, "layer": layer, "direction": direction, "s": took, "tflops": rate}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=nets.NETS, default=["paper", "torchvision"])
    parser.add_argument("--batch-sizes", nargs="+", type=timing.whole, default=[128, 256, 1024], metavar="N")
    parser.add_argument("--check-batch", type=timing.whole, default=128, metavar="N", help="(default: 128)")
    parser.add_argument("--repeat", type=timing.whole, default=10, metavar="R", help="(default: 10)")
    parser.add_argument("--device", type=int, default=0, metavar="K", help="which GPU (default: 0)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for the JSON file")
    args = parser.parse_args()
    try:
        where = device.checked_device(f"cuda:{args.device}")
    except DeviceError as problem:
        print(f"gpu.py: {problem}", file=sys.stderr)
        return NO_GPU
    cupy = device.cupy()
    name = cupy.cuda.runtime.getDeviceProperties(args.device)["name"].decode()
    with device.on(where):
        checks = [row for net in args.nets for row in check(net, args.check_batch, where)]
        times = []
        for net in args.nets:
            for batch_size in args.batch_sizes:
                times += [*time_layers(net, batch_size, where, args.repeat)]
                times += [time_step(net, batch_size, where, args.repeat)]
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"gpu-{re.sub('[^A-Za-z0-9]+', '-', name)}.json"
    versions = {"numpy": np.__version__, "cupy": cupy.__version__}
    path.write_text(
        json.dumps({"gpu": name, "versions": versions, "checks": checks, "times": times}, indent=1), "utf-8"
    )
    wrong = [f"{row['net']} {row['layer']}: {', '.join(row['wrong'])}" for row in checks if row["wrong"]]
    print(f"{path}: {len(checks)} layers checked, {len(wrong)} wrong{': ' * bool(wrong)}{'; '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
