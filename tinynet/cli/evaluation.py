"""How good nets are that were trained before, alone or together."""

from types import SimpleNamespace
from typing import Any

from tinynet.cli.building import NET, network, pictures, unpack_mean
from tinynet.cli.screen import warn
from tinynet.cli.usage import checked, completed, device_names, refuse_beside
from tinynet.data import CentreCrop, Dataset, Loader, TenCrop
from tinynet.io.checkpoints import load_metadata, load_pretrained
from tinynet.training.evaluate import evaluate
from tinynet.training.progress import say

Metadata = dict[str, Any]

BESIDE = {
    *("evaluate", "data", "data_dir", "train_size", "val_size", "seed"),
    *("batch_size", "ten_crop", "workers", "quiet", "devices", "precision"),
}  # --evaluate of examples/train_alexnet.py
NEEDED = {*NET, "data", "data_kind", "classes", "mean", "std", "fingerprints"}


def evaluate_beside_training(given: dict[str, Any]) -> int:
    """--evaluate of examples/train_alexnet.py. Gives the exit code."""
    checked(given)
    refuse_beside(given, "evaluate", BESIDE, "the net and its input are what the file says")
    args = completed(given, few_photos="alexnet")
    args.ten_crop = given.get("ten_crop", False)
    measure(args)
    return 0


def measure(args: SimpleNamespace) -> None:
    """The error of one net, or of several nets' mean, on the validation pictures."""
    about = [load_metadata(path) for path in args.evaluate]
    check_alike(args.evaluate, about)
    first = about[0]
    val_set = validation_pictures(args, about)
    devices = device_names(args.devices)
    nets = []
    for path, found in zip(args.evaluate, about, strict=True):
        nets.append(network(**{key: found[key] for key in NET}, devices=devices))
        load_pretrained(nets[-1], path)
        nets[-1].set_precision(args.precision)
    view = TenCrop(args.image_size) if args.ten_crop else CentreCrop(args.image_size)
    scale = {"mean": unpack_mean(first["mean"]), "std": first["std"]}
    there = {"workers": args.workers, "device": devices[0]}
    batch_size = max(1, args.batch_size // view.views)
    result = evaluate(nets, Loader(val_set, batch_size, shuffle=False, view=view, **there, **scale))
    top5 = f", top-5 error {result.top5_error:.2%}" if first["num_classes"] > 5 else ""  # of fewer it is always 0
    say(
        f"{len(val_set):,} pictures, {len(nets)} net{'s' * (len(nets) > 1)}, "
        f"{'ten crops' if args.ten_crop else 'centre crop'}: top-1 error {result.top1_error:.2%}{top5}, "
        f"loss {result.loss:.4f}"
    )


def check_alike(paths: list[Any], about: list[Metadata]) -> None:
    """Raises ValueError unless this program wrote all the files, for nets that take and name the same."""
    first = about[0]
    for path, found in zip(paths, about, strict=True):
        if not found.keys() >= NEEDED:
            raise ValueError(f"{path}: expected weights that this program wrote, got others: the net is not known")
        for key in ("image_size", "classes", "in_channels", "mean", "std"):
            if found[key] != first[key]:
                got = f"{found[key]}, not {first[key]}" if key == "image_size" else "others"
                raise ValueError(f"{path}: expected the same {key} as in {paths[0]}, got {got}")


def validation_pictures(args: SimpleNamespace, about: list[Metadata]) -> Dataset:
    """Those of the training run, unless told otherwise."""
    first = about[0]
    args.image_size, args.model, args.preset = (first[key] for key in ("image_size", "model", "preset"))
    if args.data_kind == first["data_kind"]:
        for name in {"train_size", "val_size", "seed"} - args.given:
            setattr(args, name, first[name])
    _, val_set, fingerprints = pictures(args)
    if list(val_set.classes) != first["classes"]:
        text = f"expected pictures of the classes that the net knows, {first['classes']}, got {val_set.classes}"
        raise ValueError(f"--evaluate: {text}; it was trained on {first['data']}: give --data")
    if any(found["fingerprints"] != fingerprints for found in about):
        warn("these are not the pictures of the training run: it may have learned from some of them")
    return val_set
