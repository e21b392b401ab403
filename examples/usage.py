"""The command line of train_alexnet.py as a whole: which options go together, and what those are that were left out."""

import argparse
from pathlib import Path
from typing import Any

from options import (
    COMMON,
    DEFAULTS,
    IMAGE_SIZES,
    INPUT_SIZES,
    MODELS,
    PHOTOS,
    argument_parser,
    data_kind,
    device_names,
)

from tinynet import data
from tinynet.backend.device import checked_device
from tinynet.backend.precision import check_precision_on
from tinynet.errors import DeviceError

Options = dict[str, Any]

WITH_RESUME = {
    *("resume", "epochs", "data", "data_dir", "workers", "checkpoint_minutes", "quiet", "tensorboard"),
    *("devices", "graph", "trace"),
}
WITH_EVALUATE = {
    *("evaluate", "data", "data_dir", "data_kind", "train_size", "val_size", "seed"),
    *("batch_size", "ten_crop", "workers", "quiet", "devices", "precision"),
}


def parse_arguments(description: str) -> argparse.Namespace:
    """All options; the program ends with exit code 2 if one is wrong or they do not go together. `given` names those
    on the command line; with --resume there are no others, for the run's own are in its checkpoint."""
    parser = argument_parser(description)
    given = vars(parser.parse_args())
    named = set(given)
    try:
        check_devices(given)
        check_graph(given)
        check_trace(given)
        if "resume" in given:
            refuse_beside(given, "resume", WITH_RESUME, "a run goes on with its own settings")
            return argparse.Namespace(**given, given=named)
        check_precision(given)
        return argparse.Namespace(**completed(given), given=named)
    except argparse.ArgumentError as error:
        parser.error(str(error))


def completed(given: Options) -> Options:
    """What is given, and the defaults that --data and --model decide."""
    given.setdefault("data", "shapes")
    given["data_kind"] = kind = checked_kind(given)
    check_evaluate(given)
    check_files(given)
    model = given.setdefault("model", "alexnet" if kind == PHOTOS else "alexnet_mini")
    check_model(given)
    values = COMMON | DEFAULTS[kind] | MODELS[model] | given
    if values["preset"] == "torchvision" and "," in values["devices"]:
        raise wrong(given, "devices", "one device for torchvision's net, which has one tower")
    usual = INPUT_SIZES[values["preset"]] if model == "alexnet" else IMAGE_SIZES[kind]
    values["image_size"] = values["image_size"] or usual
    check_image_size(values, usual)
    return values


def wrong(given: Options, option: str, expected: str, remedy: str = "") -> argparse.ArgumentError:
    got = repr(str(given[option])) if option in given else "none"
    text = f"expected {expected}, got {got}" + (f"; {remedy}" if remedy else "")
    return argparse.ArgumentError(None, f"argument --{option.replace('_', '-')}: {text}")


def refuse_beside(given: Options, option: str, allowed: set[str], reason: str) -> None:
    for other in given.keys() - allowed:
        raise wrong(given, other, f"none beside --{option}", reason)


# where to compute


def check_devices(given: Options) -> None:
    if "devices" not in given:
        return
    try:
        devices = device_names(given["devices"])
    except ValueError:
        expected = "cpu, the number of a GPU, such as 0, or two of these with a comma, one for each tower"
        raise wrong(given, "devices", expected) from None
    try:
        for device in devices:
            checked_device(device)
    except DeviceError as error:
        text = f"argument --devices: {error}; the CPU serves, too: --devices {','.join(['cpu'] * len(devices))}"
        raise argparse.ArgumentError(None, text) from None


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
    if "precision" not in given:
        return
    places = device_names(given.get("devices", "cpu"))
    if set(places) == {"cpu"} and given["precision"] != "fp32":
        raise wrong(given, "precision", "fp32 with --devices cpu", "the others are for a GPU, such as --devices 0")
    try:
        for where in places:
            check_precision_on(where, given["precision"])
    except DeviceError as error:
        raise argparse.ArgumentError(None, f"argument --precision: {error}") from None


# what to learn from, and the net


def checked_kind(given: Options) -> str:
    kind = data_kind(given["data"])
    if kind is None:
        remedy = "that is a file; name the folder of the class folders" if Path(given["data"]).is_file() else ""
        expected = f"one of {', '.join(data.NAMES)}, or a folder of class folders of photographs"
        raise wrong(given, "data", expected, remedy)
    return kind


def check_evaluate(given: Options) -> None:
    if "evaluate" in given:
        refuse_beside(given, "evaluate", WITH_EVALUATE, "the net and its input are what the file says")
    elif "ten_crop" in given:
        raise wrong(given, "ten_crop", "it beside --evaluate", "in training the centre crop is measured")


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
