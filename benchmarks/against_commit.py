"""Is tinynet as fast as it was? This checkout beside an earlier commit of it, in turn, in the same run.

    python benchmarks/against_commit.py --base v0.1.0
    python benchmarks/against_commit.py --base HEAD~20 --nets mini --only train_step --repeat 40

The earlier commit is checked out into a temporary folder, and its own worker runs there with its own package, so moved
files and other names do not matter. Both get the same net, weights and batch, and both must first give the float64
oracle's logits and gradients. Then they take turns: training steps, and forward passes in evaluation mode.

The ratio is this checkout's time divided by the earlier commit's within each pair: above 1, it became slower. Its
median is printed with a 95 % interval for the median, by the order statistics of the pairs (a binomial count, no
assumption about how times are distributed). Exit code 1 if the interval's lower end is above --allowed: then it is
slower by more than noise explains.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import checkout
import nets
import peers
import timing

import tinynet

KINDS = {"train_step": True, "inference": False}  # training or not


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics, symmetric, that holds the true median with a probability of at least
    95 %: from the k-th value to the k-th from above, P = 1 - 2 * P(Binomial(n, 1/2) < k)."""
    n, ordered = len(values), sorted(values)
    below, k = 0.0, 0
    while below + math.comb(n, k) / 2**n <= 0.025:
        below += math.comb(n, k) / 2**n
        k += 1
    if k == 0:
        raise peers.BenchmarkError(f"expected at least 6 pairs for an interval of 95 %, got {n}")
    return ordered[k - 1], ordered[n - k]


@contextmanager
def earlier(base: str) -> Iterator[Path]:
    """A folder that holds the commit `base`, for as long as the `with` statement lasts."""
    with tempfile.TemporaryDirectory(prefix="tinynet-earlier-") as folder:
        archive = ["git", "-C", str(checkout.ROOT), "archive", "--format=tar", base]
        found = subprocess.run(archive, capture_output=True, check=False)
        if found.returncode:
            raise peers.BenchmarkError(
                f"expected --base to name a commit, got {base!r}: {found.stderr.decode().strip()}"
            )
        subprocess.run(["tar", "-x", "-C", folder], input=found.stdout, check=True)
        yield Path(folder)


def compare(args: argparse.Namespace, net: str, root: Path) -> Iterator[dict[str, Any]]:
    """One record for each kind of pass that was asked for."""
    one = argparse.Namespace(**vars(args), net=net, check_batch=32, sgemm_peak=1.0)
    with (
        peers.task(one, args.batch_size, peak=False) as task,
        peers.validated(task, [("tinynet", args.threads)] * 2, [None, root]) as pair,
    ):
        for kind in args.only:
            for peer in pair:
                peer.ask("prepare", batch_size=args.batch_size, training=KINDS[kind])
            now, then = peers.alternate(pair, "step", args.repeat, args.pause)
            ratios = [a / b for a, b in zip(now, then, strict=True)]
            medians = [timing.middle(values)[0] for values in (now, then, ratios)]
            yield {"net": net, "kind": kind, "medians": medians, "interval": interval(ratios)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, metavar="COMMIT", help="the earlier commit")
    parser.add_argument("--nets", nargs="+", choices=nets.NETS, default=list(nets.NETS), help="(default: all)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="(default: both)")
    parser.add_argument("--batch-size", type=timing.whole, default=128, metavar="N", help="pictures (default: 128)")
    parser.add_argument("--threads", type=timing.whole, default=tinynet.get_num_threads(), metavar="T")
    parser.add_argument("--repeat", type=timing.whole, default=20, metavar="R", help="pairs that count (default: 20)")
    parser.add_argument("--pause", type=timing.number, default=0.3, metavar="S", help="before each timing (0.3 s)")
    parser.add_argument("--allowed", type=timing.number, default=1.03, metavar="RATIO", help="(default: 1.03)")
    args = parser.parse_args()
    interval(range(args.repeat))  # too few pairs are refused before time is spent
    print(f"{timing.machine()}; batch {args.batch_size}, {args.threads} thread(s), {args.repeat} pairs", flush=True)
    slower = 0
    with earlier(args.base) as root:
        for net in args.nets:
            for record in compare(args, net, root):
                now, then, ratio = record["medians"]
                low, high = record["interval"]
                slower += low > args.allowed
                print(
                    f"{net:12} {record['kind']:10} now {now:8.4f} s, {args.base} {then:8.4f} s, ratio {ratio:.3f} "
                    f"({low:.3f} to {high:.3f}){'  SLOWER' if low > args.allowed else ''}",
                    flush=True,
                )
    return int(slower > 0)


if __name__ == "__main__":
    sys.exit(timing.run(main))
