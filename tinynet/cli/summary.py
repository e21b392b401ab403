"""`tinynet summary`: the table of a net."""

from typing import Any

import click

import tinynet
from tinynet.cli.defaults import INPUT_SIZES
from tinynet.io.checkpoints import load_metadata
from tinynet.training.loading import NET, build_net
from tinynet.training.progress import say_result


def show_summary(given: dict[str, Any]) -> int:
    net = of_run(given) if given.get("run") else of_options(given)
    batch = given.get("batch_size", 1), net["in_channels"], net["image_size"], net["image_size"]
    result = tinynet.summary(build_net(net, ("cpu",)), batch)
    say_result(str(result))
    return 1 if result.error else 0


def of_run(given: dict[str, Any]) -> dict[str, Any]:
    """The net of a run or weights file, as `network` takes it."""
    path = given.pop("run")
    for option in given.keys() - {"batch_size"}:
        words = f"--{option.replace('_', '-')}"
        raise click.UsageError(f"{words}: expected none beside {path}, whose net is known, got {given[option]!r}")
    about = load_metadata(path)
    if not about.keys() >= set(NET):
        raise ValueError(f"{path}: expected weights that tinynet's program wrote, got others: the net is not known")
    return {key: about[key] for key in NET}


def of_options(given: dict[str, Any]) -> dict[str, Any]:
    model = given.get("model", "alexnet" if "preset" in given else "alexnet_mini")
    if model != "alexnet":
        if "preset" in given:
            raise click.UsageError(f"--preset: expected none but with --model alexnet, got {given['preset']!r}")
        usual, preset, classes = 32, None, 10
    else:
        preset = given.get("preset", "paper")
        usual, classes = INPUT_SIZES[preset], 1000
    net = {"model": model, "preset": preset, "num_classes": given.get("num_classes", classes)}
    net |= {"in_channels": given.get("in_channels", 3), "image_size": given.get("image_size", usual)}
    if model == "alexnet" and (net["image_size"] != usual or net["in_channels"] != 3):
        got = f"{net['in_channels']} x {net['image_size']} x {net['image_size']}"
        raise click.UsageError(
            f"--image-size: expected 3 x {usual} x {usual}, what {preset}'s alexnet takes, got {got}"
        )
    return net
