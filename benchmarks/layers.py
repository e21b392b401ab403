"""Where does a training step's time go? Each layer, forward and backward, beside PyTorch's same layer.

    python benchmarks/layers.py --net paper --batch-size 128 --against torch

What is timed: each layer alone, on random values of its shape in the net (no negative ones where a ReLU came before),
in the memory order that the net gives it: forward; backward from a given dy to dx and the parameters' gradients (no dx
of the first layer), PyTorch's by torch.autograd.grad; the loss; and SGD's step and zero_grad together. In turn, in two
processes, after one call each that does not count; caches are warmer than in a whole step. In the net, some neighbours
go in one pass over memory (tinynet.fast.neighbours), so that tinynet's step is shorter than the sum.

Before anything is timed, the net is validated as in train_step.py; then, for each layer, the root mean squares of y, dx
and the parameters' gradients at the full batch, and 500 entries of each, must be PyTorch's to 1e-3 of the root mean
square (dropout's masks differ: none of that for it). Rows whose ratio is above 1.10 and that are slower by 0.1 ms or
more carry a flag; below that, a call in Python counts for more than what it computes. The share is of the sum of
tinynet's medians.
"""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import peers
import timing

FLAG, NOTICEABLE = 1.10, 1e-4  # ratio, and seconds
TOLERANCE = 1e-3
WORTH = 0.01  # a share of the step; where a row has less, its ratio is shown but makes nothing the worst


def open_layer(pair: list[peers.Peer], name: str, batch_size: int) -> None:
    samples = [peer.ask("open_layer", name=name, batch_size=batch_size) for peer in pair]
    for other in samples[1:]:
        for which, (own, theirs) in enumerate(zip(samples[0], other, strict=True)):
            error = max(abs(a - b) for a, b in zip(own, theirs, strict=True)) / max(abs(own[0]), 1e-30)
            if not error < TOLERANCE:
                raise peers.BenchmarkError(
                    f"{name}: expected equal y, dx, gradients; number {which} of these differs by {error:.1e}"
                )


def measure(args: Namespace, pair: list[peers.Peer], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in [*names, "SGD"]:
        open_layer(pair, name, args.batch_size)
        for direction in ["step"] if name == "SGD" else ["forward", "backward"]:
            seconds = peers.alternate(pair, direction, args.repeat, args.pause, warm_up=1)
            rows.append({"name": name, "direction": direction, **timing.compared(seconds)})
    total = sum(row["tinynet_s"] for row in rows)
    for row in rows:
        row["share"] = row["tinynet_s"] / total
        row["flag"] = (
            row["ratio"] is not None and row["ratio"] > FLAG and row["tinynet_s"] - row["torch_s"] >= NOTICEABLE
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print(f"{'layer':9} {'direction':9} {'share':>6} {'tinynet ms':>11} {'torch ms':>11} {'ratio':>7}")
    for row in rows:
        line = f"{row['name']:9} {row['direction']:9} {row['share']:6.1%} {row['tinynet_s'] * 1e3:11.3f}"
        if row["ratio"] is not None:
            line += f" {row['torch_s'] * 1e3:11.3f} {row['ratio']:7.2f}{f'  > {FLAG:.2f}' * row['flag']}"
        print(line)


def main() -> dict[str, Any]:
    args = timing.parser(__doc__, repeat=5).parse_args()
    chosen = [(library, args.threads) for library in timing.libraries(args)]
    with peers.task(args, args.batch_size, peak=False) as task, peers.validated(task, chosen) as pair:
        names = list(json.loads(Path(task.folder, "net.json").read_text("utf-8"))["layers"])
        for peer in pair:
            peer.ask("prepare", batch_size=args.batch_size, training=True)
            peer.ask("note_memory_orders")
        rows = measure(args, pair, names)
    show(rows)
    sums = {key: sum(row[key] or 0 for row in rows) for key in ("tinynet_s", "torch_s")}
    result: dict[str, Any] = {"layers": rows, **sums, "ratio": None, "worst_ratio": None}
    if len(chosen) > 1:
        worst = max((row for row in rows if row["share"] >= WORTH), key=lambda row: row["ratio"])
        result |= {"ratio": sums["tinynet_s"] / sums["torch_s"], "worst_ratio": worst["ratio"]}
        result["worst"] = f"{worst['name']} {worst['direction']}"
        print(f"worst of the rows with at least {WORTH:.0%}: {result['worst']}, {result['worst_ratio']:.2f}")
    print(f"{args.net}, batch {args.batch_size}, {args.threads} thread(s): {sums['tinynet_s'] * 1e3:.1f} ms in all")
    return timing.finish(args, {**timing.facts(args, task), **result})


if __name__ == "__main__":
    sys.exit(timing.run(main))
