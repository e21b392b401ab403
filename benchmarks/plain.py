"""What plain mode costs: a training step of the small AlexNet by the layers' own lines and by their twins, in turn.

python benchmarks/plain.py
python benchmarks/plain.py --batch-size 32 --repeat 20
"""

import argparse
import statistics
import time

import numpy as np
import timing

import tinynet
from tinynet.losses import SoftmaxCE
from tinynet.models import alexnet_mini
from tinynet.optim import SGD
from tinynet.training.step import TrainingStep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=timing.whole, default=128, metavar="N", help="pictures (default: 128)")
    parser.add_argument("--repeat", type=timing.whole, default=10, metavar="R", help="pairs that count (default: 10)")
    args = parser.parse_args()
    net = alexnet_mini()
    step = TrainingStep(net, SoftmaxCE(), SGD(net.parameters()))
    x = np.random.default_rng(0).normal(size=(args.batch_size, 3, 32, 32)).astype(np.float32)
    labels = np.arange(args.batch_size) % 10
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(args.repeat + 1):
        for plain, times in seconds.items():
            with tinynet.plain(plain):
                begin = time.perf_counter()
                step(x, labels, number).read()
                times.append(time.perf_counter() - begin)
    by_lines, by_twins = (times[1:] for times in seconds.values())  # the first pair compiles
    ratio = statistics.median(a / b for a, b in zip(by_lines, by_twins, strict=True))
    print(f"{timing.machine()}; batch {args.batch_size}, {tinynet.get_num_threads()} thread(s), {args.repeat} pairs")
    print(f"plain {statistics.median(by_lines):.3f} s, fast {statistics.median(by_twins):.3f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
