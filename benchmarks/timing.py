"""What the benchmarks' command lines have in common: options, medians, and one comparison from start to end."""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nets
import peers

import tinynet

FEW = 8  # of fewer values the spread is the least and the most, of more the quartiles


def whole(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """A number of at least 0, for argparse."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def parser(doc: str | None, repeat: int, against: str = "torch") -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--net", choices=nets.NETS, default="mini", help="which net (default: mini)")
    made.add_argument("--batch-size", type=whole, default=128, metavar="N", help="pictures (default: 128)")
    made.add_argument("--against", choices=["torch", "none"], default=against, help=f"the peer (default: {against})")
    made.add_argument(
        "--threads", type=whole, default=tinynet.get_num_threads(), metavar="T", help="of each library (default: cores)"
    )
    made.add_argument("--repeat", type=whole, default=repeat, metavar="R", help=f"what counts (default: {repeat})")
    made.add_argument("--pause", type=number, default=0.3, metavar="S", help="before each timing (default: 0.3 s)")
    made.add_argument(
        "--check-batch",
        type=whole,
        default=32,
        metavar="N",
        help="pictures validated (default: 32, which takes the fast ways)",
    )
    made.add_argument(
        "--sgemm-peak", type=number, default=0.0, metavar="GFLOPS", help="of these threads, if it is known"
    )
    made.add_argument("--json", action="store_true", help="print all numbers as one object in the last line")
    return made


def run(main: Callable[[], dict[str, Any] | int]) -> int:
    """The exit code: main's own, if it gives one, else 0; 1 for what is wrong, 130 after Ctrl-C; argparse exits with 2
    by itself."""
    try:
        found = main()
    except peers.BenchmarkError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return found if isinstance(found, int) else 0


def libraries(args: argparse.Namespace) -> list[str]:
    """tinynet and its peer. Exits with code 2 if PyTorch is asked for and not there."""
    if args.against == "none":
        return ["tinynet"]
    if importlib.util.find_spec("torch") is None:
        print(
            f"{Path(sys.argv[0]).name}: PyTorch is not installed: pip install torch, or --against none", file=sys.stderr
        )
        raise SystemExit(2)
    return ["tinynet", "torch"]


def middle(values: Sequence[float]) -> tuple[float, list[float]]:
    """(median, [low, high]): the spread is the quartiles, or the least and the most of few values."""
    if len(values) < FEW:
        return statistics.median(values), [min(values), max(values)]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, [low, high]


def compared(seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Medians and spreads of tinynet's times, its peer's, and their ratio within each pair; None without a peer."""
    result: dict[str, Any] = {"ratio": None, "ratio_spread": None, "torch_s": None, "torch_spread": None}
    result["tinynet_s"], result["tinynet_spread"] = middle(seconds[0])
    if len(seconds) > 1:
        result["torch_s"], result["torch_spread"] = middle(seconds[1])
        result["ratio"], result["ratio_spread"] = middle([a / b for a, b in zip(*seconds, strict=True)])
    return result


def facts(args: argparse.Namespace, task: peers.Task) -> dict[str, Any]:
    """What was measured, and where."""
    here = {"benchmark": Path(sys.argv[0]).stem, "machine": machine(), "versions": task.versions}
    sizes = {key: getattr(args, key) for key in ("net", "batch_size", "threads", "repeat")}
    return {**here, **sizes, "sgemm_gflops": task.sgemm_gflops}


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def finish(args: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    if args.json:
        print(json.dumps(result))
    return result


def compare_whole_net(args: argparse.Namespace, training: bool) -> dict[str, Any]:
    """Training steps, or forward passes in evaluation mode, of tinynet and its peer in turn."""
    chosen = [(library, args.threads) for library in libraries(args)]
    with peers.task(args, args.batch_size) as task, peers.validated(task, chosen) as pair:
        for peer in pair:
            peer.ask("prepare", batch_size=args.batch_size, training=training)
        result = compared(peers.alternate(pair, "step", args.repeat, args.pause))
    peak_seconds = task.operations(args.batch_size, training) / (task.sgemm_gflops * 1e9)
    print(
        f"{args.net}, batch {args.batch_size}, {args.threads} thread(s); SGEMM peak {task.sgemm_gflops:.1f} GFLOP/s; "
        f"medians of {args.repeat}, {'quartiles' if args.repeat >= FEW else 'least and most'} in brackets"
    )
    shares = {}
    for library, _ in chosen:
        seconds, (low, high) = result[f"{library}_s"], result[f"{library}_spread"]
        shares[library] = peak_seconds / seconds
        print(
            f"{library:8} {seconds:9.4f} s ({low:.4f} to {high:.4f}) {args.batch_size / seconds:10,.1f} images/s "
            f"{shares[library]:6.1%} of the SGEMM peak"
        )
    if result["ratio"] is not None:
        print("ratio    {ratio:9.3f}   ({ratio_spread[0]:.3f} to {ratio_spread[1]:.3f})".format(**result))
    more = {"share_of_sgemm_peak": shares["tinynet"], "torch_share_of_sgemm_peak": shares.get("torch")}
    return finish(args, {**facts(args, task), **result, **more})
