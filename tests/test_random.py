import random as python_random
import zlib

import numpy as np
import oracles
import pytest
from checks import error_text
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tinynet import random

seeds = st.integers(0, 2**64 - 1)
words = st.integers(0, 2**32 - 1)
small_shapes = st.lists(st.integers(0, 4), max_size=3)


@given(small_shapes, seeds, st.one_of(words, st.text(max_size=8)), words)
def test_bits_are_the_stream_in_the_order_of_the_array(shape, seed, stream, step):
    bits = random.bits(shape, seed, stream, step)
    assert bits.shape == tuple(shape)
    assert bits.dtype == np.uint32
    number = zlib.crc32(stream.encode()) if isinstance(stream, str) else stream
    assert bits.ravel().tolist() == [oracles.random_word(i, seed, number, step) for i in range(bits.size)]


def test_a_name_is_its_crc32():
    assert random.stream_id("drop6") == zlib.crc32(b"drop6")
    assert random.stream_id(17) == 17
    assert random.stream_id(np.uint32(17)) == 17


def test_a_shape_may_be_a_number():
    for draw in (random.bits, random.uniform, random.normal):
        assert np.array_equal(draw(6, 1, "a"), draw((6,), 1, "a"))
        assert np.array_equal(draw([2, 3], 1, "a").ravel(), draw(6, 1, "a"))


def test_sizes_may_be_numpys():
    for draw in (random.bits, random.uniform, random.normal):
        assert np.array_equal(draw(np.int64(5), 1, "a"), draw(5, 1, "a"))
        assert np.array_equal(draw((np.int32(2), 3), 1, "a"), draw((2, 3), 1, "a"))
        assert np.array_equal(draw(np.array([2, 3]), 1, "a"), draw((2, 3), 1, "a"))
        assert draw((), 1, "a").shape == ()
    assert np.array_equal(random.permutation(np.int64(5), 1, "a"), random.permutation(5, 1, "a"))


@pytest.mark.parametrize("draw", [random.bits, random.uniform, random.normal])
@pytest.mark.parametrize("shape", [-1, (2, -3), (-2, -3), 2.5, (2, 2.0), None, "5", True])
def test_impossible_shapes(draw, shape):
    expected = f"shape: expected whole numbers of at least 0, or one such number, got {shape!r}"
    assert error_text(lambda: draw(shape, 0, 0), ValueError) == expected


@pytest.mark.parametrize("n", [-1, 2.0, (3,), None, True])
def test_impossible_permutations(n):
    expected = f"n: expected a whole number in [0, 2**62), got {n!r}"
    assert error_text(lambda: random.permutation(n, 0, 0), ValueError) == expected


@pytest.mark.parametrize(("low", "high"), [(1, 0), (0.0, np.nan), (-np.inf, 0.0), (0.0, np.inf), (-1e308, 1e308)])
def test_impossible_bounds(low, high):
    text = error_text(lambda: random.uniform(3, 0, 0, low=low, high=high), ValueError)
    assert text == f"uniform: expected finite numbers low <= high, got low={low!r}, high={high!r}"


def test_equal_bounds_leave_one_number():
    assert random.uniform(3, 0, 0, low=2, high=2).tolist() == [2, 2, 2]


@given(seeds, words)
def test_uniform_is_the_bits_as_a_fraction(seed, step):
    values = random.uniform((2, 3), seed, "u", step, low=-2.0, high=6.0)
    assert values.dtype == np.float64
    expected = [-2 + 8 * oracles.random_word(i, seed, zlib.crc32(b"u"), step) / 2**32 for i in range(6)]
    assert values.ravel().tolist() == expected


