"""Plain mode: the lines of the layers' own files run, and nothing in their place."""

import os
from typing import Any, Self

SWITCH = "TINYNET_PLAIN"  # the environment variable: "1" starts a program in plain mode

_plain = os.environ.get(SWITCH, "") not in ("", "0")


def is_plain() -> bool:
    """Whether the plain lines run, and no loop of numba, no kernel and no fused pass."""
    return _plain


class plain:  # noqa: N801 - it reads as a function: with tinynet.plain(): ...
    """`with tinynet.plain():` runs exactly the lines of `tinynet/layers/*.py`, in this process, until the block ends;
    `tinynet.plain()` by itself from now on, and `tinynet.plain(False)` goes back to the fast ones.

    numba, llvmlite and threadpoolctl are not imported then, unless they were before. The results agree with the fast
    ones up to rounding. The environment variable TINYNET_PLAIN=1 and the option --plain start a program so.
    """

    def __init__(self, on: bool = True):
        self._before = is_plain()
        _set(on)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        _set(self._before)


def _set(on: bool) -> None:
    global _plain
    _plain = bool(on)
