"""Runs as their folders tell them: settings, records, and what became of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinynet.training.run_folder import LOG

NO_SETTING = {
    *("event", "epochs", "parameters", "out", "quiet", "tensorboard", "trace", "resume", "evaluate", "ten_crop"),
    *("checkpoint_minutes", "data_dir", "workers", "fingerprints", "provenance", "versions", "data_kind"),
}  # in a log's first record: nothing that changes what is learned, or shown otherwise


@dataclass
class RunLog:
    """problem: what is wrong with the folder; "" for a run that can be read whole."""

    name: str
    records: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def start(self) -> dict[str, Any]:
        return next((record for record in self.records if record.get("event") == "start"), {})

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record.get("event") == "epoch"]

    @property
    def state(self) -> str:
        """How it ended: in words, short."""
        if self.problem:
            return "damaged"
        last = self.records[-1] if self.records else {}
        if last.get("event") == "stopped":
            return str(last.get("reason", "")) if last.get("reason") in ("interrupted", "terminated") else "failed"
        return "finished" if last.get("event") == "final" else "unfinished"

    def settings(self) -> dict[str, str]:
        start = self.start
        shown = {key: _words(value) for key, value in start.items() if key not in NO_SETTING}
        shown |= {f"{name} version": str(value) for name, value in _dict(start, "versions").items()}
        commit = _dict(start, "provenance").get("commit")
        return shown | ({"commit": str(commit)[:8]} if commit else {})

    def pictures(self) -> str:
        """Tells sets of pictures apart."""
        return json.dumps(self.start.get("fingerprints"), sort_keys=True)


def read_run(path: Path) -> RunLog:
    """Raises FileNotFoundError if there is no log, another OSError if it cannot be read."""
    log = path / LOG
    if not path.is_dir() or not log.is_file():
        got = f"{path}, which holds none" if path.exists() else f"{path}: nothing there"
        raise FileNotFoundError(f"expected a run's folder, with its {LOG}, got {got}")
    run = RunLog(str(path))
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            run.problem = f"line {number} of {LOG} is damaged: what comes before it is shown"
            break
        run.records.append(record)
    if not run.problem and not run.start:
        run.problem = f"{LOG} has no first line that tells of its settings"
    return run


def _dict(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