def test_uniform_and_normal_have_their_moments():
    """200,000 draws: a mean is off by 0.0022 standard deviations as a rule."""
    uniform = random.uniform(200_000, 3, "moments", low=-1, high=3)
    assert -1 <= uniform.min() < -0.999
    assert 2.999 < uniform.max() < 3
    assert uniform.mean() == pytest.approx(1, abs=0.012)  # of 1.15
    assert uniform.var() == pytest.approx(16 / 12, rel=0.01)  # a variance by 0.002
    normal = random.normal((400, 500), 3, "moments")
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert normal.std() == pytest.approx(1, abs=0.008)
    assert np.mean(np.abs(normal) < 1) == pytest.approx(0.6827, abs=0.005)  # a share by 0.001
    assert np.mean(normal**4) == pytest.approx(3, abs=0.15)  # a fourth moment by 0.022
    neighbours = np.corrcoef(normal.ravel()[:-1], normal.ravel()[1:])[0, 1]
    assert abs(neighbours) < 0.01


def test_normal_in_float32_is_the_same_rounded():
    wide, narrow = random.normal((3, 5), 1, "n", 2), random.normal((3, 5), 1, "n", 2, dtype=np.float32)
    assert narrow.dtype == np.float32
    assert np.array_equal(narrow, wide.astype(np.float32))


@given(st.integers(0, 60), seeds, words)
def test_permutation_has_every_number_once(n, seed, step):
    order = random.permutation(n, seed, "shuffle", step)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


@given(st.integers(0, 20), seeds, words)
def test_permutation_is_the_order_of_two_words_each_low_word_first(n, seed, step):
    word = [oracles.random_word(i, seed, zlib.crc32(b"p"), step) for i in range(2 * n)]
    expected = sorted(range(n), key=lambda i: word[2 * i] + 2**32 * word[2 * i + 1])
    assert random.permutation(n, seed, "p", step).tolist() == expected


def test_permutation_has_no_favourites():
    firsts = np.bincount([random.permutation(5, 0, "shuffle", step)[0] for step in range(2000)], minlength=5)
    assert firsts.min() > 320  # 400 are expected, 18 the standard deviation
    pairs = {tuple(random.permutation(3, 0, "shuffle", step)) for step in range(200)}
    assert len(pairs) == 6


def test_seed_stream_and_step_each_change_everything():
    base = random.bits(1000, 1, "a", 2)
    for other in (random.bits(1000, 2, "a", 2), random.bits(1000, 1, "b", 2), random.bits(1000, 1, "a", 3)):
        assert np.count_nonzero(base == other) < 5
    high = random.bits(1000, 1 + 2**32, "a", 2)  # the upper half of the seed counts too
    assert np.count_nonzero(base == high) < 5


def test_nothing_reads_or_changes_global_state():
    np.random.seed(0)  # noqa: NPY002
    python_random.seed(0)
    before = np.random.get_state()[1].tolist(), python_random.getstate()  # noqa: NPY002
    first = random.bits(10, 1, "a"), random.normal(5, 1, "a"), random.permutation(5, 1, "a")
    assert (np.random.get_state()[1].tolist(), python_random.getstate()) == before  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    again = random.bits(10, 1, "a"), random.normal(5, 1, "a"), random.permutation(5, 1, "a")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_threads_change_nothing():
    threads = tinynet.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            tinynet.set_num_threads(count)
            results.append((random.bits(50_001, 1, "a"), random.normal(50_001, 1, "a")))
    finally:
        tinynet.set_num_threads(threads)
    for bits, normal in results[1:]:
        assert np.array_equal(bits, results[0][0])
        assert np.array_equal(normal, results[0][1])


@pytest.mark.parametrize("draw", [random.bits, random.uniform, random.normal, random.permutation])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((-1, 0, 0), "seed: expected a whole number in [0, 2**64), got -1"),
        ((2**64, 0, 0), "seed: expected a whole number in [0, 2**64), got 18446744073709551616"),
        ((0.5, 0, 0), "seed: expected a whole number in [0, 2**64), got 0.5"),
        ((None, 0, 0), "seed: expected a whole number in [0, 2**64), got None"),
        ((0, -1, 0), "stream: expected a whole number in [0, 2**32), got -1"),
        ((0, 2**32, 0), "stream: expected a whole number in [0, 2**32), got 4294967296"),
        ((0, True, 0), "stream: expected a whole number in [0, 2**32), got True"),
        ((0, 0, 2**32), "step: expected a whole number in [0, 2**32), got 4294967296"),
        ((0, 0, "1"), "step: expected a whole number in [0, 2**32), got '1'"),
    ],
)
def test_wrong_numbers(draw, arguments, complaint):
    assert error_text(lambda: draw(4, *arguments), ValueError) == complaint


