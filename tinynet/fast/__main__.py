"""`python -m tinynet.fast`: write the digests anew, for who edited a layer's file and its twin alike.

Only after a layer's lines and its twin agreed on every example, in float32 and float64 (`tinynet.fast.agreement`); else
it says where they differ, and writes nothing. --check only says whether the digests are those of the files.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tinynet.fast import identity, plan, single
from tinynet.fast.agreement import disagreement, update_disagreement
from tinynet.inspect.check import check_layer
from tinynet.io.files import atomic_write
from tinynet.layers import Flatten, Layer, Sequential

FILE = Path(__file__).with_name("digests.json")
USAGE = "usage: python -m tinynet.fast [--check]"


def digests() -> dict[str, str]:
    """{module: digest} of the files as they are. ValueError where there is no source to read."""
    modules = sorted(set().union(*(identity.Identity(kind, {}).modules for kind in plan.KNOWN)))
    sources = {module: identity.source_of(module) for module in modules}
    missing = [module for module, source in sources.items() if source is None]
    if missing or not FILE.is_file():
        raise ValueError(f"expected a checkout, with the source of {missing[0] if missing else FILE.name}; got none")
    return {module: identity.digest(source) for module, source in sources.items() if source is not None}


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """A line for each file whose digest is another than before."""
    words = {True: "has no digest yet", False: "changed"}
    lines = [f"{module}: {words[module not in old]}" for module in new if old.get(module) != new[module]]
    return lines + [f"{module}: nothing depends on it any more" for module in old if module not in new]


def wrong(kind: type[Layer]) -> str | None:
    """What is wrong with a layer that has no twin to be compared with; None if nothing is."""
    verdict = check_layer(kind)
    return None if verdict.right else verdict.sentence


def renew(check: bool) -> int:
    """The exit code: 0 if the digests are those of the files, or are now."""
    found = changes(identity.stored_digests(), new := digests())
    for line in found:
        print(line)
    if check:
        print("run `python -m tinynet.fast` to renew the digests" if found else "the digests are up to date")
        return 1 if found else 0
    edited = {line.partition(":")[0] for line in found}
    for kind in sorted(single.TWINS, key=lambda kind: kind.__module__ not in edited):  # those first
        if problem := disagreement(kind):
            print(f"{problem}; nothing was written", file=sys.stderr)
            return 1
    if problem := update_disagreement() or next(filter(None, map(wrong, (Flatten, Sequential))), None):
        print(f"{problem}; nothing was written", file=sys.stderr)
        return 1
    if found:
        atomic_write(FILE, (json.dumps(new, indent=2) + "\n").encode())
    print(f"plain and fast agree; {'wrote ' + FILE.name if found else 'the digests are up to date'}")
    return 0


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--check"]):
        print(f"expected nothing or --check, got {' '.join(arguments)}\n{USAGE}", file=sys.stderr)
        return 2
    try:
        return renew(check=bool(arguments))
    except (OSError, ValueError) as error:
        print(f"python -m tinynet.fast: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
