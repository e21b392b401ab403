import math
import zlib

import numpy as np
import oracles
import pytest
from checks import assert_close
from strategies import DTYPES

from tinynet.layers import Conv2d, Linear, Parameter, init


def parameter(*shape, dtype=np.float32):
    return Parameter(np.full(shape, 9, dtype))


def test_fan_in_is_what_one_output_sums():
    assert init.fan_in(Conv2d(6, 8, (3, 5), groups=2).weight) == 3 * 3 * 5
    assert init.fan_in(Linear(7, 4).weight) == 7


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_is_a_pure_function_of_seed_name_and_index(dtype):
    weight = parameter(3, 4, dtype=dtype)
    init.normal(weight, 0.01, seed=5, name="conv1.weight")
    assert weight.data.dtype == dtype
    stream = zlib.crc32(b"init conv1.weight")
    expected = [0.01 * oracles.random_normal(i, 5, stream, 0) for i in range(12)]
    assert_close(weight.data.ravel() / 0.01, np.array(expected) / 0.01, dtype)


def test_he_normal_has_the_standard_deviation_for_relu():
    weight = parameter(200, 10, 3, 5)
    init.he_normal(weight, 0, "w")
    assert weight.data.std() == pytest.approx(math.sqrt(2 / 150), rel=0.02)  # 30,000 draws: 0.004 as a rule
    assert abs(weight.data.mean()) < 0.003
    plain = parameter(200, 10, 3, 5)
    init.normal(plain, math.sqrt(2 / 150), 0, "w")
    assert np.array_equal(weight.data, plain.data)


def test_uniform_fills_its_bounds():
    weight = parameter(100, 100)
    init.uniform(weight, 0.25, 0, "w")
    assert weight.data.dtype == np.float32
    assert -0.25 <= weight.data.min() < -0.2499
    assert 0.2499 < weight.data.max() <= 0.25
    assert weight.data.std() == pytest.approx(0.25 / math.sqrt(3), rel=0.02)  # 10,000 draws: 0.006 as a rule


def test_constant():
    bias = parameter(4, dtype=np.float64)
    init.constant(bias, 1.5)
    assert bias.data.tolist() == [1.5] * 4
    assert bias.data.dtype == np.float64


def test_another_seed_or_name_gives_other_values_and_gradients_stay_zero():
    results = []
    for seed, name in ((0, "a"), (1, "a"), (0, "b"), (0, "a")):
        weight = parameter(5, 6)
        init.he_normal(weight, seed, name)
        assert not weight.grad.any()
        results.append(weight.data)
    assert np.array_equal(results[0], results[3])
    assert not np.isclose(results[0], results[1]).any()
    assert not np.isclose(results[0], results[2]).any()
