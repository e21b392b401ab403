"""Does a training step's time follow the arithmetic, when the batch, the threads or the pictures grow?

    python benchmarks/scaling.py --net paper

What is timed: tinynet's training steps, as in train_step.py (validated as there, too), for

- batches of 1, 2, 4, ... up to --largest-batch pictures;
- 1 and 2 threads, in turn, at --batch-size;
- pictures of half to one and a half times the net's own size, at --size-batch. fc6 fits one size alone, so this is the
  convolutional part of the net with one Linear to 10 classes behind it, made anew for each size.

Beside each time stands its time per GMAC: 10**9 multiply-accumulates of `model.macs(shape)`, those of forward. It must
not grow: rows more than 10 % above the best smaller one carry a flag. With --against torch the ratio stands there too.
"""

import sys
from argparse import Namespace
from typing import Any

import nets
import peers
import timing

GROWTH = 1.10
SIZES = 0.5, 0.75, 1.0, 1.25, 1.5
THREADS = 1, 2


def measured(args: Namespace, pair: list[peers.Peer], batch_size: int) -> list[list[float]]:
    for peer in pair:
        peer.ask("prepare", batch_size=batch_size, training=True)
    return peers.alternate(pair, "step", args.repeat, args.pause, warm_up=1)


def row(question: str, value: int, task: peers.Task, batch_size: int, seconds: list[list[float]]) -> dict[str, Any]:
    gmacs, result = task.macs * batch_size / 1e9, timing.compared(seconds)
    peak_seconds = task.operations(batch_size, training=True) / (task.sgemm_gflops * 1e9)
    share = peak_seconds / result["tinynet_s"]
    more = {"gmacs": gmacs, "s_per_gmac": result["tinynet_s"] / gmacs, "share_of_sgemm_peak": share}
    return {"question": question, "value": value, **more, **result}


def flag_growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    best = float("inf")
    for entry in rows:
        entry["grows"] = entry["s_per_gmac"] > GROWTH * best
        best = min(best, entry["s_per_gmac"])
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print(f"{'':12} {'':>5} {'GMAC':>9} {'seconds':>10} {'ms/GMAC':>9} {'of peak':>8} {'ratio':>7}")
    for entry in rows:
        ratio, share = (
            "" if entry[key] is None else format(entry[key], form)
            for key, form in (("ratio", ".2f"), ("share_of_sgemm_peak", ".1%"))
        )
        print(
            f"{entry['question']:12} {entry['value']:5} {entry['gmacs']:9.3f} {entry['tinynet_s']:10.4f} "
            f"{entry['s_per_gmac'] * 1e3:9.2f} {share:>8} {ratio:>7}"
            f"{'  grows' * entry['grows']}"
        )


def by_batch_and_threads(args: Namespace, task: peers.Task, chosen: list[tuple[str, int]]) -> list[dict[str, Any]]:
    batches = [1 << power for power in range(args.largest_batch.bit_length())]
    with peers.validated(task, chosen) as pair:
        rows = flag_growth([row("batch", N, task, N, measured(args, pair, N)) for N in batches])
    with peers.validated(task, [("tinynet", threads) for threads in THREADS]) as pair:
        times = measured(args, pair, args.batch_size)
    counted = [row("threads", T, task, args.batch_size, [s]) for T, s in zip(THREADS, times, strict=True)]
    for entry in counted:
        if entry["value"] != args.threads:
            entry["share_of_sgemm_peak"] = None  # the peak was measured with other threads
    return rows + flag_growth(counted)


def by_size(args: Namespace, task: peers.Task, chosen: list[tuple[str, int]]) -> list[dict[str, Any]]:
    rows, N = [], args.size_batch
    args.sgemm_peak = task.sgemm_gflops  # measured once
    for share in SIZES:
        size = round(share * nets.NETS[args.net].image_size)
        with peers.task(args, N, size) as small, peers.validated(small, chosen) as pair:
            rows.append(row("image size", size, small, N, measured(args, pair, N)))
    return flag_growth(rows)


def main() -> dict[str, Any]:
    parser = timing.parser(__doc__, repeat=3, against="none")
    parser.add_argument("--largest-batch", type=timing.whole, default=256, metavar="N", help="default: 256")
    parser.add_argument("--size-batch", type=timing.whole, default=32, metavar="N", help="for sizes (default: 32)")
    args = parser.parse_args()
    chosen = [(library, args.threads) for library in timing.libraries(args)]
    with peers.task(args, max(args.batch_size, args.largest_batch)) as task:
        rows = by_batch_and_threads(args, task, chosen)
        rows += by_size(args, task, chosen)
    show(rows)
    one, two = (entry["tinynet_s"] for entry in rows if entry["question"] == "threads")
    grows = [f"{entry['question']} {entry['value']}" for entry in rows if entry["grows"]]
    print(f"{args.net}, {args.threads} thread(s); two threads are {one / two:.2f} times as fast as one")
    print(f"time per GMAC grows at: {', '.join(grows) or 'none'}")
    result = {"rows": rows, "two_threads_speed_up": one / two, "grows": grows}
    return timing.finish(args, {**timing.facts(args, task), **result})


if __name__ == "__main__":
    sys.exit(timing.run(main))
