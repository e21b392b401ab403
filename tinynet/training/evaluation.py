"""How good runs are that were trained before, alone or together, on their own pictures or on others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinynet import data as sets
from tinynet.data.dataset import Dataset
from tinynet.data.names import PHOTOS, data_kind
from tinynet.data.photo.album import Skipped
from tinynet.training.evaluate import Evaluation, evaluate
from tinynet.training.loading import LoadedRun, first_device, load_run
from tinynet.training.run_folder import CONFIG

OTHERS = "these are not the pictures of the training run: it may have learned from some of them"
LEARNED = "the net learned from some of these pictures: of new ones it will get more wrong"


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """What `evaluate_run` returns. result: errors and loss; data: where the pictures are from; absent: the classes of
    the net of which there was no picture; skipped: files that gave none; warnings: sentences for whoever asked."""

    result: Evaluation
    pictures: int
    nets: int
    ten_crop: bool
    outputs: int
    data: str
    absent: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """A line."""
        of_five = f", top-5 error {self.result.top5_error:.2%}" if self.outputs > 5 else ""  # else it is always 0
        return (
            f"{self.pictures:,} pictures, {self.nets} net{'s' * (self.nets > 1)}, "
            f"{'ten crops' if self.ten_crop else 'centre crop'}: top-1 error {self.result.top1_error:.2%}{of_five}, "
            f"loss {self.result.loss:.4f}"
        )


class _Pictures(NamedTuple):
    dataset: Dataset
    fingerprint: list[Any]
    skipped: tuple[Skipped, ...] = ()


def evaluate_run(
    runs: Any,
    data: str | os.PathLike | None = None,
    *,
    whole: bool = False,
    data_dir: str | os.PathLike | None = None,
    val_size: int | None = None,
    seed: int | None = None,
    ten_crop: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    devices: Sequence[str] = ("cpu",),
    precision: str | None = None,
    progress: bool = False,
) -> RunEvaluation:
    """The error of a run's net, or of several nets' mean, on validation pictures.

    runs: what `load_run` takes, or LoadedRuns; one or a list. data: None for the validation pictures of the (first)
    run, which its weights file tells of; else a named set, as `data.load` takes it, or a folder of class folders. Of a
    folder these are the pictures that training would hold out, a fifth of them or the folder val; with `whole` every
    picture in it, also of classes with a single one, and of both halves of a folder with train and val. Of a named set
    they are the first val_size test pictures, as in the run if it was trained on that set; with `whole` all. Classes
    are compared by name: the pictures may lack some that the net knows. data_dir: where a named set's files are; seed:
    of shapes. devices: where the runs that are given by their paths compute. precision (None: the nets' own) is that of
    the computation, to which the nets are set; batch_size is the number of crops at a time.

    Raises FileNotFoundError if the run's pictures are gone; ValueError for nets that do not see pictures alike, for
    pictures of classes that the net does not know, for a val_size or data_dir that would choose nothing; and what
    `load_run`, `data.photos` and `data.load` raise.
    """
    loaded = _loaded(runs, devices)
    first = loaded[0]
    where, own = (_own_data(first), True) if data is None else (os.fspath(data), False)
    where, kind = data_kind(where) or (where, PHOTOS)  # or nothing there, which is said below
    _check_unused(kind, whole, data_dir=data_dir, val_size=val_size)
    if kind == PHOTOS:
        found = _photographs(first, Path(where), whole, own, progress)
    else:
        found = _named(first, kind, whole, data_dir, val_size, seed, progress)
    try:
        pictures = found.dataset.in_classes(first.classes)
    except ValueError as error:
        learned = f"; the net was trained on {first.metadata['data']}" if "data" in first.metadata else ""
        raise ValueError(f"{where}: {error}, which the net does not know{learned}") from error
    if precision is not None:
        for run in loaded:
            run.model.set_precision(precision)
    place = first_device(first.model)
    loader = first.preprocessing.loader(pictures, batch_size, ten_crop=ten_crop, workers=workers, device=place)
    present = set(np.unique(pictures.labels).tolist())
    return RunEvaluation(
        result=evaluate([run.model for run in loaded], loader),
        pictures=len(pictures),
        nets=len(loaded),
        ten_crop=ten_crop,
        outputs=first.metadata["num_classes"],
        data=where,
        absent=tuple(name for i, name in enumerate(first.classes) if i not in present),
        skipped=found.skipped,
        warnings=tuple(_warnings(loaded, where, kind, whole, found.fingerprint)),
    )


def _loaded(runs: Any, devices: Sequence[str]) -> list[LoadedRun]:
    """Nets that take and name the same."""
    given = [runs] if isinstance(runs, (str, os.PathLike, LoadedRun)) else list(runs)
    loaded = [run if isinstance(run, LoadedRun) else load_run(run, devices=devices) for run in given]
    if not loaded:
        raise ValueError("evaluate_run: expected a run or a list of at least one, got an empty list")
    first = loaded[0]
    for path, run in zip(given, loaded, strict=True):
        different = first.preprocessing.differences(run.preprocessing)
        if run.metadata["num_classes"] != first.metadata["num_classes"]:
            different.append("num_classes")
        if different:
            raise ValueError(f"{path}: expected the same {different[0]} as in {given[0]}, got others")
    return loaded


def _check_unused(kind: str, whole: bool, **options: Any) -> None:
    """What is given must count: else the numbers are of other pictures than somebody believes."""
    unused = {PHOTOS: ("data_dir", "val_size"), "shapes": ("data_dir",)}.get(kind, ())
    for name in (*unused, "val_size") if whole else unused:
        if options[name] is not None:
            what = "a folder of photographs" if kind == PHOTOS else kind
            pictures = f"{what}{', whole' if whole else ''}"
            raise ValueError(f"evaluate_run: expected no {name} for {pictures}, got {options[name]}; leave it out")


def _own_data(run: LoadedRun) -> str:
    if "data" not in run.metadata:
        raise ValueError(
            f"{run.path}: expected a run that tells where its pictures are, got one that does not; give --data"
        )
    return run.metadata["data"]


def _photographs(run: LoadedRun, folder: Path, whole: bool, own: bool, progress: bool) -> _Pictures:
    if own and not folder.is_dir():
        raise FileNotFoundError(
            f"{run.path}: expected the run's pictures in {folder}, got nothing there; if they were moved, say where to "
            "by --data"
        )
    if not folder.exists():
        known = ", ".join(sets.NAMES)
        raise FileNotFoundError(f"expected one of {known}, or a folder of class folders of photographs, got {folder}")
    size = run.preprocessing.stored_size
    if whole:
        all_of_them = sets.all_photos(folder, size=size, progress=progress)
        return _Pictures(all_of_them.dataset, [], all_of_them.skipped)
    found = sets.photos(folder, size=size, progress=progress)
    return _Pictures(found.validation, [found.digest, *found.validation.fingerprint()], found.skipped)


def _named(
    run: LoadedRun,
    name: str,
    whole: bool,
    data_dir: str | os.PathLike | None,
    val_size: int | None,
    seed: int | None,
    progress: bool,
) -> _Pictures:
    about = run.metadata
    if about.get("data_kind") == name:  # as in the run, unless told otherwise
        val_size = about.get("val_size") if val_size is None else val_size
        seed = about.get("seed") if seed is None else seed
        data_dir = _data_dir(run) if data_dir is None else data_dir
    _, validation = sets.load(
        name,
        data_dir,
        seed=seed or 0,
        image_size=run.preprocessing.image_size,
        train_size=1 if name == "shapes" else None,  # of these, each is drawn
        validation_size=None if whole and name != "shapes" else val_size,  # of shapes there is no end
        progress=progress,
    )
    return _Pictures(validation, [None, *validation.fingerprint()])


def _data_dir(run: LoadedRun) -> str | None:
    """Where the files of a named set are. Weights files of earlier versions do not tell; config.json beside does."""
    if "data_dir" in run.metadata:
        return run.metadata["data_dir"]
    for folder in (run.path.parent, run.path.parent.parent):  # of a checkpoint it is the one above
        try:
            return json.loads((folder / CONFIG).read_text("utf-8")).get("data_dir")
        except (OSError, ValueError, AttributeError):
            continue
    return None


def _warnings(runs: list[LoadedRun], where: str, kind: str, whole: bool, fingerprint: list[Any]) -> list[str]:
    if whole and kind == PHOTOS:
        learned = [run.metadata["data"] for run in runs if run.metadata.get("data_kind") == PHOTOS]
        if any(_within(folder, where) for folder in learned):
            return [LEARNED]
        return [OTHERS] if any(_within(where, folder) for folder in learned) else []  # a half, or a class, of it
    known = [_fingerprint(run) for run in runs if "fingerprints" in run.metadata]
    return [OTHERS] if any(own != json.loads(json.dumps(fingerprint)) for own in known) and not whole else []


def _fingerprint(run: LoadedRun) -> Any:
    """That of the pictures which the run was validated on."""
    fingerprints = run.metadata["fingerprints"]
    if not isinstance(fingerprints, dict) or "validation" not in fingerprints:
        raise ValueError(f"{run.path}: expected fingerprints of the run's pictures, got {fingerprints!r:.80}")
    return fingerprints["validation"]


def _within(folder: str, other: str) -> bool:
    """The folder is the other one, or lies in it."""
    inner, outer = (os.path.join(os.path.normcase(os.path.realpath(path)), "") for path in (folder, other))
    return inner.startswith(outer)
