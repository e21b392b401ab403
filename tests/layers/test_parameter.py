import copy
import pickle

import numpy as np
import pytest
from checks import assert_close, same_bits
from strategies import DTYPES, numbers

from tinynet.layers import Parameter

A, B = numbers((3, 5)), numbers((5, 4), seed=1)


def parameter_of(dtype=np.float64, grad=2.0):
    parameter = Parameter(numbers((3, 4), dtype, seed=2))
    parameter.grad[...] = grad
    return parameter


def test_zero_grad_writes_when_the_gradient_is_read():
    parameter = parameter_of()
    array = parameter.grad
    parameter.zero_grad()
    assert (array == 2).all()  # nobody has asked for it yet
    assert parameter.grad is array
    assert not array.any()
    parameter.grad += 3
    assert (parameter.grad == 3).all()  # zero once, not at each reading


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_zero_grad_clears_what_is_not_finite(bad):
    parameter = parameter_of(grad=bad)
    parameter.zero_grad()
    assert not parameter.grad.any()
    parameter = parameter_of(grad=bad)
    parameter.zero_grad()
    parameter.add_to_grad(A @ B)
    assert_close(parameter.grad, A @ B)


def test_an_assigned_gradient_is_not_zero():
    parameter = parameter_of()
    parameter.zero_grad()
    parameter.grad = np.full((3, 4), 7.0)
    assert (parameter.grad == 7).all()
    assert parameter.fresh_grad(np.float64) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fresh_gradient_is_given_once(dtype):
    """To one who writes the whole of it; the next one adds."""
    parameter = parameter_of(dtype)
    array = parameter.grad
    assert parameter.fresh_grad(dtype) is None  # it holds something
    parameter.zero_grad()
    assert parameter.fresh_grad(dtype) is array
    assert (array == 2).all()  # not cleared, for it will be written
    array[...] = 5
    assert parameter.fresh_grad(dtype) is None
    assert parameter.grad is array
    assert (array == 5).all()


@pytest.mark.parametrize("grad", [np.full((4, 3), 2.0).T, np.full((6, 8), 2.0)[::2, ::2]], ids=["Fortran", "gaps"])
def test_a_gradient_that_lies_otherwise_in_memory_is_not_given(grad):
    parameter = parameter_of()
    parameter.grad = grad
    parameter.zero_grad()
    assert parameter.fresh_grad(np.float64) is None
    assert not parameter.grad.any()
    if grad.base.shape == (6, 8):
        assert (grad.base[1::2] == 2).all()


def test_a_gradient_of_another_dtype_is_not_given():
    parameter = parameter_of(np.float32)
    parameter.zero_grad()
    assert parameter.fresh_grad(np.float64) is None
    assert not parameter.grad.any()


@pytest.mark.parametrize(("own", "other"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_a_gradient_of_another_dtype_is_converted(own, other):
    parameter = parameter_of(own)
    parameter.zero_grad()
    parameter.add_to_grad((A @ B).astype(other))
    assert parameter.grad.dtype == own
    assert_close(parameter.grad, A @ B, np.float32)


def test_zero_grad_goes_with_copies_and_conversions():
    for convert in (copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))):
        parameter = parameter_of()
        parameter.zero_grad()
        other = convert(parameter)
        assert not other.grad.any()
        assert same_bits(other.data, parameter.data)
    parameter = parameter_of()
    parameter.zero_grad()
    parameter.astype(np.float32)
    assert parameter.grad.dtype == np.float32
    assert not parameter.grad.any()
