"""Matrix products on a GPU, by cuBLAS through CuPy. CPU twin: tinynet/ops/matmul.py.

cupy.matmul computes float32 as the environment variable CUPY_TF32 says. Here cuBLAS is told with every call.
"""

from typing import Any

import numpy as np

from tinynet.backend import cuda_graph, device
from tinynet.backend.precision import check_precision_on
from tinynet.ops.gpu import same_place

# for float32: the name of cuBLAS's compute type. It knows no three products of TF32; FAST_16BF may use TF32 where
# cuBLAS finds that faster
COMPUTE = {
    "fp32": "CUBLAS_COMPUTE_32F",
    "tf32x3": "CUBLAS_COMPUTE_32F",
    "tf32": "CUBLAS_COMPUTE_32F_FAST_TF32",
    "bf16": "CUBLAS_COMPUTE_32F_FAST_16BF",
}
ONE_ZERO = {np.dtype(T): (np.ones((), T), np.zeros((), T)) for T in (np.float32, np.float64)}  # alpha and beta


def matmul(a: Any, b: Any, out: Any = None, precision: str = "fp32") -> Any:
    if a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"matmul: expected (..., M, K) and (..., K, N), got {a.shape} and {b.shape}")
    dtype = np.result_type(a.dtype, b.dtype)
    a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    if out is None:
        out = same_place(a, (*a.shape[:-1], b.shape[-1]), dtype)
    expected = *a.shape[:-1], b.shape[-1]
    if out.shape != expected or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"matmul: expected `out` of shape {expected}, {dtype}, C-contiguous, got {out.shape}, {out.dtype}, "
            f"strides {out.strides}"
        )
    if dtype == np.float32:
        check_precision_on(device.device_of(a), precision)
    if recorded := cuda_graph.recording():
        recorded.outside(lambda: _products(a, b, out, precision))
    else:
        _products(a, b, out, precision)
    return out


def _products(a, b, out, precision):
    """out = a @ b, or for each of several matrices."""
    if a.ndim == 2:
        _gemm(a, b, out, precision)
    for i in range(len(a) if a.ndim > 2 else 0):
        _products(a[i], b[i], out[i], precision)


def _gemm(a, b, out, precision):
    """out = a @ b. cuBLAS has columns contiguous, so for it our matrices are transposed, and out.T = b.T @ a.T."""
    cuda, (M, K), N = device.cupy().cuda, a.shape, b.shape[1]
    double = out.dtype == np.float64
    kind = cuda.runtime.CUDA_R_64F if double else cuda.runtime.CUDA_R_32F
    compute = getattr(cuda.cublas, "CUBLAS_COMPUTE_64F" if double else COMPUTE[precision])
    (a, op_a, line_a), (b, op_b, line_b) = _as_cublas(a, cuda.cublas), _as_cublas(b, cuda.cublas)
    one, zero = (number.ctypes.data for number in ONE_ZERO[out.dtype])
    left, right = (b.data.ptr, kind, line_b), (a.data.ptr, kind, line_a)
    handle, algorithm = cuda.Device().cublas_handle, cuda.cublas.CUBLAS_GEMM_DEFAULT
    cuda.cublas.gemmEx(
        *(handle, op_b, op_a, N, M, K, one, *left, *right, zero, out.data.ptr, kind, N, compute, algorithm)
    )


def _as_cublas(matrix, cublas):
    """(the matrix, how cuBLAS is to take it, numbers from one of its lines to the next); a copy if it has no lines."""
    (rows, columns), size = matrix.shape, matrix.itemsize
    down, across = (stride // size for stride in matrix.strides)
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return matrix, cublas.CUBLAS_OP_N, max(columns, down)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return matrix, cublas.CUBLAS_OP_T, max(rows, across)
    return matrix.copy(), cublas.CUBLAS_OP_N, columns
