"""Everything about tinynet on this GPU, in one command of less than eight minutes.

    python benchmarks/gpu.py

In this order, as far as --budget allows: each layer of the nets in each precision that this GPU has and whole steps
against float64, with fresh random numbers; the tests of tests/gpu on the real GPU; its kernels under compute-sanitizer,
where that is there and can be used; the ceilings of this GPU. Then times, beside PyTorch in its best settings if it is
installed with CUDA: training steps of every batch size, layers, steps as CUDA graphs, towers on `0,0` and on two GPUs,
PyTorch's nets by torch.compile. So what is left out when time is over is compiled steps, and layers of the largest
batches; it is named.

What works on the GPU is a process of its own, which is started again after a crash, a hang or no memory: what failed is
named, and the rest goes on. Written after each part: results/gpu-<name>.json; at the end the tables in RESULTS.md. The
machine needs tinynet's sources, not its installation. Exit codes: 0; 1 if a check, a test or the sanitizer found
something wrong, or a check could not be made; 3 where no GPU can be used.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import checkout  # noqa: F401 - first, so that all others find tinynet
import gpu_devices
import gpu_peer
import gpu_report
import gpu_runner
import gpu_suite
import nets
import peers
import timing

NO_GPU = 3
PRECISIONS = "fp32", "tf32x3", "tf32", "bf16"
SHORTEST = 5  # seconds: nothing is begun with less
STEP_CHECK_BATCH = 32  # from 32 pictures on, ReLU, LRN and pooling are one pass
Found = dict[str, Any]


class Job(NamedTuple):
    """run(limit in seconds) gives what goes into the record: {"times": rows, ...}."""

    title: str
    run: Callable[[float], Found]
    limit: float = 120


def against(precision: str, compiled: bool = False) -> list[str]:
    """PyTorch's settings that a precision is compared with."""
    wanted = {"tf32x3": "fp32"}.get(precision, precision)  # as exact
    return [
        name
        for name, setting in gpu_peer.SETTINGS.items()
        if setting.precision == wanted and (setting.way == "compiled") == compiled
    ]


def plan(args: argparse.Namespace, about: Found, record: Found, worker: gpu_runner.Worker) -> Iterator[Job]:
    """The jobs, in the order in which they are worth their time."""
    where, peer_where = about["where"], about["peer_where"]
    both, no_peer = {"where": where, "peer_where": peer_where}, about["no_peer"]

    def ask(verb: str, **given: Any) -> Callable[[float], Found]:
        return lambda limit: worker.ask(verb, limit, **given)

    def times(what: str, net: str, batch_size: int, precision: str, settings: list[str]) -> Job:
        def run(limit: float) -> Found:  # the ceilings are known only when it runs
            sizes = {"net": net, "batch_size": batch_size, "precision": precision, "repeat": args.repeat}
            chosen = {"against": [] if no_peer else settings, "ceilings": record["ceilings"]}
            return worker.ask("times", limit, what=what, **both, **sizes, **chosen)

        compiled = " compiled" if any("compiled" in name for name in settings) else ""
        return Job(f"{what}{compiled}, {net} at {batch_size} in {precision}", run)

    for net in args.nets:
        sizes = {"where": where, "net": net, "batch_size": args.check_batch, "seed": args.seed}
        yield Job(f"check layers of {net}", ask("check_layers", precisions=list(args.precisions), **sizes), 240)
        yield Job(f"check a step of {net}", ask("check_step", **{**sizes, "batch_size": STEP_CHECK_BATCH}), 240)
    if args.suite:
        yield Job("tests on the device", lambda limit: {"tests": gpu_suite.device_tests(limit)}, 200)
        for tool in gpu_suite.TOOLS:
            yield Job(f"{gpu_suite.SANITIZER} {tool}", _sanitizer(tool, where), 45)
    yield Job("ceilings", ask("ceilings", **both, no_peer=no_peer))
    smallest, *larger = sorted(args.batch_sizes)
    every = [(net, precision) for net in args.nets for precision in args.precisions]
    for batch_size in (smallest, *larger):
        for net, precision in every:
            yield times("steps", net, batch_size, precision, against(precision))
    for net, precision in every:
        yield times("layers", net, smallest, precision, _plain(precision))
    for net, precision in every:
        yield times("recorded", net, smallest, precision, [])
    if "paper" in args.nets:
        yield Job("towers", lambda limit: _towers(worker, limit, about["count"], where, smallest))
    for batch_size in (smallest, *larger):
        for net, precision in every if batch_size != smallest else []:
            yield times("layers", net, batch_size, precision, _plain(precision))
        for net, precision in every if not no_peer else []:
            if precision != "tf32x3":  # the same of PyTorch as fp32
                yield times("steps", net, batch_size, precision, against(precision, compiled=True))


def _plain(precision: str) -> list[str]:
    """What layers are compared with, one by one: no graphs."""
    return [name for name in against(precision) if gpu_peer.SETTINGS[name].way == "eager"]


def _sanitizer(tool: str, where: str) -> Callable[[float], Found]:
    def run(limit: float) -> Found:
        found = gpu_suite.sanitized(tool, where, limit)
        missing = [f"{gpu_suite.SANITIZER} {tool} ({found['summary']})"] if found["passed"] is None else []
        return {"sanitizer": {tool: found}, "left_out": missing}

    return run


