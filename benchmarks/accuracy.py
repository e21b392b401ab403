"""How good, and how fast, are the runs that the README shows? Each is examples/train_alexnet.py itself, in a process of
its own, with several seeds; the table gives mean and spread of the top-1 error, the time and the memory. A run's aim is
met if the mean over the seeds meets it. One epoch of the paper's net has no such aim: its error is that of guessing,
and what is shown is that the run ends, in how much time and memory.

    python benchmarks/accuracy.py --data-dir DIR --seeds 0 1 2 --table accuracy.md

DIR holds cifar-10/ (the original files), photos/ and photos-varied/ (folders of class folders), fashion-mnist/; a run
whose data is not there is left out, and the table says so. One run at a time: give it the machine for itself. Linux and
macOS only, for the memory is what the system says of a child that ended. Exit code 1 if an aim was missed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

import tinynet

PROGRAM = Path(__file__).parents[1] / "examples" / "train_alexnet.py"


class Run(NamedTuple):
    """options: of the program, {data} and {before} standing for the data's folder and the folder of run `before`;
    at_most: the top-1 error aimed at, None if it only has to end well."""

    options: str
    data: str
    at_most: float | None
    before: str = ""
    gigabytes: float | None = None  # at most


RUNS = {
    "shapes": Run("", "", 0.15),
    "fashion-mnist": Run("--data fashion-mnist --data-dir {data}", "fashion-mnist", 0.13),
    "cifar-10": Run("--data cifar-10 --data-dir {data} --val-size 1000", "cifar-10", 0.45),
    "photos": Run("--data {data} --model alexnet_mini --image-size 64", "photos", 0.55),
    "photos-varied, fine-tuned": Run(
        "--data {data} --model alexnet_mini --image-size 64 --pretrained {before}/weights.safetensors "
        "--batch-size 16 --epochs 60 --weight-decay 0.03 --augment mirror",
        "photos-varied",
        0.35,
        before="photos",
    ),
    "paper's net, one epoch": Run("--data {data} --epochs 1 --batch-size 32", "photos", None, gigabytes=6.0),
}


def one(run: Run, data_dir: Path, out: Path, before: Path, seed: int) -> dict[str, Any]:
    """Errors as fractions, seconds of the whole program and of training, gigabytes (10**9 bytes) at most."""
    places = {"data": data_dir / run.data, "before": before}
    options = [option.format(**places) for option in run.options.split()]
    command = [sys.executable, str(PROGRAM), *options, "--seed", str(seed), "--out", str(out), "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"expected exit code 0, got {process.returncode} from {' '.join(command)}")
    last = json.loads((out / "log.jsonl").read_text("utf-8").splitlines()[-1])
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9  # macOS counts bytes
    return {
        **{"top1_error": last["val_top1_error"], "top5_error": last["val_top5_error"], "epochs": last["epochs"]},
        **{"training_seconds": last["seconds"], "seconds": seconds, "gigabytes": memory, "seed": seed},
    }


def available(name: str, data_dir: Path) -> bool:
    run = RUNS[name]
    here = not run.data or (data_dir / run.data).is_dir()
    return here and (not run.before or available(run.before, data_dir))


def missed(run: Run, results: list[dict[str, Any]]) -> bool:
    """The mean error over the seeds is above the aim, or one of them took more memory."""
    error = statistics.mean(result["top1_error"] for result in results)
    most = max(result["gigabytes"] for result in results)
    return (run.at_most is not None and error > run.at_most) or (run.gigabytes is not None and most > run.gigabytes)


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """In Markdown."""
    machine = (
        f"{os.cpu_count()} cores, {tinynet.get_num_threads()} threads, Python {platform.python_version()}, NumPy "
        f"{np.__version__}, numba {numba.__version__}, tinynet {tinynet.__version__}"
    )
    lines = [
        machine,
        "",
        "| run | aimed at | top-1 error: mean (least to most) | top-5 | epochs | seeds | training | in all | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        aim = RUNS[name].at_most
        wanted = "ends (error: chance)" if aim is None else f"≤ {aim:.0%}"
        if not runs:
            lines.append(f"| {name} | {wanted} | not measured: no data | | | | | | |")
            continue
        errors = [run["top1_error"] for run in runs]
        lines.append(
            f"| {name} | {wanted} | {statistics.mean(errors):.1%} ({min(errors):.1%} to {max(errors):.1%}) "
            f"| {statistics.mean(run['top5_error'] for run in runs):.1%} | {runs[0]['epochs']} "
            f"| {', '.join(str(run['seed']) for run in runs)} "
            f"| {statistics.median(run['training_seconds'] for run in runs):.0f} s "
            f"| {statistics.median(run['seconds'] for run in runs):.0f} s "
            f"| {max(run['gigabytes'] for run in runs):.2f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these runs, and those they need")
    parser.add_argument("--keep", type=Path, help="keep the runs' folders here")
    parser.add_argument("--table", type=Path, help="write the table to this file too")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    wanted = {*args.only, *(RUNS[name].before for name in args.only)}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS if name in wanted}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for seed in args.seeds:
            for name in results:
                run, place = RUNS[name], folder / f"seed-{seed}"
                if not available(name, args.data_dir):
                    continue
                results[name].append(one(run, args.data_dir, place / name, place / run.before, seed))
                print(f"{name}: {results[name][-1]}", file=sys.stderr, flush=True)
    text = table(results)
    print(text)
    if args.table:
        args.table.write_text(text, "utf-8")
    failed = [name for name, runs in results.items() if runs and missed(RUNS[name], runs)]
    absent = [name for name, runs in results.items() if not runs]
    print(f"missed: {', '.join(failed) or 'none'}; not measured: {', '.join(absent) or 'none'}")
    if args.json:
        print(json.dumps(results))
    return 1 if failed or absent else 0


if __name__ == "__main__":
    sys.exit(main())
