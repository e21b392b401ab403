"""Compile .cu files for real GPUs, on a machine that has none.

NVIDIA's runtime compiler NVRTC is one library with a C interface, which the wheel nvidia-cuda-nvrtc-cu12 and the CUDA
toolkit bring. It needs neither GPU nor driver, and it is the one that CuPy uses: stricter than nvcc, as it has no
standard headers. nvcc stands in where it is missing. Its options are CuPy's.

    python -m cuda_on_cpu.nvrtc ../kernels/lrn.cu 80    # in tests/: registers, spills, shared memory of each kernel

A file for newer GPUs only says so in a line of its own: `// needs sm_80`.
"""

import contextlib
import ctypes
import ctypes.util
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .source import kernel_names

# Volta to Blackwell; left out are the modules for cars and robots (72, 87, 101) and 103, which is 100 for plain code
ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)
AGED = re.compile(r"nvrtc: warning: Architectures prior to .* are deprecated.*")  # NVRTC 12.9 has no option against it
SPILL = re.compile(
    r"ptxas warning : Registers are spilled to local memory in function '(\w+)', (\d+) bytes spill stores.*\n?"
)
CUPY_OPTIONS = "-ftz=true", "--device-as-default-execution-space"  # which CuPy 14 adds to a kernel's own
WARN_ON_SPILLS = "--warn-on-spills"  # an option of the assembler, ptxas


class CompileError(AssertionError):
    """The compiler's errors, or its warnings."""


class Compiler:
    """Either compiler; str() is its name."""

    def architectures(self, source: Path | None = None) -> list[int]:
        """All that can be compiled for; of these, those that `source` is for."""
        raise NotImplementedError

    def cubin(
        self,
        source: Path,
        names: Sequence[str],
        architecture: int,
        include: Path | None = None,
        spills: int | None = None,
        more: Mapping[str, int] | None = None,
    ) -> bytes:
        """Machine code for the kernels `names`. Raises CompileError if the compiler has anything to say, or if a kernel
        stores more than `spills` bytes a thread to memory for want of registers (None: as many as it likes). more:
        {name: bytes} of kernels that may store more than that."""
        folders = [f"-I{folder}" for folder in (source.parent, include) if folder]
        code, log = self._cubin(source, names, architecture, folders, spills is not None)
        if log := _without_few_spills(log, spills or 0, more or {}):
            raise CompileError(f"{source.name} for sm_{architecture} with {self}:\n{log}")
        return code

    def _cubin(self, source, names, architecture, folders, tell_spills) -> tuple[bytes, str]:
        """Machine code and what the compiler said. Raises CompileError if it failed."""
        raise NotImplementedError


