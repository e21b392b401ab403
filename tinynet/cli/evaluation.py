"""`tinynet evaluate`: how good nets are that were trained before, alone or together."""

from typing import Any

from tinynet.cli.screen import name_skipped, warn
from tinynet.cli.usage import check_files, check_precision, checked_data, device_names, refuse_beside, settle_devices
from tinynet.training.evaluation import evaluate_run
from tinynet.training.progress import say_result

BESIDE = {
    *("evaluate", "data", "data_dir", "train_size", "val_size", "seed"),
    *("batch_size", "ten_crop", "workers", "quiet", "devices", "precision"),
}  # --evaluate of examples/train_alexnet.py
SHOWN = 5  # classes without a picture that are named


def evaluate_beside_training(given: dict[str, Any]) -> int:
    """--evaluate of examples/train_alexnet.py. Gives the exit code."""
    refuse_beside(given, "evaluate", BESIDE, "the net and its input are what the file says")
    settle_devices(given)
    check_precision(given)
    return evaluate_runs(given, given["evaluate"])


def evaluate_runs(given: dict[str, Any], runs: tuple[Any, ...]) -> int:
    """The error of one net, or of several nets' mean, on the validation pictures: those of the (first) run unless told
    otherwise. Gives the exit code."""
    if "data" in given:
        data, kind = checked_data(given)
        check_files(given | {"data_kind": kind})
    else:
        data = None
    result = evaluate_run(
        runs,
        data,
        whole=given.get("whole", False),
        data_dir=given.get("data_dir"),
        val_size=given.get("val_size"),
        seed=given.get("seed"),
        ten_crop=given.get("ten_crop", False),
        batch_size=given.get("batch_size", 64),
        workers=given.get("workers", 1),
        devices=device_names(given.get("devices", "cpu")),
        precision=given.get("precision", "fp32"),
        progress=not given.get("quiet", False),
    )
    name_skipped(result.skipped)
    for text in result.warnings:
        warn(text)
    if data is not None and result.absent:
        more = f" and {len(result.absent) - SHOWN:,} more" if len(result.absent) > SHOWN else ""
        warn(f"there is no picture of {', '.join(map(repr, result.absent[:SHOWN]))}{more}")
    say_result(str(result))
    return 0
