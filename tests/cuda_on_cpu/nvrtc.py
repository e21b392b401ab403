"""Compile .cu files for real GPUs, on a machine that has none.

NVIDIA's runtime compiler NVRTC is one library with a C interface, which the wheel nvidia-cuda-nvrtc-cu12 and the CUDA
toolkit bring. It needs neither GPU nor driver, and it is the one that CuPy uses: stricter than nvcc, as it has no
standard headers. nvcc stands in where it is missing.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Volta to Blackwell; left out are the modules for cars and robots (72, 87, 101) and 103, which is 100 for plain code
ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)
AGED = re.compile(r"nvrtc: warning: Architectures prior to .* are deprecated.*")  # NVRTC 12.9 has no option against it


class CompileError(AssertionError):
    """The compiler's errors, or its warnings."""


class Nvrtc:
    def __init__(self, library: str):
        self.library = ctypes.CDLL(library)
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def __str__(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"NVRTC {major.value}.{minor.value}"

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", known)
        return [architecture for architecture in ARCHITECTURES if architecture in known]

    def cubin(self, source: Path, names: Sequence[str], architecture: int) -> bytes:
        """Machine code for the kernels `names`. Raises CompileError if the compiler has anything to say."""
        program = ctypes.c_void_p()
        text, name = source.read_bytes(), source.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, name, 0, None, None)
        try:
            for name_expression in names:
                self._call("nvrtcAddNameExpression", program, name_expression.encode())
            options = [f"-arch=sm_{architecture}", "-std=c++17", f"-I{source.parent}"]
            encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            failed = self.library.nvrtcCompileProgram(program, len(options), encoded)
            log = self._bytes("nvrtcGetProgramLog", program).rstrip(b"\0").decode().strip()
            about_the_source = AGED.sub("", log)
            if failed or about_the_source:
                raise CompileError(f"{source.name} for sm_{architecture} with {self}:\n{log}")
            return self._bytes("nvrtcGetCUBIN", program)
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


class Nvcc:
    """The same by nvcc: slower, a process a file, so only the oldest and the newest architecture."""

    def __init__(self, command: str):
        self.command = command

    def __str__(self):
        return "nvcc"

    def architectures(self) -> list[int]:
        listing = subprocess.run([self.command, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
        known = [int(number) for number in re.findall(r"^sm_(\d+)$", listing, re.MULTILINE)]
        wanted = [architecture for architecture in ARCHITECTURES if architecture in known]
        return [wanted[0], wanted[-1]]

    def cubin(self, source: Path, names: Sequence[str], architecture: int) -> bytes:
        # taking the address of a kernel is what makes nvcc emit a template's code
        taken = "".join(f"  (void*){name},\n" for name in names)
        with tempfile.TemporaryDirectory() as folder:
            wrapper, output = Path(folder, "wrapper.cu"), Path(folder, "out.cubin")
            wrapper.write_text(f'#include "{source.as_posix()}"\nvoid* taken[] = {{\n{taken}}};\n', encoding="utf-8")
            options = [f"-arch=sm_{architecture}", "-std=c++17", "-Werror=all-warnings", "-Wno-deprecated-gpu-targets"]
            command = [self.command, "-cubin", *options, "-o", str(output), str(wrapper)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode or result.stderr:
                raise CompileError(f"{source.name} for sm_{architecture} with nvcc:\n{result.stdout}{result.stderr}")
            return output.read_bytes()


@functools.cache
def find_compiler() -> Nvrtc | Nvcc | None:
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


def symbol(name: str) -> bytes:
    """How the name of a kernel begins in machine code (the Itanium C++ ABI): im2col<float> -> _Z6im2colIfE."""
    function, _, type_ = name.partition("<")
    argument = f"I{type_[0]}E" if type_ else ""  # the ABI's letters for float and double are f and d
    return f"_Z{len(function)}{function}{argument}".encode()
