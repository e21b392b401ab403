"""Run the .cu files of this repository on the CPU, on NumPy arrays, and watch what they do.

    module = CpuModule(kernel_path("philox"), folder_for_the_library)
    philox_bits = module.get_function("philox_bits")
    philox_bits(grid, block, (out, out.size, seed, stream, step), order="shuffled")

g++ compiles the file with `cuda_on_cpu.h` for what CUDA adds to C++, into a shared library that ctypes calls.
The face is that of cupy.RawModule. A launch is stricter than a GPU:

- every argument must be what the kernel's signature says: a contiguous array of the right dtype, a number in range;
- every array lies between two guard zones that read as NaN; a launch that changes one, or an input, fails;
- shared memory is full of NaN when a block starts, and lies between guard zones, too;
- a thread that crashes, overflows an int, loads from a misaligned address or divides by zero is reported with its
  block and thread, and so is one that waits for threads that never come;
- blocks and threads run in the order asked for, so that a result that depends on the order can be seen to.

What this does not see, sanitizers may: `sanitize.py`.
"""

import ctypes
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .arguments import Guarded, KernelError, check_argument
from .source import Kernel, for_cpu, kernel_names, kernels

__all__ = ["ORDERS", "CpuKernel", "CpuModule", "KernelError", "kernel_names", "why_not"]

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = (
    *("-std=c++20", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE"),
    "-fstack-clash-protection",  # a frame larger than what is left of a fiber's stack crashes, wherever it would end
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),  # such as #pragma unroll
)
# the trap needs no runtime library; clang knows the flag, too
TRAP = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
ORDERS = ("forward", "reversed", "shuffled")

MOST_THREADS, MOST_SHARED = 1024, 227 << 10  # of a block, on sm_90
LARGEST_BLOCK, LARGEST_GRID = (1024, 1024, 64), (2**31 - 1, 65535, 65535)


def why_not() -> str:
    """Why .cu files cannot be compiled for the CPU here; "" if they can."""
    if os.name == "nt":
        return "running kernels on the CPU needs the signals of a POSIX system"
    if not shutil.which("g++"):
        return "running kernels on the CPU needs g++, which is not on PATH"
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.cpp")
        probe.write_text("#include <math.h>\nint one() { return 1; }\n")
        result = _build(probe, probe.with_suffix(".so"), *TRAP)
    return f"g++ cannot build a shared library here: {result.stderr.strip()}" if result.returncode else ""


class CpuModule:
    """A .cu file compiled for the CPU, in `folder`, unless that was done there already; it may include headers from its
    own folder and from `include`.

    sanitize: "", or "address,undefined" or "thread" in a process that run_sanitized has started. names: of the
    kernels to compile, by default all that kernel_names lists.
    Raises KernelError with the compiler's words if it does not compile.
    """

    def __init__(
        self,
        source: Path,
        folder: Path,
        include: Path | None = None,
        sanitize: str = "",
        names: Sequence[str] | None = None,
    ):
        if sanitize and "LD_PRELOAD" not in os.environ:
            raise RuntimeError("sanitizers must be loaded before Python starts: use cuda_on_cpu.sanitize.run_sanitized")
        self.source, self.kernels = source, {}
        for kernel in kernels(source):
            every = [kernel.name + instance for instance in kernel.instances]
            self.kernels |= {name: kernel for name in every if names is None or name in names}
        headers = [*(include or source.parent).glob("*.cuh"), *source.parent.glob("*.cuh")]
        texts = {header.name: for_cpu(header) for header in headers}
        lines = [f'#include "{HEADER.as_posix()}"\n', for_cpu(source), f'#line 1 "kernels of {source.name}"\n']
        lines += [f"CUDA_ON_CPU_KERNEL({i}, {name})\n" for i, name in enumerate(self.kernels)]
        texts[f"{source.stem}.cpp"] = "".join(lines)
        recover = ("-fsanitize-recover=address",) if "address" in sanitize else ()
        flags = (f"-fsanitize={sanitize}", "-g1", *recover) if sanitize else TRAP
        self.library = ctypes.CDLL(str(_library(source, texts, flags, folder)))

    def get_function(self, name: str) -> "CpuKernel":
        if name not in self.kernels:
            raise KernelError(f"{self.source.name}: no kernel {name}; it has {', '.join(self.kernels)}")
        return CpuKernel(self.library, list(self.kernels).index(name), name, self.kernels[name])


