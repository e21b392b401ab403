"""kernels/dropout.cu: exactly the CPU's values, though the batch is innermost in memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import (
    C_NAME,
    batch_first,
    batch_last,
    batches,
    blank,
    both_dtypes,
    check_source,
    launches,
    normal,
    sparse,
)
from oracles import random_word

from tinynet import random
from tinynet.ops.dropout import dropout_forward

streams = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
feature_shapes = st.one_of(
    st.tuples(st.integers(1, 23)),
    st.tuples(st.sampled_from([4, 16, 32])),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
)


def run(kernel, dtype, launch, x, threshold, scale, stream, first_step=None, part=(0, 1)):
    """dropout of x as the user sees it, (N, ...), which may be a part of a whole array."""
    held = batch_last(x)
    y, F = blank(held.shape, dtype), held[..., 0].size
    place = part[1] * F, part[0] * F
    launch(kernel(f"dropout<{C_NAME[dtype]}>"), held, y, F, len(x), *place, threshold, scale, *stream, first_step)
    return batch_first(y)


def test_source():
    check_source("dropout", globals(), "tinynet/ops/dropout.py")


@both_dtypes
@given(
    launch=launches(1, 2),
    stream=streams,
    features=feature_shapes,
    N=batches,
    p=st.sampled_from([0.0, 0.3, 0.75, 1 - 2**-40]),
)
def test_dropout(kernel, dtype, launch, stream, features, N, p):
    x = normal((N, *features), dtype)
    x.reshape(-1)[::7] = np.nan
    y = run(kernel, dtype, launch, x, round(p * 2**32), float(dtype(1 / (1 - p))), stream)
    np.testing.assert_array_equal(y, dropout_forward(x, p, *stream)[0])
    np.testing.assert_array_equal(
        y, np.where(random.bits(x.shape, *stream) >= round(p * 2**32), x * dtype(1 / (1 - p)), 0)
    )


@given(launch=launches(1, 2), stream=streams, first=st.integers(0, 2**32 - 1))
def test_dropout_counts_from_a_step_in_memory(kernel, launch, stream, first):
    """Modulo 2**32, as a CUDA graph does that was recorded at step 0."""
    x, (seed, name, step) = normal((5, 7), np.float32), stream
    y = run(kernel, np.float32, launch, x, 2**31, 2.0, (seed, name, step), np.array([first], np.uint32))
    expected = dropout_forward(x, 0.5, seed, name, (first + step) % 2**32)[0]
    np.testing.assert_array_equal(y, expected)


@both_dtypes
@given(launch=launches(1, 2), features=feature_shapes, N=batches, T=st.integers(2, 5), data=st.data())
def test_dropout_of_a_part(kernel, dtype, launch, features, N, T, data):
    part, stream = (data.draw(st.integers(0, T - 1)), T), (7, 8, 9)
    x = normal((N, *features), dtype)
    y = run(kernel, dtype, launch, x, 1 << 31, 2.0, stream, part=part)
    np.testing.assert_array_equal(y, dropout_forward(x, 0.5, *stream, part)[0])


@given(launch=launches(1, 2), N=batches)
def test_dropout_keeps_the_threshold_itself(kernel, launch, N):
    stream = 12345678901234567890, 4000000000, 3
    bits = random.bits((N, 5), *stream)
    y = run(kernel, np.float64, launch, np.ones((N, 5)), int(bits[-1, 3]), 1.0, stream)
    np.testing.assert_array_equal(y, bits >= bits[-1, 3])


def test_dropout_past_2_to_34(kernel, tmp_path):
    F, stream, shape = 17 << 30, (5, 6, 7), (17 << 30, 1)  # the number of the generator's block does not fit 32 bits
    x, y = sparse(tmp_path, *shape), sparse(tmp_path, *shape)
    x[-512:] = 1
    # blocks of 128 calls: the last one of the grid has only the two calls that a multiple of 4 does not need
    args, last = (x, y, F, 1, F, 0, 1 << 31, 2.0, *stream, None), F // 512 - 1
    kernel("dropout<float>")((last + 2,), (1, 128), args, blocks=[last], guarded=False)
    expected = [2 * (random_word(i, *stream) >= 1 << 31) for i in range(F - 512, F)]
    np.testing.assert_array_equal(y[-512:, 0], expected)
