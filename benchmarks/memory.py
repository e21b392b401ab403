"""How much memory do training steps need, and how much do PyTorch's?

    python benchmarks/memory.py --net paper --batch-size 128 --against torch

What is measured: VmHWM, the most resident memory that a fresh process has had after it imported the library, loaded
the weights and a batch, and did one training step and then --steps more, as train_step.py has them. Nothing else
happens in that process: the validation, which is train_step.py's, has processes of its own. The ratio is tinynet's
bytes divided by PyTorch's, the median of --repeat pairs. Linux only.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import peers
import timing


def measure(task: peers.Task, library: str, threads: int, batch_size: int, steps: int) -> int:
    with peers.Peer(library, threads) as peer:
        peer.ask("load", folder=task.folder)
        peer.ask("prepare", batch_size=batch_size, training=True)
        peer.ask("time", what="step", count=steps)
        return peer.ask("peak_bytes")


def main() -> dict[str, Any]:
    parser = timing.parser(__doc__, repeat=1)
    parser.add_argument("--steps", type=timing.whole, default=3, metavar="S", help="training steps (default: 3)")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.error("needs /proc/self/status, which only Linux has")
    chosen = timing.libraries(args)
    with peers.task(args, args.batch_size, peak=False) as task:
        with peers.validated(task, [(library, args.threads) for library in chosen]):
            pass
        pairs = [
            [measure(task, library, args.threads, args.batch_size, args.steps) for library in chosen]
            for _ in range(args.repeat)
        ]
    print(f"{args.net}, batch {args.batch_size}, {args.threads} thread(s), {args.steps} training step(s)")
    result: dict[str, Any] = {"ratio": None, "tinynet_bytes": None, "torch_bytes": None}
    for library, values in zip(chosen, zip(*pairs, strict=True), strict=True):
        result[f"{library}_bytes"] = int(statistics.median(values))
        print(f"{library:8} {result[f'{library}_bytes'] / 1e6:10,.0f} MB")
    if len(chosen) > 1:
        result["ratio"], result["ratio_spread"] = timing.middle([a / b for a, b in pairs])
        print(f"ratio    {result['ratio']:10.3f}")
    return timing.finish(args, {**timing.facts(args, task), **result, "steps": args.steps})


if __name__ == "__main__":
    sys.exit(timing.run(main))