class CpuKernel:
    """One kernel: call it as kernel(grid, block, args). A grid or block is a tuple of one to three sizes."""

    def __init__(self, library: ctypes.CDLL, number: int, name: str, declared: Kernel):
        self.name, self.library, self.declared = name, library, declared
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
        shared_mem: int = 0,
        order: str = "forward",
        blocks: Sequence[int] | None = None,
        guarded: bool = True,
    ) -> None:
        """Run the kernel; arrays that it takes by a non-const pointer are changed in place.

        args: an array for each pointer, or None for one that may be null. shared_mem: bytes of dynamic shared memory.
        order: of blocks and of the threads in each, one of ORDERS. blocks: the numbers of those to run, by default all.
        guarded=False leaves out the guard zones and the copies that they need, for arrays that are too large to copy.

        Raises KernelError if the kernel crashes, waits in vain, writes outside its arrays or into an input, or wants
        more than a GPU has; TypeError or ValueError for arguments that the signature does not allow.
        """
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name}: expected {len(self.signature)} arguments {self.signature}, got {len(args)}")
        values, zones = [], {}
        for i, (expected, arg) in enumerate(zip(self.signature, args, strict=True)):
            number = check_argument(f"{self.name}: argument {i}", expected, arg, self.declared.may_be_null(i))
            if arg is None:
                values.append(ctypes.c_void_p(None))
            elif not isinstance(arg, np.ndarray):
                values.append(number(arg))
            elif guarded:
                zones[i] = Guarded(arg)
                values.append(ctypes.c_void_p(zones[i].inside.ctypes.data))
            else:
                values.append(ctypes.c_void_p(arg.ctypes.data))
        self._poison("poison", zones)
        try:
            self._run(grid, block, values, shared_mem, order, blocks)
        finally:
            self._poison("unpoison", zones)

        for i, zone in zones.items():
            zone.check(f"{self.name}: argument {i}")
            if not self.signature[i].startswith("const "):
                args[i][...] = zone.inside
            elif zone.inside.tobytes() != args[i].tobytes():
                raise KernelError(f"{self.name}: argument {i} is an input, {self.signature[i]}, and was changed")

    def _run(self, grid, block, values, shared_mem, order, blocks):
        grid, block = (tuple(size) + (1,) * (3 - len(size)) for size in (grid, block))
        self._check_sizes(grid, block, shared_mem)
        block_order = _ordered(range(math.prod(grid)) if blocks is None else blocks, order, np.int64)
        thread_order = _ordered(range(math.prod(block)), order, np.int32)
        launch = _Launch(
            *(_Size(*grid), _Size(*block)),
            *(block_order.ctypes.data, block_order.size, thread_order.ctypes.data, thread_order.size, shared_mem),
        )
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        failed = self.launch(ctypes.byref(launch), pointers)
        if failed:
            where = f"block {self._where('crashed_block')}, thread {self._where('crashed_thread')}"
            if failed > 0:
                raise KernelError(f"{self.name}: {signal.Signals(failed).name} in {where}")
            self.library.failure_message.restype = ctypes.c_char_p
            raise KernelError(f"{self.name}: {where}: {self.library.failure_message().decode()}")

    def _check_sizes(self, grid, block, shared_mem):
        threads = math.prod(block)
        most = self.declared.most_threads or MOST_THREADS
        if threads > most:
            raise KernelError(f"{self.name}: a block of {threads} threads; at most {most} are possible")
        if shared_mem > MOST_SHARED:
            raise KernelError(f"{self.name}: {shared_mem} bytes of shared memory; at most {MOST_SHARED} are possible")
        for what, sizes, largest in (("block", block, LARGEST_BLOCK), ("grid", grid, LARGEST_GRID)):
            if not all(1 <= size <= most for size, most in zip(sizes, largest, strict=True)):
                raise KernelError(f"{self.name}: expected a {what} from (1, 1, 1) to {largest}, got {sizes}")

    def _where(self, function):
        index = getattr(self.library, function)
        index.restype = ctypes.POINTER(ctypes.c_uint)
        return tuple(index()[:3])

    def _poison(self, function, zones):
        """Let AddressSanitizer, if the kernel was compiled for it, watch the guard zones, or no longer."""
        for zone in zones.values():
            for address, nbytes in zone.zones():
                getattr(self.library, function)(ctypes.c_void_p(address), ctypes.c_longlong(nbytes))


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
        ("shared_bytes", ctypes.c_longlong),
    )


def _ordered(numbers, order, dtype):
    numbers = np.array(numbers, dtype)
    if order not in ORDERS:
        raise ValueError(f"expected order to be one of {ORDERS}, got {order!r}")
    if order == "shuffled":
        return np.random.default_rng(numbers.size).permutation(numbers)
    return numbers[::-1].copy() if order == "reversed" else numbers


def _library(source: Path, texts: dict[str, str], flags: Sequence[str], folder: Path) -> Path:
    """The shared library of these files, in `folder`: built once, whoever asks, also by processes side by side."""
    own = [header.read_text("utf-8") for header in sorted(HEADER.parent.glob("*.h"))]
    contents = json.dumps([texts, FLAGS, flags, str(HEADER), own])
    library = folder / f"{source.stem}-{hashlib.sha256(contents.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        build = Path(tempfile.mkdtemp(prefix=f"{source.stem}-", dir=folder))
        for name, text in texts.items():
            (build / name).write_text(text, encoding="utf-8")
        result = _build(build / f"{source.stem}.cpp", build / library.name, *flags)
        if result.returncode:
            raise KernelError(f"{source.name} does not compile for the CPU:\n{result.stderr}")
        (build / library.name).replace(library)
    return library


def _build(source: Path, library: Path, *flags: str) -> subprocess.CompletedProcess:
    command = ["g++", *FLAGS, *flags, "-o", str(library), str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # not into g++
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
