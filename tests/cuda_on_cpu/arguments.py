"""The arguments of a launch: checked against the kernel's signature, arrays copied in between guard zones."""

import ctypes

import numpy as np

GUARD = 1 << 18  # bytes before and after every array
CANARY = np.uint16(0x7FFD)  # a row of these is NaN as float32 and as float64, and a large number as an integer


class KernelError(AssertionError):
    """A kernel did what it must not do."""


class Guarded:
    """A copy of an array, `inside`, between two guard zones."""

    def __init__(self, array: np.ndarray):
        self.memory = np.full((2 * GUARD + array.nbytes + 1) // 2, CANARY)
        self.nbytes = array.nbytes
        self.inside = self.memory.view(np.uint8)[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
        self.inside[...] = array

    def zones(self) -> list[tuple[int, int]]:
        """Address and bytes of both."""
        start, end = self.memory.ctypes.data, self.inside.ctypes.data + self.nbytes
        return [(start, GUARD), (end, start + self.memory.nbytes - end)]

    def check(self, what: str) -> None:
        before, after = self.memory[: GUARD // 2], self.memory.view(np.uint8)[GUARD + self.nbytes :]
        if (before != CANARY).any():
            raise KernelError(f"{what}: the kernel wrote before the start of the array")
        expected = np.full(after.size // 2 + 1, CANARY).view(np.uint8)[self.nbytes % 2 :][: after.size]
        if (after != expected).any():
            raise KernelError(f"{what}: the kernel wrote past the end of the array")


def check_argument(what: str, expected: str, arg, may_be_null: bool = False):
    """The ctypes type of the parameter, after a check that `arg` fits it."""
    dtype = np.dtype(expected.removeprefix("const ").removesuffix("*"))
    if expected.endswith("*"):
        if arg is None and may_be_null:
            return ctypes.c_void_p
        if not isinstance(arg, np.ndarray) or arg.dtype != dtype or not arg.flags.c_contiguous:
            got = f"{arg.dtype}{arg.shape}, strides {arg.strides}" if isinstance(arg, np.ndarray) else repr(arg)
            null = " or None" if may_be_null else ""
            raise TypeError(f"{what}: expected a C-contiguous array for {expected}{null}, got {got}")
    elif dtype.kind == "f":
        if not isinstance(arg, float):  # np.float64 is a float, too
            raise TypeError(f"{what}: expected a float for {expected}, got {arg!r}")
    else:
        if isinstance(arg, bool) or not isinstance(arg, int | np.integer):
            raise TypeError(f"{what}: expected a whole number for {expected}, got {arg!r}")
        if not np.iinfo(dtype).min <= arg <= np.iinfo(dtype).max:
            raise ValueError(f"{what}: {arg} does not fit {expected}")
    return np.ctypeslib.as_ctypes_type(dtype)
