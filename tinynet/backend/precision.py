"""In which numbers products are computed on a GPU. Arrays are float32 in all of them, and so are sums.

    "fp32"     float32 arithmetic, whatever CuPy's environment variables say
    "tf32x3"   as exact, on tensor cores: each number as a sum of two TF32 numbers, three products
    "tf32"     factors rounded to TF32, 10 bits after the point
    "bf16"     factors rounded to bfloat16, 7 bits

The tensor cores want compute capability 8.0. Arrays of float64 are always computed in double, and the CPU, which has no
such units, computes in full precision whatever is chosen: so a net that learns on a GPU can be used anywhere.
"""

import functools

from tinynet.backend import device
from tinynet.errors import DeviceError

PRECISIONS = ("fp32", "tf32x3", "tf32", "bf16")
TENSOR_CORES = 80  # compute capability of the first with TF32 and bf16: Ampere, 2020


def checked_precision(precision: str, who: str) -> str:
    """`precision`. Raises ValueError, which begins with `who`, unless it is one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ValueError(f"{who}: expected a precision out of {PRECISIONS}, got {precision!r}")
    return precision


def check_precision_on(where: str, precision: str) -> None:
    """Raises DeviceError if `where`, such as "cuda:0", is a GPU without what `precision` needs."""
    if precision == "fp32" or where == "cpu":
        return
    if (capability := compute_capability(where)) < TENSOR_CORES:
        raise DeviceError(
            f'{where}: precision "{precision}" needs tensor cores of compute capability 8.0 (Ampere) or later, and '
            f'this GPU has {capability // 10}.{capability % 10}: choose "fp32"'
        )


@functools.cache
def compute_capability(where: str) -> int:
    """90 for 9.0."""
    with device.on(where):
        return int(device.cupy().cuda.Device().compute_capability)
