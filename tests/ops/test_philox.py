import numpy as np
import oracles
import pytest
from checks import assert_close
from hypothesis import example, given
from hypothesis import strategies as st

from tinynet import random
from tinynet.ops.philox import philox4x32, philox_bits, philox_normal

words = st.integers(0, 2**32 - 1)

# from the authors' own list of known answers (Random123, kat_vectors): counter, key, result
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def compiled(counter, key):
    return tuple(int(word) for word in philox4x32(*map(np.uint64, (*counter, *key))))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    assert oracles.philox4x32(counter, key) == expected
    assert compiled(counter, key) == expected
    assert random.philox4x32(*counter, *key) == expected  # the array code's own rounds, with Python's numbers
    arrays = random.philox4x32(*(np.array([word, 0], np.uint64) for word in (*counter, *key)))
    assert tuple(int(word[0]) for word in arrays) == expected


@given(st.tuples(words, words, words, words), st.tuples(words, words))
def test_ten_rounds_agree_with_whole_numbers(counter, key):
    assert compiled(counter, key) == oracles.philox4x32(counter, key)


@given(st.integers(0, 40), st.integers(0, 2**64 - 1), words, words)
@example(7, 2**33 + 5, 3, 4)
def test_a_stream_is_counter_blocks_in_order(count, seed, stream, step):
    bits = philox_bits(count, seed, stream, step)
    assert bits.dtype == np.uint32
    assert bits.tolist() == [oracles.random_word(i, seed, stream, step) for i in range(count)]


@given(st.integers(0, 20), st.integers(0, 2**64 - 1), words, words, st.sampled_from([np.float32, np.float64]))
def test_normal_numbers_agree_with_the_formula(count, seed, stream, step, dtype):
    values = philox_normal(count, seed, stream, step, dtype)
    assert values.dtype == dtype
    assert values.shape == (count,)
    if count:
        expected = [oracles.random_normal(i, seed, stream, step) for i in range(count)]
        assert_close(values, np.array(expected), dtype)


def test_many_threads_continue_the_same_stream():
    """40,001 numbers are shared among threads; each still stands where the definition puts it."""
    bits = philox_bits(40_001, 5, 6, 7)
    for i in (0, 1, 4095, 4096, 19_999, 20_000, 20_003, 39_999, 40_000):
        assert int(bits[i]) == oracles.random_word(i, 5, 6, 7)
