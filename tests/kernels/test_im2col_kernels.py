"""kernels/im2col.cu: im2col and col2im, which move numbers as NumPy's indexing does."""

import numpy as np
import oracles
from hypothesis import given
from kernel_checks import (
    C_NAME,
    batches,
    blank,
    both_dtypes,
    check_source,
    close,
    launches,
    normal,
    run_last_block,
    seeds,
    sparse,
)
from strategies import convolutions


def cols_shape(case, N):
    axes = zip(case.shape[2:], case.kernel_size, case.stride, case.padding, case.dilation, strict=True)
    return (case.C, *case.kernel_size, *(len(oracles.window_starts(*axis)) for axis in axes), N)


def sizes(case, N):
    """The kernels' whole numbers."""
    _, KH, KW, OH, OW, _ = cols_shape(case, N)
    return case.C, case.H, case.W, N, OH, OW, KH, KW, *case.stride, *case.padding, *case.dilation


def under(case, N, padded):
    """A view of the padded picture (C, H, W, N) for each tap (kh, kw): what im2col copies for it, (C, OH, OW, N)."""
    _, KH, KW, OH, OW, _ = cols_shape(case, N)
    for kh, kw in np.ndindex(KH, KW):
        view = padded[:, kh * case.dilation[0] :, kw * case.dilation[1] :]
        yield kh, kw, view[:, :: case.stride[0], :: case.stride[1]][:, :OH, :OW]


def test_source():
    check_source("im2col", globals(), "tinynet/ops/im2col.py")


@both_dtypes
@given(case=convolutions(), N=batches, launch=launches(), seed=seeds)
def test_im2col(kernel, dtype, case, N, launch, seed):
    x, cols = normal((case.C, case.H, case.W, N), dtype, seed), blank(cols_shape(case, N), dtype)
    launch(kernel(f"im2col<{C_NAME[dtype]}>"), x, cols, *sizes(case, N))
    (top, left), expected = case.padding, np.empty_like(cols)
    for kh, kw, view in under(case, N, np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)))):
        expected[:, kh, kw] = view
    np.testing.assert_array_equal(cols, expected)


@both_dtypes
@given(case=convolutions(), N=batches, launch=launches(), seed=seeds)
def test_col2im(kernel, dtype, case, N, launch, seed):
    cols, dx = normal(cols_shape(case, N), dtype, seed), blank((case.C, case.H, case.W, N), dtype)
    launch(kernel(f"col2im<{C_NAME[dtype]}>"), cols, dx, *sizes(case, N))
    top, left = case.padding
    padded = np.zeros((case.C, case.H + 2 * top, case.W + 2 * left, N))
    for kh, kw, view in under(case, N, padded):
        view += cols[:, kh, kw]
    close(dx, padded[:, top : top + case.H, left : left + case.W])


def test_past_2_to_31(kernel, tmp_path):
    x, dx = normal((500, 500), np.float32), blank((500, 500), np.float32)
    cols, args = sparse(tmp_path, 250 * 250, 251 * 251), (1, 500, 500, 1, 251, 251, 250, 250, 1, 1, 0, 0, 1, 1)
    # the last row of cols is what lies under the last pixel of the kernel in every window: the lower right 251 x 251
    last_row = x[249:, 249:].reshape(-1)
    run_last_block(kernel("im2col<float>"), (cols.size // 128 + 1,), (128,), x, cols, *args)
    end = cols.size % 128
    np.testing.assert_array_equal(cols[-1, -end:], last_row[-end:])
    cols[-1] = last_row
    run_last_block(kernel("col2im<float>"), (dx.size // 128 + 1,), (128,), cols, dx, *args)
    end = dx.size % 128
    np.testing.assert_array_equal(dx[-1, -end:], x[-1, -end:])
