"""Which options of `train` go together, and what those are that were left out."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from tinynet.cli.defaults import COMMON, DATA, FEW, IMAGE_SIZES, INPUT_SIZES, MODELS, TOWERS
from tinynet.cli.values import did_you_mean
from tinynet.data.names import NAMES, PHOTOS, data_kind

Options = dict[str, Any]

WITH_RESUME = {
    *("resume", "epochs", "data", "data_dir", "workers", "checkpoint_minutes", "quiet", "tensorboard"),
    *("devices", "graph", "trace"),
}


def checked(given: Options) -> None:
    """Settles --devices and --data as the rest of the program has them: "0,1" for "cuda:0,cuda:1", "mnist" for "MNIST".
    Raises click.UsageError for options that do not go together, whatever the data is."""
    settle_devices(given)
    check_graph(given)
    check_trace(given)
    if "resume" in given:
        refuse_beside(given, "resume", WITH_RESUME, "a run goes on with its own settings")
        if "data" in given and (data := data_kind(given["data"])):
            given["data"] = data[0]
        return
    check_precision(given)


def completed(given: Options, few_photos: str = "alexnet_mini") -> SimpleNamespace:
    """What is given, and the defaults that --data and --model decide. few_photos: the model for a folder of few
    photographs. Unless that or an option says that it is alexnet, the folder is looked through; `found` is what is
    in it.

    Raises click.UsageError if options do not go together, and what `find_photos` raises."""
    values = given | dict(zip(("data", "data_kind"), checked_data(given), strict=True))
    check_files(values)
    found = None
    if values["data_kind"] != PHOTOS:
        values.setdefault("model", "alexnet_mini")
    elif "model" not in given and ("preset" in given or few_photos == "alexnet"):
        values["model"] = "alexnet"
    elif "model" not in given:
        found = photos_in(values["data"])
        values["model"] = few_photos if len(found.sources) < FEW else "alexnet"
    check_model(values)
    values = COMMON | DATA[values["data_kind"]] | MODELS[values["model"]] | values
    if values["preset"] == "torchvision" and "," in values["devices"]:
        raise wrong(given, "devices", "one device for torchvision's net, which has one tower")
    usual = INPUT_SIZES[values["preset"]] if values["model"] == "alexnet" else IMAGE_SIZES[values["data_kind"]]
    values["image_size"] = values["image_size"] or usual
    check_image_size(values, usual)
    return SimpleNamespace(**values, given=set(given), found=found)


def photos_in(folder: str) -> Any:
    """What is found in a folder of photographs."""
    from tinynet.data.photo.folders import find_photos

    return find_photos(Path(folder))


def wrong(given: Options, option: str, expected: str, remedy: str = "") -> click.UsageError:
    got = repr(str(given[option])) if option in given else "none"
    came = "" if given.get(option) is True else f", got {got}"  # of a flag there is no more to tell
    text = f"expected {expected}{came}" + (f"; {remedy}" if remedy else "")
    return click.UsageError(f"--{option.replace('_', '-')}: {text}")


def refuse_beside(given: Options, option: str, allowed: set[str], reason: str) -> None:
    for other in sorted(given.keys() - allowed):
        raise wrong(given, other, f"none beside --{option}", reason)


# where to compute


def device_names(devices: str) -> tuple[str, ...]:
    """What --devices says, as tinynet.backend.device has it: "0,1" or "cuda:0,cuda:1" is ("cuda:0", "cuda:1"), "cuda"
    is ("cuda:0",). ValueError for what it cannot say, or for more devices than the nets have towers."""
    each = [re.fullmatch(r"(cpu)|(?:cuda:)?([0-9]+)|cuda", one) for one in devices.split(",")]
    if len(each) > TOWERS or not all(each):
        raise ValueError(devices)
    return tuple(one[1] or f"cuda:{int(one[2] or 0)}" for one in each if one)


def settle_devices(given: Options) -> None:
    if "devices" not in given:
        return
    try:
        devices = device_names(given["devices"])
    except ValueError:
        expected = "cpu, the number of a GPU, such as 0, or two of these with a comma, one for each tower"
        raise wrong(given, "devices", expected) from None
    given["devices"] = ",".join(one.removeprefix("cuda:") for one in devices)
    if given["devices"] == "cpu":
        return
    from tinynet.backend.device import checked_device
    from tinynet.errors import DeviceError

    try:
        for device in devices:
            checked_device(device)
    except DeviceError as error:
        serves = ",".join(["cpu"] * len(devices))
        raise click.UsageError(f"--devices: {error}; the CPU serves, too: --devices {serves}") from None


def check_graph(given: Options) -> None:
    if given.get("graph") and "resume" not in given and not given.get("devices", "cpu").isdecimal():
        expected = "it with --devices and the number of a GPU"
        raise wrong(given, "graph", expected, "a CUDA graph runs on one GPU alone")


def check_trace(given: Options) -> None:
    if "trace" not in given:
        return
    if "resume" not in given and "," not in given.get("devices", "cpu"):
        expected = "it with --devices and several devices, such as cpu,cpu"
        raise wrong(given, "trace", expected, "it shows what crosses between them")
    if given["trace"].suffix != ".json" or not given["trace"].parent.is_dir():
        raise wrong(given, "trace", "a file whose name ends with .json, in a folder that exists")


def check_precision(given: Options) -> None:
    if given.get("precision", "fp32") == "fp32":
        return
    places = device_names(given.get("devices", "cpu"))
    if set(places) == {"cpu"}:
        raise wrong(given, "precision", "fp32 with --devices cpu", "the others are for a GPU, such as --devices 0")
    from tinynet.backend.precision import check_precision_on
    from tinynet.errors import DeviceError

    try:
        for where in places:
            check_precision_on(where, given["precision"])
    except DeviceError as error:
        raise click.UsageError(f"--precision: {error}") from None


def check_csv(given: Options, words: tuple[Path, ...]) -> None:
    """words: the command's others. After --csv a file's name stands among them: it has to be behind =."""
    tables = [word for word in words if word.suffix == ".csv"] if given.get("csv") == "-" else []
    if tables:
        raise click.UsageError(f"--csv: expected its file behind =, as in --csv={tables[0]}, got {str(tables[0])!r}")


# what to learn from, and the net


def checked_data(given: Options) -> tuple[str, str]:
    name = given.get("data", "shapes")
    found = data_kind(name)
    if found is None:
        remedy = "that is a file; name the folder of the class folders" if Path(name).is_file() else ""
        near = "" if remedy else did_you_mean(name, NAMES) or "there is no folder of that name"
        expected = f"one of {', '.join(NAMES)}, or a folder of class folders of photographs"
        raise wrong(given, "data", expected, remedy or near.removeprefix("; "))
    return found


def check_files(given: Options) -> None:
    if given["data_kind"] in ("shapes", PHOTOS) and "data_dir" in given:
        raise wrong(given, "data_dir", "none", "shapes are drawn, and a folder of photographs is given as --data")
    for option in given.keys() & {"train_size", "val_size"} if given["data_kind"] == PHOTOS else ():
        raise wrong(given, option, "none with a folder of photographs, which is read whole")


def check_model(given: Options) -> None:
    if given["model"] != "alexnet" and "preset" in given:
        raise wrong(given, "preset", "none but with --model alexnet")
    if given["model"] == "alexnet" and given["data_kind"] in ("mnist", "fashion-mnist", "cifar-10"):
        raise wrong(given, "model", f"alexnet_mini for {given['data_kind']}, whose pictures are small")


def check_image_size(values: Options, usual: int) -> None:
    if values["model"] == "alexnet" and values["image_size"] != usual:
        raise wrong(values, "image_size", f"{usual}, what {values['preset']}'s alexnet takes")
    if values["data_kind"] not in ("shapes", PHOTOS) and not 28 <= values["image_size"] <= usual:
        raise wrong(values, "image_size", f"28 to {usual} for {values['data_kind']}")
