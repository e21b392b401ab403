"""kernels/philox.cu and philox.cuh: the same bits as on the CPU."""

from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import blank, check_source, launches, run_last_block, sparse
from oracles import random_word

from tinynet import random

# Random123's known answers (kat_vectors, philox4x32 with 10 rounds): counter, key, answer
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)
streams = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def hexadecimal(words):
    return np.array([int(word, 16) for word in words.split()], np.uint32)


def test_source():
    check_source("philox", globals(), "tinynet/ops/philox.py")


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(module, counter, key, answer):
    out = blank(4, np.uint32)
    path = Path(cuda_on_cpu.__file__).parent / "known_answers.cu"
    module(path).get_function("philox_known_answer")((1,), (1,), (hexadecimal(counter), hexadecimal(key), out))
    np.testing.assert_array_equal(out, hexadecimal(answer))


@given(launch=launches(), stream=streams, count=st.integers(1, 200))
def test_philox_bits(kernel, launch, stream, count):
    out = blank(count, np.uint32)
    launch(kernel("philox_bits"), out, count, *stream)
    np.testing.assert_array_equal(out, random.bits(count, *stream))
    assert out[-1] == random_word(count - 1, *stream)


def test_philox_bits_past_2_to_34(kernel, tmp_path):
    count, stream = 17 << 30, (5, 6, 7)  # the block's number does not fit 32 bits
    out = sparse(tmp_path, count, dtype=np.uint32)
    run_last_block(kernel("philox_bits"), (count // 4 // 128,), (128,), out, count, *stream)
    assert out[-5:].tolist() == [random_word(i, *stream) for i in range(count - 5, count)]
