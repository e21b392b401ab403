"""kernels/augment.cu: the crops of a naive loop, and those of the CPU twin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import Launch, batch_first, batches, blank, check_source, close, orders, seeds, sparse

from tinynet.ops import augment


def crops(kernel, order, images, index, top, left, flip, shift, size, gain, centre):
    """The arguments and the result of the CPU twin, tinynet.ops.augment.crops."""
    N, (OH, OW), (M, C, H, W) = len(index), size, images.shape
    x = blank((C, OH, OW, N), np.float32)
    places = index, top, left, flip.astype(np.uint8)
    args = images, *places, gain, np.ascontiguousarray(shift.T), centre, x, M, C, H, W, OH, OW, N
    Launch((-(-OW // 32), -(-N // 32), C * OH), (32, 8), order)(kernel("crops"), *args)
    return batch_first(x)


def naive_crops(images, index, top, left, flip, shift, size, gain, centre):
    OH, OW = size
    x = np.zeros((len(index), images.shape[1], *size))
    for n, c, h, w in np.ndindex(x.shape):
        row, column = top[n] + h, left[n] + (OW - 1 - w if flip[n] else w)
        if 0 <= row < images.shape[2] and 0 <= column < images.shape[3]:
            x[n, c, h, w] = float(gain[c]) * images[index[n], c, row, column] + shift[n, c] - centre[c, h, w]
    return x


@st.composite
def batches_of_crops(draw):
    rng = np.random.default_rng(draw(seeds))
    N, C = draw(st.one_of(batches, st.sampled_from([33, 64]))), draw(st.integers(1, 3))
    H, W = draw(st.integers(1, 7)), draw(st.one_of(st.integers(1, 7), st.integers(30, 40)))
    OH, OW = draw(st.integers(1, 4)), draw(st.one_of(st.integers(1, 4), st.sampled_from([31, 32, 35])))
    M = draw(st.integers(1, 4))
    images = rng.integers(0, 256, (M, C, H, W), np.uint8)
    top, left = rng.integers(-OH - 1, H + 2, N), rng.integers(-OW - 1, W + 2, N)  # some lie outside altogether
    shift, gain, centre = rng.normal(size=(N, C)), rng.uniform(0.5, 2, C), rng.normal(size=(C, OH, OW))
    floats = [array.astype(np.float32) for array in (shift, gain, centre)]
    return images, rng.integers(0, M, N), top, left, rng.integers(0, 2, N) > 0, floats[0], (OH, OW), *floats[1:]


def test_source():
    check_source("augment", globals(), "tinynet/ops/augment.py")


@given(order=orders, batch=batches_of_crops())
def test_crops(kernel, order, batch):
    x = crops(kernel, order, *batch)
    close(x, naive_crops(*batch), terms=3, size=2 * 255)  # a product, two sums
    np.testing.assert_array_equal(x, augment.crops(*batch))


@given(batch=batches_of_crops(), wrong=st.sampled_from([-1, 0, -(2**40), 2**40]))
def test_crops_of_no_picture_are_nan(kernel, batch, wrong):
    images, index, *others = batch
    right = crops(kernel, "forward", images, index, *others)
    index = index.copy()
    index[-1] = wrong or len(images)  # the first that is too large
    x = crops(kernel, "shuffled", images, index, *others)
    assert np.isnan(x[-1]).all()
    np.testing.assert_array_equal(x[:-1], right[:-1])


def test_crops_from_more_than_2_to_31_bytes(kernel, tmp_path):
    images = sparse(tmp_path, 50000, 1, 300, 301, dtype=np.uint8)
    images[-1, 0, -2:] = np.arange(2 * 301).reshape(2, 301) % 251
    numbers = np.zeros((1, 1), np.float32), np.ones(1, np.float32), np.zeros((1, 2, 3), np.float32)
    index, top, left, x = np.array([49999]), np.array([298]), np.array([298]), blank((1, 2, 3, 1), np.float32)
    args = images, index, top, left, np.array([1], np.uint8), numbers[1], numbers[0], numbers[2], x
    kernel("crops")((1, 1, 2), (32, 8), (*args, *images.shape, 2, 3, 1), guarded=False)
    np.testing.assert_array_equal(x[0, :, :, 0], images[-1, 0, -2:, -3:][:, ::-1])