class Nvrtc(Compiler):
    def __init__(self, library: str):
        self.library = ctypes.CDLL(library)
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def __str__(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"NVRTC {major.value}.{minor.value}"

    def architectures(self, source: Path | None = None) -> list[int]:
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", known)
        return [architecture for architecture in _wanted(source) if architecture in known]

    def _cubin(self, source, names, architecture, folders, tell_spills):
        options = (f"--ptxas-options={WARN_ON_SPILLS}",) if tell_spills else ()
        with self._compiled(source, names, architecture, *folders, *options) as (program, log):
            return self._bytes("nvrtcGetCUBIN", program), log

    def usage(self, source: Path, names: Sequence[str], architecture: int) -> dict[str, str]:
        """What the assembler says of each kernel: its registers, the bytes that did not fit them, shared memory."""
        options = f"-I{source.parent}", "--ptxas-options=-v"
        with self._compiled(source, names, architecture, *options) as (program, log):
            said = {}
            for name in names:
                lowered = ctypes.c_char_p()
                self._call("nvrtcGetLoweredName", program, name.encode(), ctypes.byref(lowered))
                about = log.partition(f"Function properties for {lowered.value.decode()}\n")[2].splitlines()[:2]
                said[name] = ", ".join(re.sub(r"^ptxas\s+(info|\.)\s*:?\s*", "", line).strip() for line in about)
            return said

    @contextlib.contextmanager
    def _compiled(self, source, names, architecture, *more) -> Iterator[tuple[ctypes.c_void_p, str]]:
        """The program and what the compiler said. Raises CompileError if it failed."""
        program = ctypes.c_void_p()
        text, name = source.read_bytes(), source.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, name, 0, None, None)
        try:
            for name_expression in names:
                self._call("nvrtcAddNameExpression", program, name_expression.encode())
            options = [f"-arch=sm_{architecture}", "-std=c++17", *CUPY_OPTIONS, *more]
            encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            failed = self.library.nvrtcCompileProgram(program, len(options), encoded)
            log = self._bytes("nvrtcGetProgramLog", program).rstrip(b"\0").decode().strip()
            if failed:
                raise CompileError(f"{source.name} for sm_{architecture} with {self}:\n{log}")
            yield program, AGED.sub("", log).strip()
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _bytes(self, function: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(function + "Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(function, program, buffer)
        return buffer.raw

    def _call(self, function: str, *args) -> None:
        error = getattr(self.library, function)(*args)
        if error:
            raise CompileError(f"{function}: {self.library.nvrtcGetErrorString(error).decode()}")


class Nvcc(Compiler):
    """The same by nvcc: slower, a process a file, so only the oldest and the newest architecture."""

    def __init__(self, command: str):
        self.command = command

    def __str__(self):
        return "nvcc"

    def architectures(self, source: Path | None = None) -> list[int]:
        listing = subprocess.run([self.command, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
        known = [int(number) for number in re.findall(r"^sm_(\d+)$", listing, re.MULTILINE)]
        wanted = [architecture for architecture in _wanted(source) if architecture in known]
        return sorted({wanted[0], wanted[-1]})

    def _cubin(self, source, names, architecture, folders, tell_spills):
        # taking the address of a kernel is what makes nvcc emit a template's code
        taken = "".join(f"  (void*){name},\n" for name in names)
        with tempfile.TemporaryDirectory() as folder:
            wrapper, output = Path(folder, "wrapper.cu"), Path(folder, "out.cubin")
            wrapper.write_text(f'#include "{source.as_posix()}"\nvoid* taken[] = {{\n{taken}}};\n', encoding="utf-8")
            options = [f"-arch=sm_{architecture}", "-std=c++17", "-ftz=true", "-Wno-deprecated-gpu-targets"]
            options += ["-Xptxas", WARN_ON_SPILLS] if tell_spills else ["-Werror=all-warnings"]
            command = [self.command, "-cubin", *options, *folders, "-o", str(output), str(wrapper)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            said = f"{result.stdout}{result.stderr}"
            if result.returncode:
                raise CompileError(f"{source.name} for sm_{architecture} with {self}:\n{said}")
            return output.read_bytes(), said


@functools.cache
def find_compiler() -> Compiler | None:
    """NVRTC from a wheel, else from the system's libraries, else nvcc, else None."""
    nvidia = importlib.util.find_spec("nvidia")
    for folder in nvidia.submodule_search_locations or () if nvidia else ():
        for pattern in ("*/lib/libnvrtc.so.*", "*/bin/**/nvrtc64_*_0.dll"):
            for library in sorted(Path(folder).glob(pattern), reverse=True):  # cuda_nvrtc (12, knows sm_70) before cu13
                return Nvrtc(str(library))
    library = ctypes.util.find_library("nvrtc")
    if library:
        return Nvrtc(library)
    nvcc = shutil.which("nvcc")
    return Nvcc(nvcc) if nvcc else None


LETTERS = {"float": "f", "double": "d", "int": "i", "unsigned": "j", "long long": "x", "unsigned char": "h"}
LETTERS |= {"true": "Lb1E", "false": "Lb0E"}


def symbol(name: str) -> bytes:
    """How the name of a kernel begins in machine code (the Itanium C++ ABI): pool<float, 3> -> _Z4poolIfLi3EE.

    A number is taken for the value of an int; at the first argument that is a name of the source's own, this ends.
    """
    function, _, arguments = name.removesuffix(">").partition("<")
    code = f"_Z{len(function)}{function}{'I' if arguments else ''}"
    for argument in arguments.split(",") if arguments else ():
        word = argument.strip()
        if word not in LETTERS and not re.fullmatch(r"-?\d+", word):
            return code.encode()
        code += LETTERS.get(word) or f"Li{word.replace('-', 'n')}E"
    return f"{code}{'E' if arguments else ''}".encode()


def _without_few_spills(log, most, more):
    """What the compiler said, less the warnings of no more than `most` bytes, or for a kernel in `more` its number."""
    symbols = {symbol(name).decode(): size for name, size in more.items()}

    def what_stays(spill):
        own = [size for begin, size in symbols.items() if spill[1].startswith(begin)]
        return spill[0] if int(spill[2]) > max([most, *own]) else ""

    return SPILL.sub(what_stays, log).strip()


def _wanted(source):
    needs = re.search(r"^// needs sm_(\d+)", source.read_text(encoding="utf-8"), re.MULTILINE) if source else None
    return [architecture for architecture in ARCHITECTURES if not needs or architecture >= int(needs[1])]


def main(path: str, *architectures: str) -> None:
    compiler = find_compiler()
    if not isinstance(compiler, Nvrtc):
        sys.exit("this needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
    source = Path(path)
    for architecture in map(int, architectures or ("80",)):
        for name, said in compiler.usage(source, kernel_names(source), architecture).items():
            print(f"sm_{architecture} {name}: {said}")


if __name__ == "__main__":
    main(*sys.argv[1:])
