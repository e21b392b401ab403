"""A network's weights in a safetensors file; and checkpoints, which hold all that a run needs to go on.

A weights file holds each parameter under its own name, "conv1.weight", and nothing else, so that other programs read it
too. A checkpoint is a safetensors file as well: "model.conv1.weight" and so on, "velocity.0" and so on (the
optimiser's, in its order), and in its metadata the state: epoch and batch position, schedule, seeds and settings,
thread count. A SHA-256 over all of it shows any damage, down to one bit.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from tinynet.backend.device import to_cpu
from tinynet.io.files import atomic_write, cannot_write, replace, sync_folder
from tinynet.layers.layer import Layer

METADATA_KEY = "tinynet"  # one entry only: safetensors writes several in a random order, and equal runs would differ
FORMAT = 1  # of checkpoints
WEIGHTS, FOLDER = "weights.safetensors", "checkpoints"  # in a run's folder
ANOTHER = "take another copy"
BEST, STEP = "best.safetensors", "step-{:09d}.safetensors"


def save_weights(path: str | os.PathLike, model: Layer, metadata: Mapping[str, Any] | None = None) -> None:
    """Write all parameters of `model`, and `metadata` (whatever JSON can hold), to `path`, as `atomic_write` does.

    Equal weights and metadata give equal bytes. Raises OSError naming the file if it cannot be written.
    """
    tensors = {name: to_cpu(parameter.data) for name, parameter in model.named_parameters()}
    atomic_write(path, _pack(tensors, metadata or {}, "weights"))


def load_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: array} of a safetensors file, tinynet's or another program's; of a checkpoint the model's part; of a run's
    folder its weights file, or its newest checkpoint before there is one. For `model.load_state_dict`.

    Raises FileNotFoundError or another OSError if it cannot be read, ValueError if it is damaged (in tinynet's own
    files a single bit is noticed) or of another format.
    """
    path = weights_path(path)
    kind, state, tensors = _unpack(path)
    return Checkpoint(path, state, tensors).part("model") if kind == "checkpoint" else tensors


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """What `save_weights` got as metadata, of a checkpoint the same as of its run's weights file; {} for another
    program's file. Raises as `load_weights` does, but for damage in the arrays, which are not read."""
    kind, state, _ = _unpack(weights_path(path), metadata_only=True)
    return state["metadata"] if kind == "checkpoint" else state


def weights_path(path: str | os.PathLike) -> Path:
    """`path`; or in a run's folder the weights file, or the newest good checkpoint if the run has none yet."""
    path = Path(path)
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    return read_checkpoint(path).path if path.is_dir() else path


class Checkpoint(NamedTuple):
    """state: what JSON can hold; tensors: {name: array}; path: where it was read."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, np.ndarray]
    passed_over: tuple[str, ...] = ()  # why newer ones could not be read

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors whose names begin with `prefix` and a dot, without it."""
        return {k.removeprefix(prefix + "."): v for k, v in self.tensors.items() if k.startswith(prefix + ".")}


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """The checkpoint in the file `path`; or in the folder of a run: its newest good one.

    Raises FileNotFoundError if nothing is there or a run's folder holds none, another OSError if it cannot be read,
    ValueError if it is damaged (a single bit is noticed), of another format, or no checkpoint but weights alone.
    """
    path = Path(path)
    if path.is_dir():
        return Checkpoints(path / FOLDER if (path / FOLDER).is_dir() else path).newest_good()
    kind, state, tensors = _unpack(path)
    if kind != "checkpoint":
        raise ValueError(
            f"{path}: expected a checkpoint of a run, got weights alone, from which --pretrained can start a new run"
        )
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a checkpoint of format {FORMAT}, got {state.get('format')!r}; use the version of "
            "tinynet that wrote it"
        )
    return Checkpoint(path, state, tensors)


