"""What was measured on GPUs: the files benchmarks/results/gpu-<name>.json, and their part of RESULTS.md.

    python benchmarks/gpu_report.py

makes that part anew from the files, all else in RESULTS.md stays. benchmarks/gpu.py does the same at its end.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import results

Record = dict[str, Any]
OWN = "tinynet"
SAME = "precision", "net", "batch_size", "layer", "direction"
HERE = Path(__file__).parent
NONE_YET = "## GPU\n\nNo GPU has been measured yet: `python benchmarks/gpu.py` does it, on any machine that has one.\n"


def file_of(folder: Path, gpu: str) -> Path:
    return folder / "results" / f"gpu-{re.sub('[^A-Za-z0-9]+', '-', gpu).strip('-')}.json"


def write(folder: Path, record: Record) -> Path:
    """The record's file, written aside and renamed: there is always a whole one."""
    path = file_of(folder, record["gpu"])
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    os.replace(aside, path)
    return path


def write_tables(folder: Path) -> None:
    """RESULTS.md in `folder`, its GPU part made anew."""
    path = folder / "RESULTS.md"
    text = path.read_text("utf-8") if path.exists() else results.START
    path.write_text(results.replace(text, "gpu", part(folder), "gpu.py"), "utf-8")


def part(folder: Path) -> str:
    """The GPU part of RESULTS.md, in Markdown."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted((folder / "results").glob("gpu-*.json"))]
    return "\n".join(map(tables, records)) or NONE_YET


def line(row: Record) -> str:
    """A row of times, for the terminal."""
    what = f"{row['net']:12} {row['batch_size']:5} {row['precision']:7} {row['layer']:8} {row['direction']:9}"
    rate = f"{row['flops'] / row['s'] / 1e12:8.2f} TFLOP/s" if row["flops"] else " " * 16
    share = "" if row["floor_s"] is None else f"{row['floor_s'] / row['s']:6.0%} of the roofline"
    memory = f"  {row['peak_bytes'] / 1e9:.2f} GB" if "peak_bytes" in row else ""
    return f"time   {what} {row['who']:24} {row['s'] * 1e3:10.3f} ms {rate} {share}{memory}"


def check_line(row: Record) -> str:
    found = "  ".join(f"{key.strip()} {error:.1e}" for key, error in row["errors"].items())
    where = f"check  {row['net']:12} {row['batch_size']:5} {row['precision']:7} {row['layer']:8}"
    return f"{where} {found}{'  WRONG: ' + ', '.join(row['wrong']) if row['wrong'] else ''}"


def comparisons(times: Iterable[Record]) -> Iterator[tuple[Record, Record | None]]:
    """(tinynet's row, the fastest of PyTorch's for the same, or None): of each, the fastest of several. What tf32x3 is
    compared with is PyTorch's strict fp32."""
    own: dict[tuple, Record] = {}
    theirs: dict[tuple, Record] = {}
    for row in times:
        rows, key = (own if row["who"].startswith(OWN) else theirs), [row[name] for name in SAME]
        key[0] = "fp32" if rows is theirs and key[0] == "tf32x3" else key[0]
        rows[tuple(key)] = min(rows.get(tuple(key), row), row, key=lambda r: r["s"])
    for (precision, *rest), row in own.items():
        yield row, theirs.get(("fp32" if precision == "tf32x3" else precision, *rest))


def cells(own: Record, peer: Record | None) -> str:
    """ms | PyTorch ms | which | ratio | TFLOP/s | of the roofline"""
    rate = results.number(own["flops"] / own["s"] if own["flops"] else None, ".1f", 1e-12)
    share = results.number(None if own["floor_s"] is None else own["floor_s"] / own["s"], ".0%")
    theirs = f"{peer['s'] * 1e3:.3f} | {peer['who']} | {own['s'] / peer['s']:.2f}" if peer else " |  | "
    return f"{own['s'] * 1e3:.3f} | {theirs} | {rate} | {share}"


def step_table(times: list[Record]) -> str:
    def row(own: Record, peer: Record | None) -> str:
        memory = [results.number((r or {}).get("peak_bytes"), ".2f", 1e-9) for r in (own, peer)]
        what = f"{own['net']} | {own['batch_size']} | {own['precision']} | {own['who']}"
        return f"{what} | {cells(own, peer)} | {' | '.join(memory)}"

    head = "net | batch | precision | fastest of ours | ms | PyTorch ms | its fastest setting | ratio | TFLOP/s"
    head += " | of the roofline | GB | PyTorch GB"
    return results.table(head, [row(*pair) for pair in comparisons(r for r in times if r["layer"] == "step")])


