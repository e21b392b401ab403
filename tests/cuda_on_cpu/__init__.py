"""Run the .cu files of this repository on the CPU, on NumPy arrays, and watch what they do.

    module = CpuModule(kernel_path("philox"), folder_for_the_library)
    philox_bits = module.get_function("philox_bits")
    philox_bits(grid, block, (out, out.size, seed, stream, step), order="shuffled")

g++ compiles the file as it is, with `cuda_on_cpu.h` for what CUDA adds to C++, into a shared library that ctypes calls.
The face is that of cupy.RawModule. A launch is stricter than a GPU:

- every argument must be what the kernel's signature says: a contiguous array of the right dtype, a number in range;
- every array lies between two guard zones that read as NaN; a launch that changes one, or an input, fails;
- a thread that crashes, overflows an int or divides by zero is reported with its block and thread;
- blocks and threads run in the order asked for, so that a result that depends on the order can be seen to.
"""

import ctypes
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = (
    *("-std=c++20", "-O1", "-shared", "-fPIC", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror"),
    # the trap needs no runtime library; clang knows the flag, too
    *("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"),
)
ORDERS = ("forward", "reversed", "shuffled")

GUARD = 1 << 18  # bytes before and after every array
CANARY = np.uint16(0x7FFD)  # a row of these is NaN as float32 and as float64, and a large number as an integer

KERNEL = re.compile(r"(template <typename T>\s+)?__global__\s+void\s+(\w+)\s*\(")


class KernelError(AssertionError):
    """A kernel did what it must not do."""


def kernel_names(source: Path) -> list[str]:
    """The name expressions of all kernels in a .cu file: ["im2col<float>", "im2col<double>", ...].

    Raises ValueError if a kernel is written in a way that this does not see.
    """
    text = re.sub(r"//.*", "", source.read_text(encoding="utf-8"))
    kernels = KERNEL.findall(text)
    if len(kernels) != text.count("__global__"):
        raise ValueError(
            f"{source.name}: expected kernels as `__global__ void name(`, or `template <typename T>` before it; "
            f"of {text.count('__global__')} I understand {[name for _, name in kernels]}"
        )
    types = {True: ("<float>", "<double>"), False: ("",)}
    return [name + type_ for template, name in kernels for type_ in types[bool(template)]]


def why_not(folder: Path) -> str:
    """Why .cu files cannot be compiled for the CPU here; "" if they can."""
    if os.name == "nt":
        return "running kernels on the CPU needs the signals of a POSIX system"
    if not shutil.which("g++"):
        return "running kernels on the CPU needs g++, which is not on PATH"
    probe = folder / "probe.cpp"
    probe.write_text("#include <math.h>\nint one() { return 1; }\n")
    result = _build(probe, folder / "probe.so")
    return f"g++ cannot build a shared library here: {result.stderr.strip()}" if result.returncode else ""


class CpuModule:
    """A .cu file compiled for the CPU, in `folder`; it may include headers from its own folder and from `include`.

    Raises KernelError with the compiler's words if it does not compile.
    """

    def __init__(self, source: Path, folder: Path, include: Path | None = None):
        self.source, self.names = source, kernel_names(source)
        wrapper = folder / f"{source.stem}.cpp"
        lines = [f'#include "{file.as_posix()}"\n' for file in (HEADER, source)]
        lines += [f"CUDA_ON_CPU_KERNEL({i}, {name})\n" for i, name in enumerate(self.names)]
        wrapper.write_text("".join(lines), encoding="utf-8")
        library = folder / f"{source.stem}.so"
        result = _build(wrapper, library, f"-I{include or source.parent}")
        if result.returncode:
            raise KernelError(f"{source.name} does not compile for the CPU:\n{result.stderr}")
        self.library = ctypes.CDLL(str(library))

    def get_function(self, name: str) -> "CpuKernel":
        if name not in self.names:
            raise KernelError(f"{self.source.name}: no kernel {name}; it has {', '.join(self.names)}")
        return CpuKernel(self.library, self.names.index(name), name)


class CpuKernel:
    """One kernel: call it as kernel(grid, block, args). A grid or block is a tuple of one to three sizes."""

    def __init__(self, library: ctypes.CDLL, number: int, name: str):
        self.name, self.library = name, library
        self.launch = getattr(library, f"launch_{number}")
        signature = getattr(library, f"signature_{number}")
        signature.restype = ctypes.POINTER(ctypes.c_char_p)
        self.signature: list[str] = []
        for word in signature():  # a C array that ends in a null pointer
            if word is None:
                break
            self.signature.append(word.decode())

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence,
        order: str = "forward",
        blocks: Sequence[int] | None = None,
        guarded: bool = True,
    ) -> None:
        """Run the kernel; arrays that it takes by a non-const pointer are changed in place.

        order: of blocks and of the threads in each, one of ORDERS. blocks: the numbers of those to run, by default all.
        guarded=False leaves out the guard zones and the copies that they need, for arrays that are too large to copy.

        Raises KernelError if the kernel crashes, writes outside its arrays or into an input; TypeError or ValueError
        for arguments that the signature does not allow.
        """
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name}: expected {len(self.signature)} arguments {self.signature}, got {len(args)}")
        values, zones = [], {}
        for i, (expected, arg) in enumerate(zip(self.signature, args, strict=True)):
            number = _check_argument(f"{self.name}: argument {i}", expected, arg)
            if not isinstance(arg, np.ndarray):
                values.append(number(arg))
            elif guarded:
                zones[i] = _Guarded(arg)
                values.append(ctypes.c_void_p(zones[i].inside.ctypes.data))
            else:
                values.append(ctypes.c_void_p(arg.ctypes.data))
        self._run(grid, block, values, order, blocks)

        for i, zone in zones.items():
            zone.check(f"{self.name}: argument {i}")
            if not self.signature[i].startswith("const "):
                args[i][...] = zone.inside
            elif zone.inside.tobytes() != args[i].tobytes():
                raise KernelError(f"{self.name}: argument {i} is an input, {self.signature[i]}, and was changed")

    def _run(self, grid, block, values, order, blocks):
        grid, block = (tuple(size) + (1,) * (3 - len(size)) for size in (grid, block))
        block_order = _ordered(range(math.prod(grid)) if blocks is None else blocks, order, np.int64)
        thread_order = _ordered(range(math.prod(block)), order, np.int32)
        launch = _Launch(
            *(_Size(*grid), _Size(*block)),
            *(block_order.ctypes.data, block_order.size, thread_order.ctypes.data, thread_order.size),
        )
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        signal_number = self.launch(ctypes.byref(launch), pointers)
        if signal_number:
            block_index, thread_index = self._where("crashed_block"), self._where("crashed_thread")
            crash = signal.Signals(signal_number).name
            raise KernelError(f"{self.name}: {crash} in block {block_index}, thread {thread_index}")

    def _where(self, function):
        index = getattr(self.library, function)
        index.restype = ctypes.POINTER(ctypes.c_uint)
        return tuple(index()[:3])