class Checkpoints:
    """The checkpoints of a run in its folder: the last `keep`, and the best one as best.safetensors."""

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        self.folder, self.keep = Path(folder), keep

    def save(self, state: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, best: bool = False) -> Path:
        """Write one as `atomic_write` does, then remove those before the last `keep`; with `best`, as the best one too.

        state: what JSON can hold, with its "step" and "metadata". Raises OSError naming the file; all that was there
        before is intact.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        data = _pack(tensors, {**state, "format": FORMAT}, "checkpoint")
        path = self.folder / STEP.format(state["step"])
        if best:  # first: a run that is killed in between writes this one again when it is resumed
            atomic_write(self.folder / BEST, data)
        atomic_write(path, data)
        for old in self.paths()[self.keep :]:
            with contextlib.suppress(OSError):  # held open by another program: the next time, then
                old.unlink()
        return path

    def paths(self) -> list[Path]:
        """Newest first, without the best."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def newest_good(self) -> Checkpoint:
        """Raises FileNotFoundError if there is none, ValueError, which names each, if all are damaged."""
        damage: list[str] = []
        for path in self.paths():
            try:
                return read_checkpoint(path)._replace(passed_over=tuple(damage))
            except (ValueError, OSError) as error:
                damage.append(str(error))
        if damage:
            raise ValueError(f"{self.folder}: expected a good checkpoint, got damaged ones only: {'; '.join(damage)}")
        if inside := sorted(path.parent.name for path in self.folder.glob(f"*/{FOLDER}")):
            some = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
            text = f"got {self.folder}, which holds {len(inside)}: {some}; name one of them"
            raise FileNotFoundError(f"expected a run's folder or a checkpoint, {text}")
        raise FileNotFoundError(
            f"expected a run's folder or a checkpoint, got {self.folder}, which holds none; a run that was stopped "
            "before its first checkpoint is started anew, in another folder or after deleting this one"
        )

    def set_aside(self, newer_than: int) -> list[Path]:
        """Rename what a run that goes on from step `newer_than` will not read: checkpoints of later steps, the best one
        among them, damaged or of a run that took another course, get the ending .superseded. Removes what a kill left
        half-written in the run's folder."""
        for rest in [*self.folder.glob(".*.tmp"), *self.folder.parent.glob(".*.tmp")]:
            with contextlib.suppress(OSError):
                rest.unlink()
        later = [path for path in self.paths() if path.name > STEP.format(newer_than)]
        best = self.folder / BEST
        with contextlib.suppress(FileNotFoundError):
            try:
                if load_metadata(best)["step"] > newer_than:
                    later.append(best)
            except (ValueError, KeyError, TypeError):
                later.append(best)  # damaged
        for path in later:
            replace(path, path.with_name(path.name + ".superseded"))
        return later


def load_pretrained(model: Layer, path: str | os.PathLike, replace: Iterable[str] = ()) -> list[str]:
    """Copy the weights in `path` (a weights file or a checkpoint) into `model`, but for the layers named in `replace`,
    which keep their fresh values: for another number of classes, ("fc8",). Gives the names of the parameters loaded.

    Raises as `load_weights` and `model.load_state_dict` do, ValueError for a layer in `replace` that model has not.
    """
    fresh, names = tuple(replace), [name for name, _ in model.named_parameters()]
    for layer in fresh:
        if not any(name.startswith(layer + ".") for name in names):
            raise ValueError(f"load_pretrained: expected replace out of {layer_names(names)}, got {layer!r}")
    kept = {name: array for name, array in load_weights(path).items() if name.rpartition(".")[0] not in fresh}
    missing = [name for name in names if name not in kept and name.rpartition(".")[0] not in fresh]
    if missing:
        raise ValueError(
            f"{path}: expected weights for all layers of the net but {', '.join(fresh) or 'none'}, got none for "
            f"{', '.join(missing)}; is it another net's file?"
        )
    unexpected = kept.keys() - set(names)
    if unexpected:
        raise ValueError(
            f"{path}: expected this net's weights, got also {', '.join(sorted(unexpected))}: another net's?"
        )
    try:
        model.load_state_dict(kept, strict=False)
    except ValueError as error:
        raise ValueError(f"{path}: expected this net's weights, got another's: {error}") from error
    return [name for name in names if name in kept]


def layer_names(parameter_names: Iterable[str]) -> str:
    """ "conv1, conv2" of "conv1.weight", "conv1.bias", "conv2.weight"."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in parameter_names))


def _pack(tensors: Mapping[str, np.ndarray], state: Mapping[str, Any], kind: str) -> bytes:
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    stored = {"kind": kind, "state": dict(state)}
    stored["sha256"] = _digest(stored, tensors)
    return safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(stored, sort_keys=True, allow_nan=False)})


def _unpack(path: Path, metadata_only: bool = False) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """(kind, state, tensors) of a file of ours, its checksum verified unless metadata_only; of another program's file
    the kind is "" and the state {}. The file is mapped: no header makes us take more memory than its arrays do."""
    try:
        with open(path, "rb") as file:
            start, size = file.read(16), file.seek(0, os.SEEK_END)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"expected a safetensors file at {path}, got nothing there") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            stored = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            tensors = {} if metadata_only else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if stored is None:
            return "", {}, tensors
        if not {"kind", "sha256"} & stored.keys():  # a weights file of version 0.1.0, which had no checksum
            return "weights", stored, tensors
        kind, state, sha256 = stored["kind"], stored["state"], stored.pop("sha256")
        damaged = not metadata_only and sha256 != _digest(stored, tensors)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: {_what_is_wrong(start, size)} ({error})") from error
    if damaged or not isinstance(state, dict):
        raise ValueError(f"{path}: expected an undamaged file, got one that does not fit its own checksum; {ANOTHER}")
    return kind, state, tensors


def _digest(stored: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes() if array.ndim == 0 or not array.size else array.data)
    return digest.hexdigest()


def _what_is_wrong(start: bytes, size: int) -> str:
    # the format: 8 bytes with the length of the header, the header in JSON, the arrays
    if len(start) >= 9 and start[8:9] != b"{":
        return f"expected a safetensors file, got one that begins with {start!r}"
    return (
        f"expected a whole safetensors file of arrays that NumPy knows, got {size:,} bytes that are cut short or "
        f"damaged; {ANOTHER}"
    )
