"""Plain mode: the lines of the layers' own files run, and nothing in their place."""

import contextlib
import os
from typing import Any, Self

SWITCH = "TINYNET_PLAIN"  # the environment variable: "1" starts a program in plain mode
WORDS = {"": False, "0": False, "false": False, "no": False, "off": False}
WORDS |= {"1": True, "true": True, "yes": True, "on": True}

_plain: bool | None = None  # None: nobody asked so far


def is_plain() -> bool:
    """Whether the plain lines run, and no loop of numba, no kernel and no fused pass. Raises ValueError for a
    TINYNET_PLAIN that is neither yes nor no."""
    global _plain
    if _plain is None:
        word = os.environ.get(SWITCH, "").strip().lower()
        if word not in WORDS:
            raise ValueError(f"{SWITCH}: expected 1 for plain mode, or 0, got {os.environ[SWITCH]!r}")
        _plain = WORDS[word]
    return _plain


class plain(contextlib.ContextDecorator):  # noqa: N801 - it reads as a function: with tinynet.plain(): ...
    """`with tinynet.plain():` runs exactly the lines of `tinynet/layers/*.py`, in this process, until the block ends;
    `tinynet.plain()` by itself from now on, and `tinynet.plain(False)` goes back to the fast ones. `@tinynet.plain()`
    before a function does so for each of its calls, and from now on too, as every call of it.

    numba, llvmlite and threadpoolctl are not imported then, unless they were before. The results agree with the fast
    ones up to rounding. The environment variable TINYNET_PLAIN=1 and the option --plain start a program so.

    Raises TypeError unless `on` is True or False.
    """

    def __init__(self, on: bool = True):
        if not isinstance(on, bool):
            raise TypeError(f"plain: expected True or False, got {on!r}")
        self._on = on
        self._before = [is_plain()]  # what holds again when the block, or the block inside it, ends
        self._entered = False
        _set(on)

    def __enter__(self) -> Self:
        if self._entered:
            self._before.append(is_plain())
        self._entered = True
        _set(self._on)
        return self

    def __exit__(self, *failure: Any) -> None:
        _set(self._before.pop())


def _set(on: bool) -> None:
    global _plain
    _plain = on
