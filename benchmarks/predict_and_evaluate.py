"""Does prediction say what evaluation measures, for every picture of a folder?

    python benchmarks/predict_and_evaluate.py runs/photographs-1 path/to/photographs path/to/odd-files

Evaluation goes through the cache of decoded photographs and a loader; prediction reads the files themselves. For each
folder both answer, and this compares them picture by picture: the probabilities, bit by bit; the likeliest class; and
the error that follows, with what `tinynet evaluate --whole` says. A folder without class folders, such as one of odd
files, is taken as pictures of the net's first class. Exit code 1 if anything differs.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import checkout  # noqa: F401 - first, so that all others find tinynet
import numpy as np

import tinynet
from tinynet import data
from tinynet.training.evaluate import predict as probabilities_and_labels
from tinynet.training.evaluation import evaluate_run


@contextmanager
def album(folder: Path, classes: tuple[str, ...]) -> Iterator[Path]:
    """The folder; or, if there is no class in it, another one where its files are those of the first class."""
    if any(path.is_dir() and path.name in classes for path in folder.iterdir()):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tinynet-album-") as made:
        shutil.copytree(folder, Path(made, classes[0]))
        yield Path(made)


def compare(run: Any, folder: Path) -> int:
    """How many pictures are answered differently; what was found is printed."""
    with album(folder, run.classes) as pictures:
        found = data.all_photos(pictures, size=run.preprocessing.stored_size)
        dataset = found.dataset.in_classes(run.classes)
        measured, labels = probabilities_and_labels(run.model, run.preprocessing.loader(dataset, 64))
        skipped = {entry.path for entry in found.skipped}
        paths = [path for path in in_order(pictures) if path not in skipped]
        said = run.predict(paths, batch_size=64)
        error = evaluate_run(run, pictures, whole=True).result.top1_error
    if len(said) != len(measured):
        print(f"{folder}: {len(measured):,} pictures are measured, {len(said):,} are answered")
        return abs(len(said) - len(measured))
    bits = int((said.probabilities != measured).any(axis=1).sum())
    classes = int((said.indices != measured.argmax(axis=1)).sum())
    own_error = float((said.indices != labels).mean())
    print(
        f"{folder}: {len(said):,} pictures, {len(skipped)} files skipped; other bits in {bits}, another class in "
        f"{classes}; top-1 error {own_error:.4%} by prediction, {error:.4%} by evaluation",
        flush=True,
    )
    return bits + classes + (own_error != error)


def in_order(folder: Path) -> list[Path]:
    """All files, as the data set has them: by class, and then by path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or its weights")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of class folders, or of files")
    args = parser.parse_args()
    run = tinynet.load_run(args.run)
    print(f"{run!r}; NumPy {np.__version__}", flush=True)
    return int(sum(compare(run, folder) for folder in args.folders) > 0)


if __name__ == "__main__":
    sys.exit(main())