counts = st.one_of(st.integers(0, 70), st.integers(65_530, 65_545))  # some past the blocks that are computed at a time


@given(counts, seeds, words, words)
def test_plain_bits_are_the_loops(count, seed, stream, step):
    compiled = random.bits(count, seed, stream, step)
    with tinynet.plain():
        plainly = random.bits(count, seed, stream, step)
    assert plainly.dtype == np.uint32
    assert np.array_equal(plainly, compiled)


def test_blocks_past_2_to_32_count_on():
    blocks = np.array([0, 1, 2**32 - 1, 2**32, 2**40 + 3], np.uint64)
    got = random._words(blocks, 2**40 + 1, 5, 6, np).reshape(-1, 4)
    for block, four in zip(blocks.tolist(), got.tolist(), strict=True):
        assert four == [oracles.random_word(4 * block + i, 2**40 + 1, 5, 6) for i in range(4)]


@pytest.mark.parametrize("plain", [False, True])
@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), max_size=2),
    seeds,
)
def test_a_part_has_the_words_of_its_place_in_the_whole(plain, N, T, C, rest, seed):
    with tinynet.plain(plain):
        whole = random.bits((N, T * C, *rest), seed, "drop6", 4)
        parts = [random.bits((N, C, *rest), seed, "drop6", 4, part=(t, T)) for t in range(T)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_an_empty_part():
    assert random.bits((0, 3), 1, "a", part=(1, 2)).shape == (0, 3)
    assert random.bits((3, 0), 1, "a", part=(1, 2)).shape == (3, 0)


@pytest.mark.parametrize(("shape", "part"), [((2, 3), (2, 2)), ((2, 3), (-1, 2)), (6, (0, 2)), ((2, 3), (0, 0))])
def test_impossible_parts(shape, part):
    text = error_text(lambda: random.bits(shape, 0, 0, part=part), ValueError)
    assert text.startswith("bits: expected part (t, T) with 0 <= t < T, and two axes if T > 1; got ")


def test_bits_are_made_by_the_module_that_is_given():
    """Such as CuPy: no function of NumPy's makes an array that it could not have."""

    class Module:
        def __init__(self):
            self.asked = set()

        def __getattr__(self, name):
            self.asked.add(name)
            return getattr(np, name)

    for part in ((0, 1), (1, 3)):
        module = Module()
        expected = random.bits((3, 5), 1, "a", part=part)
        assert np.array_equal(random.bits((3, 5), 1, "a", part=part, xp=module), expected)
        assert (
            {"arange", "empty"} <= module.asked <= {"arange", "empty", "take_along_axis", "uint64", "uint32", "int64"}
        )


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float64, 8), (np.float32, 1)])
def test_plain_normal_numbers_are_the_loops_up_to_their_last_digits(dtype, ulps):
    compiled = random.normal(200_001, 5, "n", 6, dtype)
    with tinynet.plain():
        plainly = random.normal(200_001, 5, "n", 6, dtype)
    assert plainly.dtype == dtype
    assert plainly.shape == compiled.shape
    assert (np.abs(plainly - compiled) <= ulps * np.spacing(np.abs(compiled))).all()


@given(small_shapes, seeds)
def test_plain_draws_of_every_kind_have_the_loops_shapes_and_values(shape, seed):
    draws = [
        lambda: random.uniform(shape, seed, "a", 1, low=-1, high=3),
        lambda: random.permutation(len(shape), seed, "a", 1),
    ]
    compiled = [draw() for draw in draws]
    with tinynet.plain():
        assert random.normal(shape, seed, "a").shape == tuple(shape)
        for draw, expected in zip(draws, compiled, strict=True):
            assert np.array_equal(draw(), expected)
