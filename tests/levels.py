"""Levels of a processor: what a machine with fewer vector instructions than this one would compute, computed here.

    python tests/levels.py x86-64-v2 -n 2

runs the numerical tests as that level, with pytest's other arguments behind it; `own` is the processor as it is, and
`--below` lists the levels that this machine can run below its own.
numba's machine code, OpenBLAS's and NumPy's own loops are each chosen when their library is first loaded, so a level is
the environment of a whole process. What the variables mean is theirs to say, and may change: `report` reads back what
really runs, and `failures` says where it is not the level's.
"""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding
from threadpoolctl import threadpool_info

TESTS = Path(__file__).resolve().parent

# Whatever compares computed numbers. The rest draws, reads files and talks, the same way on every processor; and the
# kernels of tests/kernels and tests/gpu are compiled by g++ for its default processor, whatever the level is.
NUMERICAL = (
    *("fast", "inspect", "layers", "losses", "models", "ops", "optim", "parallel", "test_against_torch.py"),
    *("data/test_augment.py", "data/test_loader.py", "data/test_statistics.py", "training/test_evaluate.py"),
    *("training/test_trainer.py", "test_bounds.py", "test_mutations.py", "test_random.py"),
    *("kernels/test_lrn_kernels.py", "kernels/test_softmax_ce_kernels.py", "gpu/test_layers_on_a_gpu.py"),
    "gpu/test_towers.py",
)


@dataclass(frozen=True)
class Level:
    """One of the levels of the x86-64 psABI. needs: LLVM's names of the instructions that it adds to those below."""

    name: str
    needs: tuple[str, ...]
    openblas: str
    numpy: tuple[str, ...]  # NumPy's names, old and new, of what it adds
    registers: tuple[str, ...]  # the wider ones, that compiled code may use


LEVELS = (
    Level(
        "x86-64-v2",
        ("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"),
        "Nehalem",
        ("SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42", "X86_V2"),
        (),
    ),
    Level(
        "x86-64-v3",
        ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"),
        "Haswell",
        ("AVX", "F16C", "FMA3", "AVX2", "X86_V3"),
        ("ymm",),
    ),
    Level(
        "x86-64-v4",
        ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
        "SkylakeX",
        ("AVX512F", "AVX512CD", "AVX512_SKX", "X86_V4"),
        ("ymm", "zmm"),
    ),
)
X86 = platform.machine().lower() in ("x86_64", "amd64")
OWN = "own"
NAMES = (OWN, *(level.name for level in LEVELS))
VARIABLES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"


def up_to(name):
    """The level of that name and those below it."""
    if name not in NAMES[1:]:
        raise SystemExit(f"levels: expected one of {', '.join(NAMES)}; got {name!r}")
    return LEVELS[: NAMES.index(name)]


def why_not(name):
    """Why this machine cannot run as the level; "" if it can."""
    if name == OWN:
        return ""
    if not X86:
        return f"levels of x86-64 processors; this one is of {platform.machine()}"
    has = binding.get_host_cpu_features()
    missing = [need for level in up_to(name) for need in level.needs if not has.get(need)]
    return f"this processor, {binding.get_host_cpu_name()}, has no {', '.join(missing)}" if missing else ""


def below():
    """The levels that this machine can run, but for the highest, which is nearly its own."""
    return [name for name in NAMES[1:] if not why_not(name)][:-1]


def environment(name):
    """The environment of a process that runs as the level."""
    if name == OWN:
        return dict(os.environ)
    level, kept = up_to(name)[-1], {feature for below in up_to(name) for feature in below.numpy}
    above = [feature for feature in umath().__cpu_dispatch__ if feature not in kept]
    settings = level.name, "", level.openblas, " ".join(above)  # numba would add the host's features to none at all
    return os.environ | dict(zip(VARIABLES, settings, strict=True))


def umath():
    return np._core._multiarray_umath


def report():
    """What runs in this process: numba's processor and the registers of a loop of the library that it compiles now,
    OpenBLAS's core, and those of NumPy's loops that it may choose."""
    import numba
    from numba.core.registry import cpu_target

    from tinynet.ops import elementwise

    number, array = numba.float32, numba.float32[::1]
    loop = numba.njit(elementwise._sgd_step.py_func)  # code from numba's cache would not show its assembler
    loop.compile((array, array, array, number, number, number, numba.int64, numba.int64))
    code = "".join(loop.inspect_asm().values())
    return {
        "numba": cpu_target.target_context.codegen().magic_tuple()[1],
        "registers": [register for register in ("xmm", "ymm", "zmm") if register in code],
        "blas": [f"{info['internal_api']} {info.get('architecture')}" for info in threadpool_info() if is_blas(info)],
        "numpy": [name for name in umath().__cpu_dispatch__ if umath().__cpu_features__[name]],
    }


def is_blas(info):
    return info["user_api"] == "blas"


def failures(name, found):
    """Where what runs, as `report` says, is not the level's: a list of sentences."""
    if name == OWN:
        return []
    level, kept = up_to(name)[-1], {feature for below in up_to(name) for feature in below.numpy}
    wide, most = set(found["registers"]) - {"xmm"}, set(level.registers)
    numpy = [feature for feature in umath().__cpu_dispatch__ if feature in kept]
    expected = (
        ("numba's processor", level.name, found["numba"], found["numba"] == level.name),
        ("registers", level.registers or "xmm alone", found["registers"], wide <= most and bool(wide) == bool(most)),
        ("BLAS", f"openblas {level.openblas}", found["blas"], set(found["blas"]) == {f"openblas {level.openblas}"}),
        ("NumPy's loops", numpy, found["numpy"], found["numpy"] == numpy),
    )
    return [f"{what}: expected {wanted}, got {got}" for what, wanted, got, right in expected if not right]


def here(name, *arguments):
    """In a process with the level's environment: say what runs, and run pytest if it is the level."""
    found = report()
    print(f"{name}: {', '.join(f'{what} {text(value)}' for what, value in found.items())}", flush=True)
    if wrong := failures(name, found):
        print(f"{name}: the level did not take effect; {'; '.join(wrong)}")
        return 1
    return int(pytest.main(list(arguments)))


def text(value):
    return value if isinstance(value, str) else " ".join(value) or "none"


def command(name, *arguments):
    """What `here` runs in a process of its own."""
    return [sys.executable, str(TESTS / "levels.py"), "--here", name, *arguments]


def main(name, *arguments):
    if name == "--here":
        return here(*arguments)
    if name == "--below":
        print(*below())
        return 0
    if reason := why_not(name):
        print(f"levels: cannot run as {name}: {reason}", file=sys.stderr)
        return 1
    tests = [str(TESTS / test) for test in NUMERICAL]
    return subprocess.run(command(name, *arguments, *tests), cwd=TESTS.parent, env=environment(name)).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python tests/levels.py {'|'.join(NAMES)} [pytest's arguments]")
    sys.exit(main(*sys.argv[1:]))
