"""Where a run comes from: which tinynet, when, by which command."""

import datetime
import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import tinynet
from tinynet.mode import is_plain

PROVENANCE = "provenance"  # the entry's name in a run's config and in its weights' metadata
CHECKOUT = Path(__file__).resolve().parents[2]  # or whatever folder the package was installed into
SECONDS = 5  # that git may take
OURS = re.compile(r'^name\s*=\s*"tinynet"', re.MULTILINE)


def provenance() -> dict[str, Any]:
    """{"tinynet": version, "commit": of tinynet's checkout or None, "date": now in UTC, as ISO 8601 has it, "command":
    the command line of this process}, and "plain": True in plain mode. JSON can hold it.

    The commit ends in "+changes" if files that git knows differ from it. It is None for an installed package, without
    git, and whenever git does not answer.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = shlex.join(getattr(sys, "orig_argv", None) or sys.argv)
    about = {"tinynet": tinynet.__version__, "commit": commit(CHECKOUT), "date": now, "command": command}
    return about | ({"plain": True} if is_plain() else {})


def without_provenance(values: Any) -> Any:
    """A copy of `values` (a config, metadata, record or state) without what two equal runs differ in, at any depth."""
    if isinstance(values, dict):
        return {key: without_provenance(value) for key, value in values.items() if key != PROVENANCE}
    return [without_provenance(value) for value in values] if isinstance(values, list) else values


@functools.lru_cache(maxsize=8)
def commit(folder: Path) -> str | None:
    """Of the checkout of tinynet that `folder` is, as it was when first asked: what is loaded does not change."""
    try:
        if not (folder / ".git").exists() or not OURS.search((folder / "pyproject.toml").read_text("utf-8")):
            return None
        # one process for both, hash and changes; a tag would stand for the hash
        words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
        # in a hook, variables such as GIT_DIR name another repository
        elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            words,
            cwd=folder,
            env=elsewhere | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        found = done.stdout.decode("ascii").strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found if re.fullmatch(r"[0-9a-f]{40,64}(\+changes)?", found) else None