class _Guarded:
    """A copy of an array, `inside`, between two guard zones."""

    def __init__(self, array: np.ndarray):
        self.memory = np.full((2 * GUARD + array.nbytes + 1) // 2, CANARY)
        self.nbytes = array.nbytes
        self.inside = self.memory.view(np.uint8)[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
        self.inside[...] = array

    def check(self, what: str) -> None:
        before, after = self.memory[: GUARD // 2], self.memory[(GUARD + self.nbytes) // 2 :]
        if (before != CANARY).any():
            raise KernelError(f"{what}: the kernel wrote before the start of the array")
        if (after != CANARY).any():
            raise KernelError(f"{what}: the kernel wrote past the end of the array")


_Size = ctypes.c_uint * 3


class _Launch(ctypes.Structure):
    """`Launch` in cuda_on_cpu.h."""

    _fields_ = (
        ("grid", _Size),
        ("block", _Size),
        ("blocks", ctypes.c_void_p),
        ("block_count", ctypes.c_longlong),
        ("threads", ctypes.c_void_p),
        ("thread_count", ctypes.c_int),
    )


def _check_argument(what, expected, arg):
    """The ctypes type of the parameter, after a check that `arg` fits it."""
    dtype = np.dtype(expected.removeprefix("const ").removesuffix("*"))
    if expected.endswith("*"):
        if not isinstance(arg, np.ndarray) or arg.dtype != dtype or not arg.flags.c_contiguous:
            got = f"{arg.dtype}{arg.shape}, strides {arg.strides}" if isinstance(arg, np.ndarray) else repr(arg)
            raise TypeError(f"{what}: expected a C-contiguous array for {expected}, got {got}")
    elif dtype.kind == "f":
        if not isinstance(arg, float):  # np.float64 is a float, too
            raise TypeError(f"{what}: expected a float for {expected}, got {arg!r}")
    else:
        if isinstance(arg, bool) or not isinstance(arg, int | np.integer):
            raise TypeError(f"{what}: expected a whole number for {expected}, got {arg!r}")
        if not np.iinfo(dtype).min <= arg <= np.iinfo(dtype).max:
            raise ValueError(f"{what}: {arg} does not fit {expected}")
    return np.ctypeslib.as_ctypes_type(dtype)


def _ordered(numbers, order, dtype):
    numbers = np.array(numbers, dtype)
    if order not in ORDERS:
        raise ValueError(f"expected order to be one of {ORDERS}, got {order!r}")
    if order == "shuffled":
        return np.random.default_rng(numbers.size).permutation(numbers)
    return numbers[::-1].copy() if order == "reversed" else numbers


def _build(source: Path, library: Path, *flags: str) -> subprocess.CompletedProcess:
    command = ["g++", *FLAGS, *flags, "-o", str(library), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