def layer_tables(times: list[Record]) -> str:
    rows = [row for row in times if row["layer"] != "step"]
    head = "layer | direction | precision | ms | PyTorch ms | its fastest setting | ratio | TFLOP/s | of the roofline"
    texts = []
    for net, batch_size in dict.fromkeys((row["net"], row["batch_size"]) for row in rows):
        chosen = [row for row in rows if (row["net"], row["batch_size"]) == (net, batch_size)]
        lines = [
            f"{own['layer']} | {own['direction']} | {own['precision']} | {cells(own, peer)}"
            for own, peer in comparisons(chosen)
        ]
        texts.append(f"{net}, batch {batch_size}, each layer alone:\n\n{results.table(head, lines)}")
    return "\n\n".join(texts)


def settings_table(times: list[Record]) -> str:
    """All that was measured of whole steps, in ms: a line for each setting."""
    rows = [row for row in times if row["layer"] == "step"]
    columns = list(dict.fromkeys((row["net"], row["batch_size"]) for row in rows))
    kinds = list(dict.fromkeys((row["precision"], row["who"]) for row in rows))
    found = {(row["precision"], row["who"], row["net"], row["batch_size"]): row["s"] for row in rows}
    lines = [
        " | ".join([*kind, *(results.number(found.get((*kind, *column)), ".3f", 1e3) for column in columns)])
        for kind in kinds
    ]
    head = " | ".join(["precision", "setting", *(f"{net} {batch_size}" for net, batch_size in columns)])
    return results.table(head, lines)


def checked(record: Record) -> str:
    rows = record["checks"]
    wrong = [f"{r['net']} {r['layer']} in {r['precision']}: {', '.join(r['wrong'])}" for r in rows if r["wrong"]]
    worst = {
        precision: max(e for r in rows if r["precision"] == precision and r["layer"] != "step" for e in [max_of(r)])
        for precision in dict.fromkeys(r["precision"] for r in rows if r["layer"] != "step")
    }
    errors = ", ".join(f"{precision} {error:.1e}" for precision, error in worst.items())
    return f"{len(rows)} checks against float64, seed {record['seed']}: {len(wrong)} wrong{': ' * bool(wrong)}" + (
        f"{'; '.join(wrong)}. Largest errors of a layer: {errors or 'none measured'}."
    )


def max_of(row: Record) -> float:
    return max(row["errors"].values())


def tables(record: Record) -> str:
    """All of one GPU, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    ceilings = ", ".join(
        f"{name} {value / 1e12:.2f} {'TB/s' if name == 'bandwidth' else 'TFLOP/s'}"
        for name, value in record["ceilings"].items()
    )
    tests = record["tests"].get("summary", "not run")
    sanitizer = "; ".join(f"{tool}: {found['summary']}" for tool, found in record["sanitizer"].items()) or "not run"
    split = [
        f"{row['devices']} | {row['batch_size']} | {row['s'] * 1e3:.3f} | {row['speed_up']:.2f}"
        for row in record["devices"]
    ]
    sections = [
        f"## GPU: {record['gpu']}",
        f"{versions}; medians of {record['repeat']} rounds. A ratio is tinynet's time divided by PyTorch's fastest in "
        "the same precision (fp32 and tf32x3: its strict fp32; tf32 also its default, TF32 in convolutions alone). GB: "
        "what our memory pool holds, and the most that PyTorch's arrays took.",
        f"{checked(record)} Tests on the device: {tests}. compute-sanitizer: {sanitizer}.",
        f"Ceilings measured in the same run: {ceilings or 'none'}.",
        "Training steps:",
        step_table(record["times"]),
        "All settings, ms a step:",
        settings_table(record["times"]),
        layer_tables(record["times"]),
        "The paper's net on several devices:",
        results.table("devices | batch | ms | speed-up over one", split) if split else "Not measured.",
        f"Not measured: {'; '.join(record['left_out']) or 'nothing is missing'}.",
        f"Failed: {'; '.join(record['failed']) or 'nothing'}.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


if __name__ == "__main__":
    write_tables(HERE)
    sys.exit(0)
