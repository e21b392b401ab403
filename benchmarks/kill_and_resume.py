"""Does a run that is killed, again and again, at random moments, end like the run that was never stopped?

Each trial trains alexnet_mini (augmentation, a prefetching worker, dropout, momentum, a schedule) in a process of its
own that writes a checkpoint after every step; kills it by SIGKILL at a random moment, resumes it, perhaps kills it
again, and lets it end. Then weights and checkpoint must be those of the straight run to the bit, and the log too but
for the times and for what the run notes of its date and command line. A run killed before its first checkpoint must be
refused by resume, and is started anew.

    python benchmarks/kill_and_resume.py --runs 50
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tinynet import data
from tinynet.io.checkpoints import load_metadata, load_weights, read_checkpoint
from tinynet.models import alexnet_mini
from tinynet.optim import SGD, StepLR
from tinynet.training.provenance import without_provenance
from tinynet.training.trainer import Trainer

EPOCHS, TRAIN, BATCH = 3, 200, 16
STEPS = EPOCHS * -(-TRAIN // BATCH)
TIMES = "seconds", "images_per_second"
NO_CHECKPOINT = 3  # exit code of a child that was asked to resume and found no checkpoint
FRESH_START = 4  # of one that did other steps than those after the checkpoint


def child(folder: Path, resume: bool) -> int:
    train_set, val_set = data.load("shapes", train_size=TRAIN, validation_size=100)
    mean, std = data.channel_statistics(train_set)
    model = alexnet_mini()
    optimizer = SGD(model.parameters(), 0.003)
    view = data.Augment(32, padding=4)
    run = Trainer(
        model,
        optimizer,
        data.Loader(train_set, BATCH, mean=mean, std=std, view=view, workers=1),
        data.Loader(val_set, 50, mean=mean, std=std, shuffle=False),
        epochs=EPOCHS,
        schedule=StepLR(optimizer, 2),
        out=folder,
        checkpoint_minutes=1e-9,
        quiet=True,
    )
    before = read_checkpoint(folder).state["step"] if resume and work_done(folder) >= 0 else 0
    one_step, steps = run._one_step, []
    run._one_step = lambda x, labels: steps.append(0) or one_step(x, labels)  # type: ignore[method-assign, func-returns-value]
    try:
        run.fit(resume=folder if resume else None)
    except FileNotFoundError:
        return NO_CHECKPOINT
    return 0 if len(steps) == STEPS - before else FRESH_START


def start(folder: Path, resume: bool) -> subprocess.Popen:
    command = [sys.executable, __file__, "--child", str(folder), *(["--resume"] if resume else [])]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def outcome(folder: Path) -> tuple[object, ...]:
    """What two equal runs have in common, to the bit; their date and command line they have not."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    log = [{key: value for key, value in without_provenance(record).items() if key not in TIMES} for record in records]
    newest = read_checkpoint(folder)
    tensors = {name: array.tobytes() for name, array in newest.tensors.items()}
    weights = {name: (array.dtype, array.shape, array.tobytes()) for name, array in load_weights(folder).items()}
    return log, tensors, newest.state["schedule"], weights, without_provenance(load_metadata(folder))


def trial(folder: Path, draw: random.Random, start_seconds: float, work_seconds: float) -> dict[str, int]:
    """One run, killed one to three times. Gives counts of what happened.

    One kill in six comes at any moment of starting up, of `start_seconds`; the others while the program trains, writes
    and measures, which it does for `work_seconds` if nobody stops it.
    """
    counts = {"kills": 0, "while writing": 0, "before the first checkpoint": 0, "too late": 0}
    resume = False
    for _ in range(draw.randint(1, 3)):
        before, torn = work_done(folder), set(folder.rglob(".*.tmp"))
        process = start(folder, resume)
        if draw.random() < 1 / 6:
            time.sleep(draw.uniform(0, start_seconds))
        else:
            while process.poll() is None and work_done(folder) == before:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, work_seconds * (1 - before / STEPS)))
        if process.poll() is None:
            process.kill()
            counts["kills"] += 1
        code = process.wait()
        counts["while writing"] += bool(set(folder.rglob(".*.tmp")) - torn)
        counts["too late"] += code == 0
        if code == NO_CHECKPOINT:
            counts["before the first checkpoint"] += 1
            shutil.rmtree(folder, ignore_errors=True)
        resume = folder.exists()
    code = start(folder, resume).wait()
    if code == NO_CHECKPOINT:
        counts["before the first checkpoint"] += 1
        shutil.rmtree(folder)
        code = start(folder, False).wait()
    if code:
        raise RuntimeError(f"{folder}: expected exit code 0, got {code}")
    return counts


def work_done(folder: Path) -> int:
    """Steps until the newest checkpoint, -1 before the first."""
    names = sorted(path.name for path in folder.glob("checkpoints/step-*.safetensors"))
    return int(names[-1][5:14]) if names else -1


def kill_and_resume(runs: int, seed: int) -> dict[str, int]:
    """Raises RuntimeError for a run that does not end, or ends otherwise than the straight one. Gives the counts."""
    draw, total = random.Random(seed), {"runs": 0}
    with tempfile.TemporaryDirectory() as scratch:
        straight = Path(scratch, "straight")
        for _ in range(2):  # the first time compiles
            shutil.rmtree(straight, ignore_errors=True)
            began = time.perf_counter()
            process = start(straight, False)
            while process.poll() is None and work_done(straight) < 0:
                time.sleep(0.002)
            working = time.perf_counter()
            if process.wait():
                raise RuntimeError("the run without interruption failed")
            start_seconds, work_seconds = working - began, time.perf_counter() - working
        expected = outcome(straight)
        for run in range(runs):
            folder = Path(scratch, f"run-{run}")
            counts = trial(folder, draw, start_seconds, work_seconds)
            if outcome(folder) != expected:
                raise RuntimeError(f"run {run}, {counts}: it ended otherwise than the run never stopped")
            total = {key: total.get(key, 0) + value for key, value in ({"runs": 1} | counts).items()}
            shutil.rmtree(folder)
            print(f"run {run + 1}/{runs}: {counts}: the same bits", file=sys.stderr)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.resume)
    total = kill_and_resume(args.runs, args.seed)
    print(json.dumps(total) if args.json else f"all ended alike: {total}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
