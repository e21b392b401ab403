"""Run kernels under AddressSanitizer, UndefinedBehaviorSanitizer or ThreadSanitizer, and give back what they report.

    def launch(load, case):     # at the top level of a module
        kernel = load(kernel_path("im2col")).get_function(case)
        kernel(grid, block, args)     # on tiny arrays

    reports = run_sanitized(launch, "thread", ["im2col<float>", "im2col<double>"])
    assert reports == {"im2col<float>": "", "im2col<double>": ""}

"address,undefined" sees accesses outside of global and shared arrays (as "use-after-poison") and undefined behaviour.
"thread" sees data races: between the threads of a block that no barrier separates, and between blocks, always, even
where every order of them gives the right result, as with a sum that lacks its atomicAdd.

A sanitizer must be there before Python starts, so all cases run in a process of their own. The arrays' values, and what
the kernel should make of them, are not looked at: other tests do that.
"""

import functools
import importlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from cuda_on_cpu import CpuModule, KernelError

LIBRARIES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=0:suppress_equal_addresses=0",  # kernels share addresses, one after another
    "OPENBLAS_NUM_THREADS": "1",
}
CASE, END = "=== case ", "=== end"  # lines between the reports


class SanitizerError(RuntimeError):
    """The sanitizer cannot run here, or what it was to run failed before its first kernel."""


def why_not_sanitized(sanitize: str) -> str:
    """Why the sanitizer cannot be had on this kind of machine; "" if it can."""
    if not sys.platform.startswith("linux"):
        return "running kernels under a sanitizer needs Linux, where it can be loaded before Python"
    try:
        _libraries(sanitize)
    except SanitizerError as error:
        return str(error)
    return ""


def run_sanitized(function: Callable, sanitize: str, cases: Sequence[str], timeout: float = 300) -> dict[str, str]:
    """What the sanitizer, or an exception, says about each function(load, case); "" where there is nothing to say.

    sanitize: "address,undefined" or "thread". load(source, include=None, names=None) compiles a .cu file with it, or
    only some of its kernels, once: a CpuModule. Raises SanitizerError where the sanitizer cannot run.
    """
    environment = os.environ | OPTIONS | {"LD_PRELOAD": _libraries(sanitize), "PYTHONPATH": os.pathsep.join(sys.path)}
    reports: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        while left := [case for case in cases if case not in reports]:
            command = [sys.executable, "-m", "cuda_on_cpu.sanitize", folder, sanitize]
            output, code = _run([*command, function.__module__, function.__qualname__, *left], environment, timeout)
            before, *sections = re.split(f"^{CASE}", output, flags=re.MULTILINE)
            if not sections:
                raise SanitizerError(f"-fsanitize={sanitize} does not run here, exit code {code}:\n{before}")
            for case, section in zip(left, sections, strict=False):
                report, _, end = section.partition("\n")[2].partition(END)
                reports[case] = report.strip()
            if not end:  # a crash, of the last case that ran; the next process goes on behind it
                reports[case] += f"\nthe process ended with exit code {code}"
    return reports


def _libraries(sanitize):
    names = [LIBRARIES[name] for name in sanitize.split(",")] + ["libstdc++.so"]
    paths = []
    for name in names:
        command = ["g++", f"-print-file-name={name}"]
        paths.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        if not Path(paths[-1]).is_absolute():  # the bare name, where g++ does not find it
            raise SanitizerError(f"-fsanitize={sanitize} needs {name}, which g++ does not have here")
    return " ".join(paths)


def _run(command, environment, timeout):
    """Output and exit code; without randomised addresses if the sanitizer cannot do with the ones it gets."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    result = subprocess.run(command, env=environment, timeout=timeout, check=False, **pipe)
    if "FATAL: ThreadSanitizer: unexpected memory mapping" not in result.stdout:
        return result.stdout, result.returncode
    try:
        again = subprocess.run(
            ["setarch", platform.machine(), "-R", *command], env=environment, timeout=timeout, check=False, **pipe
        )
    except FileNotFoundError as error:
        return f"{result.stdout}\nand without randomised addresses: {error}", result.returncode
    return again.stdout, again.returncode


def _child(folder, sanitize, module, function, *cases):
    @functools.cache
    def compiled(source, include, names):
        return CpuModule(source, Path(folder), include, sanitize, names)

    def load(source, include=None, names=None):
        return compiled(source, include, names and tuple(names))

    run = importlib.import_module(module)
    for part in function.split("."):
        run = getattr(run, part)
    for case in cases:
        os.write(2, f"\n{CASE}{case}\n".encode())
        try:
            run(load, case)
        except KernelError as error:
            os.write(2, f"KernelError: {error}".encode())
        except Exception:
            os.write(2, traceback.format_exc().encode())
    os.write(2, f"\n{END}\n".encode())


if __name__ == "__main__":
    _child(*sys.argv[1:])
