"""What the benchmarks' worker processes have in common. The parent's side is peers.py."""

import json
import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLASSES_USED = 10  # labels; a net may have more outputs
GRADIENTS_TOLERANCE = 5e-3  # relative L2
LARGEST_WOBBLE = 0.1
SAMPLES = 500  # of each array that two libraries compare


def serve(worker: Any) -> None:
    """Answer the parent's requests until its pipe closes: one JSON object a line, {"verb": a method's name, and its
    arguments}, with {"result": ...} or {"error": text}. What a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": getattr(worker, request.pop("verb"))(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            print(json.dumps(answer), file=answers, flush=True)
        except BrokenPipeError:  # the parent is gone
            os._exit(1)


def labels_of(batch_size: int) -> np.ndarray:
    return np.arange(batch_size, dtype=np.int64) % CLASSES_USED


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """L2 norm of the difference over the norm of what was expected."""
    difference = np.linalg.norm((got.astype(np.float64) - expected).ravel())
    return float(difference / max(np.linalg.norm(expected.astype(np.float64).ravel()), np.finfo(np.float64).tiny))


def sample(array: np.ndarray) -> list[float]:
    """The array's root mean square, in float64, and SAMPLES of its entries at equal distances."""
    mean_square = float(np.mean(np.square(array, dtype=np.float64)))
    places = np.unravel_index(np.linspace(0, array.size - 1, SAMPLES).astype(np.int64), array.shape)
    return [mean_square**0.5, *map(float, array[places])]


class Worker:
    """A library's side. A subclass says how it builds the net, `answers`, and makes the calls that are timed."""

    folder: Path
    net: Any
    about: dict[str, Any]
    calls: dict[str, Callable[[], Any]]

    def build(self) -> None:
        """self.net, with the weights of `self.folder`."""
        raise NotImplementedError

    def answers(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Logits and every parameter's gradient, without dropout; x is (N, C, H, W), C-contiguous."""
        raise NotImplementedError

    def take(self, x: np.ndarray, labels: np.ndarray, training: bool) -> dict[str, Callable[[], Any]]:
        """{"step": one training step, or one forward in evaluation mode} on this batch, in memory as the library
        likes it."""
        raise NotImplementedError

    def load(self, folder: str) -> None:
        self.folder = Path(folder)
        self.about = json.loads((self.folder / "net.json").read_text("utf-8"))
        self.build()

    def weights(self) -> Mapping[str, np.ndarray]:
        return np.load(self.folder / "weights.npz")

    def check(self) -> dict[str, Any]:
        """Relative errors beside the float64 oracle's logits and gradients: of the worst parameter, which is named, and
        what is allowed for it: GRADIENTS_TOLERANCE, or twice the oracle's own wobble, up to LARGEST_WOBBLE."""
        expected = np.load(self.folder / "expected.npz")
        N = len(expected["logits"])
        x = np.load(self.folder / "x.npy", mmap_mode="r")[:N]
        logits, gradients = self.answers(np.array(x), labels_of(N))
        errors = {name: relative_error(gradient, expected[f"d {name}"]) for name, gradient in gradients.items()}
        self.net.zero_grad()
        if errors.keys() != {key[2:] for key in expected.files if key.startswith("d ")}:
            raise ValueError(f"expected the oracle's parameters, got {', '.join(errors)}")
        wobble = {name: min(2 * float(expected[f"wobble {name}"]), LARGEST_WOBBLE) for name in errors}
        allowed = {name: max(GRADIENTS_TOLERANCE, wobble[name]) for name in errors}
        worst = max(errors, key=lambda name: (errors[name] != errors[name], errors[name] / allowed[name]))  # or NaN
        about = {"gradients": errors[worst], "parameter": worst, "allowed": allowed[worst]}
        return {"logits": relative_error(logits, expected["logits"]), **about}

    def prepare(self, batch_size: int, training: bool) -> None:
        x = np.load(self.folder / "x.npy", mmap_mode="r")[:batch_size]
        self.calls = self.take(x, labels_of(batch_size), training)

    def time(self, what: str, count: int) -> float:
        """Seconds of one call, the mean of `count` in a row; before several, one that does not count."""
        call = self.calls[what]
        if count > 1:
            call()
        began = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - began) / count

    def layer_values(self, name: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(x, dy) of one layer, the same in every process: x standard normal, cut at 0 where it comes from a ReLU."""
        layer = self.about["layers"][name]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        x = rng.standard_normal((batch_size, *layer["in"]), np.float32)
        if layer["after_relu"]:
            np.maximum(x, 0, out=x)
        return x, rng.standard_normal((batch_size, *layer["out"]), np.float32)

    def peak_bytes(self) -> int:
        """VmHWM: the most resident memory that this process has had."""
        status = Path("/proc/self/status").read_text("ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
