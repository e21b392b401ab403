import numpy as np
import pytest
from checks import assert_close
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tinynet import random
from tinynet.data import augment
from tinynet.ops.augment import crops


def oracle(images, index, top, left, flip, shift, size, gain, centre):
    """One picture at a time: pad by enough zeros, and remember which pixels were there."""
    x = []
    for n, picture in enumerate(images[index]):
        far = 2 * max(*size, *picture.shape[1:])
        room = ((0, 0), (far, far), (far, far))
        there = np.pad(np.ones_like(picture, bool), room)
        rows, columns = slice(top[n] + far, top[n] + far + size[0]), slice(left[n] + far, left[n] + far + size[1])
        crop, there = np.pad(picture, room)[:, rows, columns], there[:, rows, columns]
        if flip[n]:
            crop, there = crop[:, :, ::-1], there[:, :, ::-1]
        value = crop * gain[:, None, None] + shift[n][:, None, None] - centre
        x.append(np.where(there, value, 0))
    return np.array(x).reshape(len(index), images.shape[1], *size)


def given_numbers(M=5, C=3, H=7, W=4, N=6, size=(3, 5), seed=0):
    def whole(what, low, high):
        return random.uniform(N, seed, what, low=low, high=high).astype(int)

    return {
        "images": random.bits((M, C, H, W), seed, "images").astype(np.uint8),
        "index": whole("index", 0, M),
        "top": whole("top", -size[0] - 1, H + 2),
        "left": whole("left", -size[1] - 1, W + 2),
        "flip": random.bits(N, seed, "flip") % 2 == 1,
        "shift": random.normal((N, C), seed, "shift"),
        "size": size,
        "gain": random.uniform(C, seed, "gain", low=0.5, high=2.0),
        "centre": random.normal((C, *size), seed, "centre"),
    }


sizes = st.integers(1, 9)


@given(st.tuples(sizes, st.integers(1, 4), sizes, sizes, sizes), st.tuples(sizes, sizes), st.integers(0, 99))
def test_crops_against_numpy(numbers, size, seed):
    case = given_numbers(*numbers, size, seed)
    x = crops(**case)
    assert x.dtype == np.float32
    assert_close(x, oracle(**case), np.float32, terms=6, size=2 * 255)  # three numbers and three results are rounded


@pytest.mark.parametrize("one_thread", [False, True])
def test_the_result_has_the_fast_order_and_memory_of_its_own(one_thread):
    case = given_numbers(N=300, size=(9, 11))  # large enough for memory that is used again
    x = crops(**case, one_thread=one_thread)
    assert x.transpose(1, 2, 3, 0).flags.c_contiguous
    before = x.copy()
    crops(**case | {"index": case["index"][::-1]}, one_thread=one_thread)
    assert np.array_equal(x, before)


def test_every_number_of_threads_gives_the_same_bits():
    before, case = tinynet.get_num_threads(), given_numbers(N=40, size=(9, 11))
    expected = crops(**case, one_thread=True)
    try:
        for threads in (1, 3, 7):
            tinynet.set_num_threads(threads)
            assert crops(**case).tobytes() == expected.tobytes()
    finally:
        tinynet.set_num_threads(before)


def test_pictures_with_any_strides_and_of_a_read_only_file(tmp_path):
    case = given_numbers(M=8)
    images = case["images"]
    file = np.memmap(tmp_path / "images", np.uint8, "w+", shape=images.shape)
    file[...] = images
    file.flush()
    expected = crops(**case)
    read_only = np.memmap(tmp_path / "images", np.uint8, "r", shape=images.shape)
    for same in (read_only, np.asfortranarray(images), np.repeat(images, 2, axis=0)[::2]):
        assert np.array_equal(crops(**case | {"images": same}), expected)


def test_no_crop_at_all_is_an_empty_array():
    assert crops(**given_numbers(N=0)).shape == (0, 3, 3, 5)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_an_index_outside_of_the_set_is_refused(wrong):
    case = given_numbers()
    case["index"][2] = wrong
    with pytest.raises(IndexError, match=r"expected every index in \[0, 5\), got"):
        crops(**case)


@pytest.mark.parametrize(
    ("name", "dtype"), [("images", np.int16), ("index", float), ("top", float), ("left", float), ("flip", int)]
)
def test_a_wrong_dtype_is_refused(name, dtype):
    case = given_numbers()
    with pytest.raises(TypeError, match=r"uint8|Cannot cast"):
        crops(**case | {name: case[name].astype(dtype)})


@pytest.mark.parametrize("name", ["top", "left", "flip", "shift", "gain", "centre"])
def test_a_wrong_shape_is_refused(name):
    case = given_numbers()
    with pytest.raises(ValueError, match=r"crops: expected the shapes .* for 6 crops of 3 channels"):
        crops(**case | {name: case[name][..., :-1]})


@given(
    st.tuples(sizes, st.integers(1, 4), sizes, sizes, st.integers(0, 9)), st.tuples(sizes, sizes), st.integers(0, 99)
)
def test_plain_crops_are_the_loops_to_the_bit(numbers, size, seed):
    case = given_numbers(*numbers, size, seed)
    with tinynet.plain():
        x = augment.crops(**case, one_thread=True)
    assert x.dtype == np.float32
    assert np.array_equal(x, crops(**case))


def test_plain_crops_call_no_loop_and_refuse_what_the_loops_refuse(monkeypatch):
    case = given_numbers()
    monkeypatch.setattr("tinynet.ops.augment.parallel_for", lambda *args: pytest.fail("a loop ran in plain mode"))
    with tinynet.plain():
        augment.crops(**case)
        with pytest.raises(IndexError, match="crops: expected every index in"):
            augment.crops(**case | {"index": case["index"] + 5})
        with pytest.raises(TypeError, match="crops: expected images of dtype uint8"):
            augment.crops(**case | {"images": case["images"].astype(int)})
