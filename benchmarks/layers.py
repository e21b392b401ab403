"""Where does a training step's time go? Each layer of a net, forward and backward: median milliseconds and share.

Before anything is timed, the float32 net is checked against its float64 copy on the same batch.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np

import tinynet
from tinynet import models, random
from tinynet.layers import Sequential, SoftmaxCE
from tinynet.optim import SGD

NETS: dict[str, tuple[Callable[[], Sequential], int]] = {
    "mini": (models.alexnet_mini, 32),
    "paper": (lambda: models.alexnet("paper"), 227),
    "torchvision": (lambda: models.alexnet("torchvision"), 224),
}
TOLERANCE = 1e-4  # relative L2 error of float32 logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=NETS, default="mini")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument(
        "--repeat", type=int, default=10, metavar="R", help="steps that are timed, after one that is not"
    )
    args = parser.parse_args()

    build, image_size = NETS[args.net]
    net, loss = build(), SoftmaxCE()
    net.input_grad = False
    pictures = random.normal((3, image_size, image_size, args.batch_size), 0, "benchmark", dtype=np.float32)
    x = pictures.transpose(3, 0, 1, 2)  # the batch innermost in memory, as the loader gives it
    labels = np.arange(args.batch_size) % 10
    validate(build, net, x[:2])

    times: dict[str, list[float]] = defaultdict(list)
    optimizer = SGD(net.parameters(), lr=1e-4)
    for _ in range(args.repeat + 1):
        for name, seconds in one_step(net, loss, optimizer, x, labels):
            times[name].append(seconds)
    report(args, {name: statistics.median(values[1:]) for name, values in times.items()})


def validate(build, net, x):
    with_masks_off = net.eval().forward(x)
    exact = build().astype(np.float64).eval().forward(x.astype(np.float64))
    net.train()
    error = np.linalg.norm(with_masks_off - exact) / np.linalg.norm(exact)
    if not error < TOLERANCE:
        raise SystemExit(f"float32 and float64 logits differ by {error:.1e}, expected less than {TOLERANCE:.0e}")
    print(f"valid: float32 logits within {error:.1e} of float64 (relative L2)")


def one_step(net, loss, optimizer, x, labels):
    """(what, seconds) for each part of one training step, in its order."""

    def timed(call, *given):
        began = time.perf_counter()
        result = call(*given)
        return time.perf_counter() - began, result

    for layer in net:
        seconds, x = timed(layer.forward, x)
        yield f"{layer.name} forward", seconds
    seconds, _ = timed(loss.forward, x, labels)
    yield "loss forward", seconds
    seconds, dy = timed(loss.backward)
    yield "loss backward", seconds
    for layer in reversed(list(net)):
        seconds, dy = timed(layer.backward, dy)
        yield f"{layer.name} backward", seconds
    seconds, _ = timed(optimizer.step)
    yield "SGD step", seconds
    seconds, _ = timed(optimizer.zero_grad)
    yield "SGD zero_grad", seconds


def report(args, medians):
    total = sum(medians.values())
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        if seconds > 0.005 * total:
            print(f"{name:16} {seconds * 1e3:9.2f} ms {seconds / total:6.1%}")
    print(
        f"{args.net}, batch {args.batch_size}, {tinynet.get_num_threads()} threads: {total * 1e3:.1f} ms a step, "
        f"{args.batch_size / total:,.0f} images/s"
    )


if __name__ == "__main__":
    main()
