"""How a run goes on: with its own settings, from its checkpoint, and what was given besides."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tinynet.backend.device import checked_device
from tinynet.backend.precision import check_precision_on
from tinynet.cli.begin import versions
from tinynet.cli.defaults import COMMON
from tinynet.cli.screen import warn
from tinynet.cli.usage import device_names
from tinynet.data.names import data_kind
from tinynet.errors import DeviceError
from tinynet.io.checkpoints import Checkpoint, read_checkpoint

Settings = dict[str, Any]

NEEDED = {"data", "data_kind", "model", "epochs", "fingerprints", "versions"}  # in the settings that a run began with
NOT_KEPT = {"quiet": False, "tensorboard": False, "trace": None, "found": None}  # but said anew


def run_to_resume(args: SimpleNamespace) -> tuple[SimpleNamespace, Checkpoint]:
    """--resume: (all settings, the checkpoint)."""
    if not args.resume.exists():
        raise FileNotFoundError(f"--resume: expected a run's folder or a checkpoint, got {args.resume}: nothing there")
    checkpoint = read_checkpoint(args.resume)
    config = checkpoint.state.get("config")
    if not isinstance(config, dict) or not config.keys() >= NEEDED:
        raise ValueError(f"{checkpoint.path}: expected a run that this program began, got another's; use Trainer.fit")
    planned = {"epochs": checkpoint.state.get("epochs", config["epochs"])}
    settings = COMMON | config | planned | NOT_KEPT | {"out": checkpoint.path.resolve().parent.parent} | vars(args)
    settle_devices(settings, args.given)
    for name in ("data_dir", "pretrained"):
        settings[name] = settings[name] and Path(settings[name])
    if (data_kind(settings["data"]) or [None])[-1] != config["data_kind"]:
        raise ValueError(
            f"--resume: expected the run's pictures at {settings['data']}, got nothing there; if they were moved, say "
            "where to by --data"
        )
    warn_of_changes(settings, config)
    return SimpleNamespace(**settings), checkpoint


def settle_devices(settings: Settings, given: set[str]) -> None:
    """Raises DeviceError if the run cannot compute where it did, or where --devices says."""
    places = device_names(settings["devices"])
    try:
        for where in places:
            checked_device(where)
            check_precision_on(where, settings["precision"])
    except DeviceError as error:
        raise DeviceError(f"--resume: the run was on {settings['devices']}: {error}; --devices says another") from error
    if not settings["devices"].isdecimal() and "graph" not in given:
        settings["graph"] = False  # a run of one GPU goes on elsewhere
    if set(places) == {"cpu"} and settings["precision"] != "fp32":
        warn(f"the run was in {settings['precision']}; on the CPU it goes on in float32")


def warn_of_changes(settings: Settings, config: Settings) -> None:
    now = versions()
    for name, then in config["versions"].items():
        if now.get(name) != then:
            text = f"the run had {name} {then} and has {now.get(name, 'none')} now"
            warn(f"{text}: its numbers may differ in their last digits")
    if settings["schedule"] == "step" and settings["epochs"] > config["epochs"]:
        text = "the learning rate stays where the schedule planned at first left it"
        warn(f"{text}; to learn much more, begin a new run with --pretrained")


def config_of(checkpoint: Checkpoint, data: str, fingerprints: dict[str, Any]) -> Settings:
    """The settings that the run began with. Raises ValueError if these are not the pictures that it began with."""
    config: Settings = checkpoint.state["config"]
    if config["fingerprints"] != fingerprints:
        raise ValueError(f"--resume: expected the pictures that the run began with, got others in {data}")
    return config