def _towers(worker: gpu_runner.Worker, limit: float, count: int, where: str, batch_size: int) -> Found:
    if not gpu_devices.can_split():
        raise peers.BenchmarkError("not measured: this tinynet's alexnet has no devices=")
    choices = [[where], [where, where], *([["cuda:0", "cuda:1"]] if count > 1 else [])]
    missing = [] if count > 1 else ["two GPUs: this machine has one"]
    return {**worker.ask("devices", limit, batch_size=batch_size, choices=choices), "left_out": missing}


def take(record: Found, found: Found) -> None:
    """Put what a job found into the record."""
    for key, value in found.items():
        if isinstance(value, dict):
            record[key].update(value)
        else:
            record[key] += value
            for row in value:
                print({"times": gpu_report.line, "checks": gpu_report.check_line}.get(key, str)(row), flush=True)
    for key in found.keys() & {"tests", "sanitizer", "ceilings"}:
        print(f"{key:9} {found[key]}", flush=True)


def run(jobs: Iterator[Job], record: Found, budget: gpu_runner.Budget, folder: Path) -> None:
    """Each job as long as there is time; the record is written after each."""
    for job in jobs:
        began, left = time.monotonic(), budget.left()
        if left < SHORTEST:
            record["left_out"].append(f"{job.title} (no time left)")
            continue
        print(f"-- {job.title}", file=sys.stderr, flush=True)
        try:
            take(record, job.run(min(job.limit, left)))
        except Exception as error:  # a section that fails does not lose the rest
            cut = budget.left() <= 0
            record["left_out" if cut else "failed"].append(f"{job.title}: {error}")
            print(f"{job.title}: {error}", file=sys.stderr, flush=True)
        record["took_s"][job.title] = round(time.monotonic() - began, 1)
        gpu_report.write(folder, record)


def wrong(record: Found) -> list[str]:
    """What makes the exit code 1."""
    found = [gpu_report.check_line(row) for row in record["checks"] if row["wrong"]]
    found += [title for title in (*record["failed"], *record["left_out"]) if title.startswith("check ")]
    found += [f"tests: {record['tests']['summary']}"] if record["tests"].get("passed") is False else []
    return found + [f"{tool}: {f['summary']}" for tool, f in record["sanitizer"].items() if f["passed"] is False]


def leave_out(args: argparse.Namespace, about: Found) -> list[str]:
    """Takes the precisions that this GPU has not out of args.precisions, and gives them."""
    missing = [precision for precision in args.precisions if precision not in about["precisions"]]
    args.precisions = [precision for precision in args.precisions if precision not in missing]
    return missing


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=nets.NETS, default=["paper", "torchvision"])
    parser.add_argument("--batch-sizes", nargs="+", type=timing.whole, default=[128, 256, 1024], metavar="N")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--check-batch", type=timing.whole, default=128, metavar="N", help="(default: 128)")
    parser.add_argument("--repeat", type=timing.whole, default=7, metavar="R", help="rounds (default: 7)")
    parser.add_argument("--seed", type=int, default=None, help="of the checks' numbers (default: another each time)")
    parser.add_argument("--budget", type=timing.number, default=480, metavar="S", help="seconds (default: 480)")
    parser.add_argument("--device", type=int, default=0, metavar="K", help="which GPU (default: 0)")
    parser.add_argument("--peer-device", choices=["cpu"], help="of PyTorch, to try the script (default: the GPU)")
    parser.add_argument("--no-suite", dest="suite", action="store_false", help="no tests, no sanitizer")
    parser.add_argument("--one-process", action="store_true", help="for a debugger: a crash ends all of it")
    parser.add_argument("--out", type=Path, default=gpu_report.HERE, metavar="DIR", help="(default: benchmarks)")
    args = parser.parse_args()
    args.seed = secrets.randbits(32) if args.seed is None else args.seed
    return args


def main() -> int:
    args, began = parse(), time.monotonic()
    worker: gpu_runner.Worker = gpu_runner.Here() if args.one_process else gpu_runner.Process()
    where = f"cuda:{args.device}"
    places = {"where": where, "peer_where": args.peer_device or where}
    try:
        about = {**worker.ask("describe", args.budget or SHORTEST, **places), **places}
        if "missing" in about:
            print(f"gpu.py: {about['missing']}", file=sys.stderr)
            return NO_GPU
        record: Found = {"gpu": about["gpu"], "versions": about["versions"], "seed": args.seed, "repeat": args.repeat}
        record |= {"ceilings": {}, "tests": {}, "sanitizer": {}, "took_s": {}}
        record |= {key: [] for key in ("checks", "times", "devices", "left_out", "failed")}
        record["left_out"] += [f"PyTorch ({about['no_peer']})"] if about["no_peer"] else []
        record["left_out"] += [
            f"{precision} (this GPU has no such tensor cores)" for precision in leave_out(args, about)
        ]
        print(f"{about['gpu']}; seed {args.seed}; {about['versions']}", flush=True)
        run(plan(args, about, record, worker), record, gpu_runner.Budget(args.budget, began), args.out)
    finally:
        worker.close()
    path = gpu_report.write(args.out, record)
    gpu_report.write_tables(args.out)
    problems = wrong(record)
    print("\n".join([gpu_report.tables(record), *(f"WRONG {problem}" for problem in problems)]))
    print(f"{path}: {len(record['checks'])} checks, {len(problems)} problems, {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(timing.run(main))
