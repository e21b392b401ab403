"""How exact are the convolutions of a GPU, on AlexNet's own layers at batch 128, in each precision? Without a GPU.

    python benchmarks/conv_accuracy.py --layers conv1 conv2 --blocks 4

The layers run as they would on an H200: the library's own launches, with the tiles, the parts of the sums and the order
of addition that it chooses for 132 multiprocessors. But the kernels run on the CPU, by tests/cuda_on_cpu, which takes
hours for a whole grid: so only a few of its blocks run, drawn at random (of the weight gradient all parts of one tile),
and the results that these write are compared with float64, by the L2 norm of the errors over that of the results.

What the CPU cannot show: tensor cores add the products of one instruction (8 values of k, or 16) and the sum so far in
an order and with a rounding of their own, towards zero, where the emulation adds one after the other and rounds to
nearest. The rounding of the factors, which decides in TF32 and bf16, is exact here. So the figures of FMA and of bf16
are what a GPU gives, up to the order of terms that a compiler may fuse; those of 3xTF32 are a lower bound.

Exit codes: 0; 1 if an error is above its bound; 3 if g++ is missing.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nets
import numpy as np
import timing

from tinynet.backend.device import to_device
from tinynet.backend.precision import PRECISIONS
from tinynet.layers import Conv2d, passes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cuda_on_cpu import CpuModule, why_not  # type: ignore[import-not-found]
from cuda_on_cpu.fake_cupy import Device, FakeCupy  # type: ignore[import-not-found]

PROCESSORS = 132  # of an H100 or H200
BOUNDS = {"fp32": (2e-6, 1e-5), "tf32x3": (2e-6, 1e-5), "tf32": (1e-3, 1e-3), "bf16": (1e-2, 1e-2)}
BATCH = 128


class SomeBlocks:
    """A kernel of which only some blocks run, `count` tiles; the others' results stay NaN."""

    def __init__(self, kernel: Any, count: int, random: np.random.Generator, ran: list[str]):
        self.kernel, self.count, self.random, self.ran = kernel, count, random, ran
        self.signature = kernel.signature

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, shared_mem: int = 0) -> None:
        self.ran.append(self.kernel.name)
        x, y, z = (*grid, 1, 1)[:3]
        options: dict[str, Any] = {"guarded": False}
        if "weight_gradient" in self.kernel.name:  # y counts the parts of a sum
            tile, group = self.random.integers(x), self.random.integers(z)
            options["blocks"] = [tile + x * (part + y * group) for part in range(y)]
        elif self.kernel.name.startswith("panels") and "sum_parts" not in self.kernel.name:
            options["blocks"] = sorted(self.random.choice(x * y * z, min(self.count, x * y * z), replace=False))
        self.kernel(grid, block, args, shared_mem=shared_mem, **options)


class SomeBlocksModule:
    """What FakeCupy takes for a module. `ran` lists the kernels that were launched."""

    def __init__(self, module: Any, count: int, random: np.random.Generator, ran: list[str]):
        self.module, self.count, self.random, self.ran = module, count, random, ran

    def get_function(self, name: str) -> SomeBlocks:
        return SomeBlocks(self.module.get_function(name), self.count, self.random, self.ran)


def layers(names: list[str]) -> list[tuple[str, Conv2d, tuple[int, ...]]]:
    """(name, a copy of the paper's layer without bias, the shape of its x)."""
    found: list[tuple[str, Conv2d, tuple[int, ...]]] = []
    shape: tuple[int, ...] = (BATCH, 3, 227, 227)
    for layer in nets.build("paper"):
        if layer.name in names and isinstance(layer, Conv2d):
            layer.bias = None
            found.append((layer.name, layer, shape))
        shape = layer.output_shape(shape)
    return found


# --- what is expected, in float64, of the results that were computed; pictures are (C, H, W, N) here ------------------


def taps(layer: Conv2d, x: np.ndarray) -> Any:
    """(kh, kw, what that tap of the window sees of x, (C, OH, OW, N))."""
    (KH, KW), (down, across), (top, left), _ = layer.window
    OH, OW = layer.output_shape((x.shape[3], *x.shape[:3]))[2:]
    padded = np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)))
    for kh, kw in itertools.product(range(KH), range(KW)):
        yield kh, kw, padded[:, kh : kh + down * OH : down, kw : kw + across * OW : across][:, :OH, :OW]


def parts_of(layer: Conv2d) -> list[tuple[slice, slice]]:
    """(output channels, input channels) of each group."""
    O, C = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    return [(slice(g * O, g * O + O), slice(g * C, g * C + C)) for g in range(layer.groups)]


def y_errors(layer: Conv2d, x: np.ndarray, y: np.ndarray) -> Any:
    weight = layer.weight.data.astype(np.float64)
    for o, c in parts_of(layer):
        where = np.isfinite(y[o]).any(axis=0)  # a block has whole columns of all its rows
        expected = sum(weight[o, :, kh, kw] @ seen[c][:, where].astype(np.float64) for kh, kw, seen in taps(layer, x))
        yield y[o][:, where], expected


