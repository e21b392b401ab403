"""The repository's own tests on the real GPU, and its kernels under compute-sanitizer: in processes of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SANITIZER = "compute-sanitizer"
TOOLS = "memcheck", "racecheck", "synccheck"
REPORTED = 86  # the exit code that compute-sanitizer is told to give if it found something
# the interpreter may be started by another; errors that CuPy itself provokes and handles are none of the kernels'
OPTIONS = "--target-processes", "all", "--report-api-errors", "no", "--launch-timeout", "60"
TAIL = 2000  # characters of the output that are kept of what failed


def run(command: list[str], limit: float) -> tuple[int | None, str]:
    """(exit code, None if the limit in seconds was reached; output)."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with what it started itself, as compute-sanitizer does
        return None, process.communicate()[0]
    return process.returncode, output


def outcome(code: int | None, output: str, summary: str, limit: float) -> dict[str, Any]:
    """passed: None if nobody knows, as there was not enough time."""
    text = f"no end within {limit:.0f} s" if code is None else summary
    return {
        "passed": None if code is None else code == 0,
        "summary": text,
        "output": "" if code == 0 else output[-TAIL:],
    }


def device_tests(limit: float, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """`pytest tests/gpu --on-gpu`: whether all passed, the last line, and the end of the output if not."""
    # what CuPy or a newer Python warns of is not what is asked here
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", "--on-gpu"]
    code, output = run([*command, *options, "tests/gpu"], limit)
    lines = [line.strip("= ") for line in output.splitlines() if line.strip("= ")]
    return outcome(code, output, lines[-1] if lines else f"exit code {code}, no output", limit)


def sanitizer() -> str | None:
    """Where compute-sanitizer is: on PATH or with CUDA."""
    beside = ["/usr/local/cuda/bin", os.path.join(os.environ.get("CUDA_PATH", "/usr/local/cuda"), "bin")]
    return shutil.which(SANITIZER) or shutil.which(SANITIZER, path=os.pathsep.join(beside))


def sanitized(tool: str, where: str, limit: float) -> dict[str, Any]:
    """Every kernel once, on tiny arrays, under one tool of compute-sanitizer. passed: None if it did not run."""
    if not (program := sanitizer()):
        return {"passed": None, "summary": f"not run: no {SANITIZER} here", "output": ""}
    options = ["--tool", tool, "--error-exitcode", str(REPORTED), *OPTIONS]
    script = [sys.executable, str(ROOT / "tests" / "gpu" / "every_kernel.py"), where]
    code, output = run([program, *options, *script], limit)
    found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output)
    if code is not None and not found:  # some virtual machines refuse it: that says nothing of the kernels
        about = f"not run: exit code {code} and no summary"
        return {"passed": None, "summary": about, "output": output[-TAIL:]}
    return outcome(code, output, found[-1] if found else "", limit)
