"""Every layer on a simulated GPU: the same numbers as on the CPU, through `model.to` and the layers' own code."""

import numpy as np
import pytest
from checks import assert_close
from strategies import numbers

from gpu.cases import LAYERS, one_update, results
from gpu.runs import counted
from tinynet.backend.device import to_cpu, to_device
from tinynet.losses import SoftmaxCE

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@both_dtypes
@pytest.mark.parametrize("name", LAYERS)
def test_computes_what_the_cpu_does(other_gpu, name, dtype):
    make, shape = LAYERS[name]
    layer, x = make().astype(dtype), numbers(shape, dtype)
    dy = numbers(layer.output_shape(shape), dtype, seed=1)
    on_cpu = results(layer.at_step(3), x, dy, "cpu")
    on_gpu = results(layer.at_step(3), x, dy, other_gpu)
    for got, expected in zip(on_gpu, on_cpu, strict=True):
        assert got.dtype == dtype
        assert_close(got, expected, dtype)


@both_dtypes
@pytest.mark.usefixtures("gpu")
def test_evaluation_mode(dtype):
    for name in ("dropout", "pool", "net"):
        make, shape = LAYERS[name]
        layer, x = make().astype(dtype).eval(), numbers(shape, dtype)
        dy = numbers(layer.output_shape(shape), dtype, seed=1)
        expected = results(layer, x, dy, "cpu")
        for got, wanted in zip(results(layer, x, dy, "cuda:0"), expected, strict=True):
            assert_close(got, wanted, dtype)


@both_dtypes
def test_the_loss_is_not_waited_for(gpu, dtype):
    logits, labels, loss = 5 * numbers((6, 10), dtype), np.array([0, 9, 3, 3, 1, 7]), SoftmaxCE()
    expected = loss(logits, labels), loss.backward()
    x = to_device(logits, "cuda:0")
    before = counted(gpu, "synchronisations")
    there = loss(x, labels)
    assert counted(gpu, "synchronisations") == before
    assert_close(float(there), expected[0], dtype)
    assert_close(to_cpu(loss.backward()), expected[1], dtype)


@both_dtypes
def test_one_update(other_gpu, dtype):
    for got, expected in zip(one_update(other_gpu, dtype), one_update("cpu", dtype), strict=True):
        assert_close(got, expected, dtype)


@pytest.mark.parametrize("name", ["conv", "conv by im2col", "linear", "lrn", "relu", "net"])
def test_mixed_dtypes_as_on_the_cpu(other_gpu, name):
    """float64 pictures through float32 parameters, and a dy of the other dtype."""
    make, shape = LAYERS[name]
    layer = make()
    for x_dtype, dy_dtype in ((np.float64, np.float64), (np.float32, np.float64)):
        x, dy = numbers(shape, x_dtype), numbers(layer.output_shape(shape), dy_dtype, seed=1)
        expected = results(layer, x, dy, "cpu")
        for got, wanted in zip(results(layer, x, dy, other_gpu), expected, strict=True):
            assert_close(got, wanted, np.float32)


def test_weights_go_in_and_out_on_the_second_gpu(other_gpu):
    make, _ = LAYERS["net"]
    model, other = make().to(other_gpu), make().astype(np.float64)
    other.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
    model.load_state_dict(other.state_dict())
    assert all(np.array_equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.astype(np.float64).state_dict()["0.weight"].dtype == np.float64
    assert model.device == other_gpu
