"""A stand-in for cupy.cuda.cublas: gemmEx on the memory of simulated devices, with the rounding of each compute type.

It is given addresses, as cuBLAS is, and reads and writes just what cuBLAS would: columns contiguous, each `ld` numbers
after the one before.
"""

import ctypes

import numpy as np

from .fake_memory import notes_at
from .fake_order import Use
from .fake_streams import here

CUDA_R_32F, CUDA_R_64F = 0, 1
DTYPES = {CUDA_R_32F: np.dtype(np.float32), CUDA_R_64F: np.dtype(np.float64)}


def to_tf32(x):
    """Rounded to 10 bits after the point; ties away from zero."""
    return ((np.ascontiguousarray(x).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def to_bf16(x):
    """Rounded to 7 bits after the point; ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(x.dtype)


class FakeCublas:
    """The module of a FakeCupy. `calls` lists the compute types that were asked for."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    CUBLAS_GEMM_DEFAULT = -1
    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F = 68, 70
    CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_TF32 = 75, 77
    ROUNDING = {68: lambda x: x, 70: lambda x: x, 75: to_bf16, 77: to_tf32}  # noqa: RUF012 - as a table reads best

    def __init__(self, fake):
        self.fake, self.calls = fake, []

    def gemmEx(  # noqa: N802 - CuPy's own name
        self,
        handle,
        op_a,
        op_b,
        m,
        n,
        k,
        alpha,
        a,
        a_type,
        lda,
        b,
        b_type,
        ldb,
        beta,
        c,
        c_type,
        ldc,
        compute,
        algorithm,
    ):
        """C = alpha * op(A) @ op(B) + beta * C, where op(A) is m x k and op(B) k x n."""
        self.fake.current_stream().refuse_while_recording("calling cuBLAS API", NotImplementedError)
        if handle != f"handle of device {here.device}":
            raise ValueError(f"a handle of another device: {handle}")
        if not a_type == b_type == c_type or (compute == self.CUBLAS_COMPUTE_64F) != (c_type == CUDA_R_64F):
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        dtype, rounded = DTYPES[c_type], self.ROUNDING[compute]
        left, read_a = _matrix(a, *((m, k) if op_a == self.CUBLAS_OP_N else (k, m)), lda, dtype)
        right, read_b = _matrix(b, *((k, n) if op_b == self.CUBLAS_OP_N else (n, k)), ldb, dtype)
        left, right = (left if op_a == self.CUBLAS_OP_N else left.T), (right if op_b == self.CUBLAS_OP_N else right.T)
        (result, write_c), (alpha, beta) = (
            _matrix(c, m, n, ldc, dtype, True),
            (_number(x, dtype) for x in (alpha, beta)),
        )

        def multiply():
            before = beta * result if beta else 0  # not read if beta is 0: it may be NaN
            result[...] = alpha * (rounded(left) @ rounded(right)) + before

        self.fake.do(multiply, read_a, read_b, write_c)
        self.calls.append(compute)


def _number(address, dtype):
    return np.ctypeslib.as_array((ctypes.c_byte * dtype.itemsize).from_address(address)).view(dtype)[0]


def _matrix(address, rows, columns, line, dtype, written=False):
    """(a view of memory, rows x columns, columns contiguous; its use)."""
    if line < rows:
        raise RuntimeError(f"CUBLAS_STATUS_INVALID_VALUE: a leading dimension of {line} for {rows} rows")
    count = line * (columns - 1) + rows
    memory = np.ctypeslib.as_array((ctypes.c_byte * (count * dtype.itemsize)).from_address(address)).view(dtype)
    stop = address + memory.nbytes
    use = Use(notes_at(address, stop), f"a matrix ({rows}, {columns})", address, stop, written)
    return np.lib.stride_tricks.as_strided(memory, (rows, columns), (dtype.itemsize, line * dtype.itemsize)), use
