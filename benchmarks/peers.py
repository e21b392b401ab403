"""The two libraries' processes, seen from the parent: start, validate, ask in turn, end.

tinynet and PyTorch each live in a process of their own (worker_tinynet.py, worker_torch.py), both with the same number
of threads, and work strictly in turn. Before every question there is a pause, so that the other's threads, which spin
for a while after their work, are asleep.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

LOGITS_TOLERANCE = 1e-4  # relative L2; the gradients' is in worker.py
THREAD_VARIABLES = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TINYNET_NUM_THREADS"


class BenchmarkError(Exception):
    """A worker failed, or what it computes is wrong: nothing more is timed."""


class Peer:
    """One worker process; `ask` calls a method of its worker. A context manager, which ends the process.

    checkout: the root of another checkout of tinynet, whose worker and package then run instead of this one's.
    """

    def __init__(self, library: str, threads: int, checkout: Path | None = None):
        self.library, self.threads = library, threads
        folder, places = Path(__file__).parent, os.environ.get("PYTHONPATH")
        if checkout is not None:
            folder, places = checkout / "benchmarks", str(checkout)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / f"worker_{library}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={
                **os.environ,
                **dict.fromkeys(THREAD_VARIABLES, str(threads)),
                **({"PYTHONPATH": places} if places else {}),
            },
            start_new_session=True,  # Ctrl-C is the parent's alone
        )

    def ask(self, verb: str, **given: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps({"verb": verb, **given}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"ended with exit code {self.process.wait()}"}
        if "error" in answer:
            raise BenchmarkError(f"the {self.library} process, asked to {verb}: {answer['error']}")
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Task(NamedTuple):
    """A net and its input, written to `folder`; macs: multiply-accumulates of one picture forward."""

    folder: str
    net: str
    macs: int
    first_layer_macs: int
    versions: dict[str, str]
    sgemm_gflops: float

    def operations(self, batch_size: int, training: bool) -> int:
        """Floating-point operations by the definition of the layers: forward, and for training dx and dweight too,
        but no dx of the first layer."""
        return 2 * batch_size * (3 * self.macs - self.first_layer_macs if training else self.macs)


@contextmanager
def task(args: Namespace, batch_size: int, image_size: int | None = None, peak: bool = True) -> Iterator[Task]:
    """A net with right answers beside it, by the oracle, and with `peak` this machine's SGEMM peak."""
    with tempfile.TemporaryDirectory(prefix="tinynet-benchmark-") as folder:
        with Peer("oracle", args.threads) as oracle:
            sizes = {"image_size": image_size, "batch_size": batch_size, "check_batch": args.check_batch}
            facts = oracle.ask("describe", folder=folder, net=args.net, **sizes)
            gflops = (args.sgemm_peak or oracle.ask("sgemm_gflops")) if peak else 0.0
        yield Task(folder, args.net, sgemm_gflops=gflops, **facts)


@contextmanager
def validated(
    task: Task, libraries: Sequence[tuple[str, int]], checkouts: Sequence[Path | None] | None = None
) -> Iterator[list[Peer]]:
    """A process for each (library, threads), all holding the task's net; of the `checkouts`, where there are any.
    BenchmarkError if one computes it wrongly."""
    with ExitStack() as stack:
        roots = checkouts or [None] * len(libraries)
        peers = [stack.enter_context(Peer(*each, root)) for each, root in zip(libraries, roots, strict=True)]
        for peer in peers:
            peer.ask("load", folder=task.folder)
            errors = peer.ask("check")
            text = (
                f"{peer.library}, {peer.threads} thread(s): relative errors beside float64: logits "
                f"{errors['logits']:.1e}, of the worst gradient {errors['gradients']:.1e} ({errors['parameter']})"
            )
            if not (errors["logits"] < LOGITS_TOLERANCE and errors["gradients"] < errors["allowed"]):
                raise BenchmarkError(
                    f"not valid: {text}; expected less than {LOGITS_TOLERANCE:.0e} and {errors['allowed']:.1e}"
                )
            print(f"valid: {text}", flush=True)
            if peer.library == "torch":
                task.versions["torch"] = peer.ask("version")
        yield peers


def alternate(peers: Sequence[Peer], what: str, repeat: int, pause: float, warm_up: int = 2) -> list[list[float]]:
    """Seconds of one call, `repeat` times for each peer, in turn. Short calls are repeated to fill 0.5 s, at most 50
    times, as often by each, after one call that does not count (caches are cold after a pause and the peer's turn), and
    the mean taken. The first `warm_up` rounds do not count."""
    rounds: list[list[float]] = []
    count = 1
    for number in range(warm_up + repeat):
        if number == warm_up and rounds:
            count = max(1, min(50, round(0.5 / max(rounds[-1]))))
        rounds.append([])
        for peer in peers:
            time.sleep(pause)
            rounds[-1].append(peer.ask("time", what=what, count=count))
    return [list(seconds) for seconds in zip(*rounds[warm_up:], strict=True)]
