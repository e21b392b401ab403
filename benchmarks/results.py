"""Run the benchmarks and write what they measured into RESULTS.md.

    python benchmarks/results.py --nets paper torchvision mini -- --threads 2

Each script is run with --json, for each net; its part of the file, between two marker comments, is then made anew. All
else in the file stays. With --only, the other parts stay too. One script at a time: give it the machine for
itself. Exit code 1 if a script failed; its part is then left as it was.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import nets
import timing

Record = dict[str, Any]
HERE = Path(__file__).parent
START = (
    "# Results\n\nMade by `benchmarks/results.py`. Times are medians; a ratio is tinynet's time divided by PyTorch's.\n"
)


def table(head: str, rows: Iterable[str]) -> str:
    """In Markdown; head, rows: the cells of a line, separated by " | "."""
    columns = head.count(" | ") + 1
    return "\n".join(f"| {line} |" for line in [head, " | ".join(["---"] * columns), *rows])


def number(value: float | None, form: str = ".3f", scale: float = 1.0) -> str:
    return "" if value is None else format(value * scale, form)


def whole_nets(runs: list[Record]) -> str:
    def line(run: Record) -> str:
        spread = "" if run["ratio"] is None else "{:.3f} to {:.3f}".format(*run["ratio_spread"])
        shares = f"{run['share_of_sgemm_peak']:.0%} | {number(run['torch_share_of_sgemm_peak'], '.0%')}"
        times = f"{run['tinynet_s']:.4f} | {number(run['torch_s'], '.4f')}"
        return f"{run['net']} | {run['batch_size']} | {times} | {number(run['ratio'])} | {spread} | {shares}"

    head = "net | batch | tinynet s | PyTorch s | ratio | spread | tinynet of SGEMM peak | PyTorch of SGEMM peak"
    return table(head, map(line, runs))


def layers(runs: list[Record]) -> str:
    def line(row: Record) -> str:
        times = f"{number(row['tinynet_s'], scale=1e3)} | {number(row['torch_s'], scale=1e3)}"
        ratio = number(row["ratio"], ".2f") + " !" * row["flag"]
        return f"{row['name']} | {row['direction']} | {row['share']:.1%} | {times} | {ratio}"

    head = "layer | direction | share | tinynet ms | PyTorch ms | ratio (! above 1.10, by 0.1 ms or more)"
    return "\n\n".join(
        f"{run['net']}, batch {run['batch_size']}:\n\n{table(head, map(line, run['layers']))}" for run in runs
    )


def memory(runs: list[Record]) -> str:
    def line(run: Record) -> str:
        megabytes = " | ".join(number(run[key], ",.0f", 1e-6) for key in ("tinynet_bytes", "torch_bytes"))
        return f"{run['net']} | {run['batch_size']} | {megabytes} | {number(run['ratio'])}"

    return table("net | batch | tinynet MB | PyTorch MB | ratio", map(line, runs))


def scaling(runs: list[Record]) -> str:
    def line(row: Record) -> str:
        per_gmac = f"{row['s_per_gmac'] * 1e3:.2f}{' !' * row['grows']}"
        where = f"{row['question']} | {row['value']} | {row['gmacs']:.3f}"
        times = f"{row['tinynet_s']:.4f} | {number(row['torch_s'], '.4f')} | {number(row['ratio'], '.2f')}"
        return f"{where} | {times} | {per_gmac} | {number(row['share_of_sgemm_peak'], '.0%')}"

    head = "what | value | GMAC forward | tinynet s | PyTorch s | ratio | tinynet ms a GMAC (! grows) | of SGEMM peak"
    return "\n\n".join(
        f"{run['net']}; two threads are {run['two_threads_speed_up']:.2f} times as fast as one:\n\n"
        + table(head, map(line, run["rows"]))
        for run in runs
    )


class Part(NamedTuple):
    """What one script, with these options, contributes."""

    title: str
    script: str
    options: list[str]
    tables: Callable[[list[Record]], str]


ONE = ["--batch-size", "1", "--check-batch", "1", "--repeat", "21"]
PARTS = {
    "train_step": Part("Training steps", "train_step", [], whole_nets),
    "inference": Part("Inference", "inference", [], whole_nets),
    "inference_of_one": Part("Inference, one picture at a time", "inference", ONE, whole_nets),
    "layers": Part("Layers", "layers", [], layers),
    "memory": Part("Peak memory of training steps", "memory", [], memory),
    "scaling": Part("Scaling", "scaling", [], scaling),
}


def written(part: Part, runs: list[Record]) -> str:
    first = runs[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    peak = f"SGEMM peak {first['sgemm_gflops']:.0f} GFLOP/s, " if first["sgemm_gflops"] else ""
    where = f"{first['machine']}; {first['threads']} thread(s), {peak}{first['repeat']} times; {versions}."
    return f"## CPU: {part.title}\n\n{where}\n\n{part.tables(runs)}\n"


def replace(text: str, name: str, inner: str, maker: str = "results.py") -> str:
    """`text` with what stands between the markers of `name` made anew; they are added at the end if not there."""
    begin, end = f"<!-- {name}: made by benchmarks/{maker} -->\n", f"<!-- end of {name} -->\n"
    if begin not in text or end not in text:
        return f"{text.rstrip()}\n\n{begin}{inner}{end}"
    before, _, rest = text.partition(begin)
    return before + begin + inner + end + rest.partition(end)[2]


def measure(script: str, net: str, options: list[str]) -> Record | None:
    command = [sys.executable, str(HERE / f"{script}.py"), "--net", net, "--json", *options]
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=nets.NETS, default=list(nets.NETS))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument("--file", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("options", nargs="*", help="of the scripts, after --: such as -- --threads 2 --batch-size 64")
    args = parser.parse_args()
    failed = []
    peak: list[str] = []  # of SGEMM: measured once, for all parts
    for name in args.only:
        part = PARTS[name]
        runs = []
        for net in args.nets:
            run = measure(part.script, net, [*args.options, *peak, *part.options])
            if run and run["sgemm_gflops"] and not peak:
                peak = ["--sgemm-peak", str(run["sgemm_gflops"])]
            runs += [run] if run else []
        if len(runs) < len(args.nets):
            failed.append(name)
            continue
        text = args.file.read_text("utf-8") if args.file.exists() else START
        args.file.write_text(replace(text, f"cpu {name}", written(part, runs)), "utf-8")
    print(f"{args.file}: written {len(args.only) - len(failed)} parts; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(timing.run(main))