def dx_errors(layer: Conv2d, dy: np.ndarray, dx: np.ndarray) -> Any:
    weight = layer.weight.data.astype(np.float64)
    (KH, KW), stride, padding, _ = layer.window
    for o, c in parts_of(layer):
        h, w, n = np.nonzero(np.isfinite(dx[c]).any(axis=0))
        expected = np.zeros((layer.in_channels // layer.groups, len(h)))
        for kh, kw in itertools.product(range(KH), range(KW)):
            (oh, odd_h), (ow, odd_w) = (
                np.divmod(h + padding[0] - kh, stride[0]),
                np.divmod(w + padding[1] - kw, stride[1]),
            )
            inside = (odd_h == 0) & (odd_w == 0) & (oh >= 0) & (ow >= 0) & (oh < dy.shape[1]) & (ow < dy.shape[2])
            some = dy[o][:, oh[inside], ow[inside], n[inside]].astype(np.float64)
            expected[:, inside] += weight[o, :, kh, kw].T @ some
        yield dx[c][:, h, w, n], expected


def dweight_errors(layer: Conv2d, x: np.ndarray, dy: np.ndarray, dweight: np.ndarray) -> Any:
    for o, c in parts_of(layer):
        got = dweight[o]
        rows = np.isfinite(got).any(axis=(1, 2, 3))
        if not rows.any():
            continue
        own = dy[o][rows].reshape(rows.sum(), -1).astype(np.float64)
        for kh, kw, seen in taps(layer, x):
            channels = np.isfinite(got[:, :, kh, kw]).any(axis=0)
            if not channels.any():
                continue
            picture = seen[c][channels].reshape(channels.sum(), -1).astype(np.float64)
            yield got[rows][:, channels, kh, kw], own @ picture.T


def relative(pairs: Any) -> tuple[float, int]:
    """(the relative error, of how many numbers)."""
    error = square = count = 0.0
    for got, expected in pairs:
        there = np.isfinite(got)
        error += np.sum((got[there] - expected[there]) ** 2)
        square += np.sum(expected[there] ** 2)
        count += there.sum()
    return float(np.sqrt(error / square)), int(count)


def measure(layer: Conv2d, shape: tuple[int, ...], precision: str, ran: list[str]) -> dict[str, tuple[float, int, str]]:
    """{"y": (relative error, of how many numbers, by which instance), ...}."""
    random = np.random.default_rng(1)
    x = random.standard_normal((*shape[1:], BATCH), np.float32)
    dy = random.standard_normal((*layer.output_shape(shape)[1:], BATCH), np.float32)
    layer.set_precision(precision).to("cuda:0").zero_grad()
    del ran[:]
    y = layer(to_device(np.moveaxis(x, -1, 0), "cuda:0"))
    dx = passes.backward(layer, to_device(np.moveaxis(dy, -1, 0), "cuda:0"))
    y, dx = (np.moveaxis(array.get(), 0, -1) for array in (y, dx))
    layer.to("cpu")
    names = [name.partition("<")[2].rstrip(">") for name in ran if "sum_parts" not in name]
    errors = {
        "y": relative(y_errors(layer, x, y)),
        "dweight": relative(dweight_errors(layer, x, dy, layer.weight.grad)),
        "dx": relative(dx_errors(layer, dy, dx)),
    }
    return {key: (*errors[key], name) for key, name in zip(("y", "dweight", "dx"), names, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [f"conv{i}" for i in range(1, 6)]
    parser.add_argument("--layers", nargs="+", choices=known, default=known)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--blocks", type=timing.whole, default=3, metavar="B", help="of each launch (default: 3)")
    parser.add_argument("--seed", type=timing.whole, default=1, metavar="S", help="of the choice (default: 1)")
    args = parser.parse_args()
    random, ran, missed = np.random.default_rng(args.seed), list[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        if reason := why_not():
            print(f"conv_accuracy.py: {reason}", file=sys.stderr)
            return 3

        def load(source: Path, **options: Any) -> Any:
            module = CpuModule(source, Path(folder), **options)
            return module if source.stem != "panels" else SomeBlocksModule(module, args.blocks, random, ran)

        sys.modules["cupy"] = FakeCupy(Path(folder), load=load)
        Device.attributes = {**Device.attributes, "MultiProcessorCount": PROCESSORS}
        print("layer  precision  result   relative error   numbers  instance              seconds of all three")
        for (name, layer, shape), precision in itertools.product(layers(args.layers), args.precisions):
            began = time.perf_counter()
            found = measure(layer, shape, precision, ran)
            took = time.perf_counter() - began
            for key, (error, count, instance) in found.items():
                bound = BOUNDS[precision][key == "dweight"]
                wrong = not error <= bound
                missed += [f"{name} {precision} {key}"] * wrong
                line = f"{name}  {precision:9}  {key:7}  {error:.2e}{' !' if wrong else '  '}  {count:12,}"
                print(f"{line}  {instance:20}  {took:8.0f}", flush=True)
    print(f"above their bounds: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
