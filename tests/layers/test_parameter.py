import copy
import pickle

import numpy as np
import pytest
from checks import assert_close, same_bits
from strategies import DTYPES, numbers

from tinynet.layers import Parameter
from tinynet.layers import parameter as module

A, B = numbers((3, 5)), numbers((5, 4), seed=1)


def parameter_of(dtype=np.float64, grad=2.0):
    parameter = Parameter(numbers((3, 4), dtype, seed=2))
    parameter.grad[...] = grad
    return parameter


@pytest.fixture
def straight(monkeypatch):
    """The `out` of every product: the gradient itself, or None."""
    places, matmul = [], module.matmul

    def noting(a, b, out=None, precision="fp32"):
        places.append(out)
        return matmul(a, b, out=out, precision=precision)

    monkeypatch.setattr(module, "matmul", noting)
    return places


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
def test_zero_grad_clears_what_is_not_finite(bad, straight):
    parameter = parameter_of(grad=bad)
    parameter.zero_grad()
    assert not parameter.grad.any()
    parameter = parameter_of(grad=bad)
    parameter.zero_grad()
    parameter.add_product_to_grad(A, B)
    assert_close(parameter.grad, A @ B)


def test_an_assigned_gradient_is_not_zero():
    parameter = parameter_of()
    parameter.zero_grad()
    parameter.grad = np.full((3, 4), 7.0)
    assert (parameter.grad == 7).all()
    parameter.add_product_to_grad(A, B)
    assert_close(parameter.grad, 7 + A @ B)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_goes_straight_into_a_zero_gradient_and_is_added_later(dtype, straight):
    a, b, parameter = A.astype(dtype), B.astype(dtype), parameter_of(dtype)
    array = parameter.grad
    parameter.zero_grad()
    parameter.add_product_to_grad(a, b)
    assert parameter.grad is array
    assert_close(array, A @ B, dtype)
    parameter.add_product_to_grad(a, -2 * b)
    assert parameter.grad is array
    assert_close(array, -(A @ B), dtype)
    assert straight[0] is array
    assert straight[1] is None


def test_a_product_is_added_without_zero_grad(straight):
    parameter = parameter_of()
    parameter.add_product_to_grad(A, B)
    assert_close(parameter.grad, 2 + A @ B)
    assert straight == [None]


def test_a_product_of_another_dtype_is_converted(straight):
    parameter = parameter_of(np.float32)
    parameter.zero_grad()
    parameter.add_product_to_grad(A, B)
    assert parameter.grad.dtype == np.float32
    assert_close(parameter.grad, A @ B, np.float32)
    assert straight == [None]
    wide = parameter_of(np.float64)
    wide.zero_grad()
    wide.add_product_to_grad(A.astype(np.float32), B.astype(np.float32))
    assert wide.grad.dtype == np.float64
    assert_close(wide.grad, A @ B, np.float32)
    assert straight == [None, None]


@pytest.mark.parametrize("grad", [np.full((4, 3), 2.0).T, np.full((6, 8), 2.0)[::2, ::2]], ids=["Fortran", "gaps"])
def test_a_gradient_that_lies_otherwise_in_memory(grad, straight):
    parameter = parameter_of()
    parameter.grad = grad
    parameter.zero_grad()
    parameter.add_product_to_grad(A, B)
    assert parameter.grad is grad
    assert straight == [None]
    assert_close(grad, A @ B)
    if grad.base.shape == (6, 8):
        assert (grad.base[1::2] == 2).all()


def test_a_product_that_does_not_fit_leaves_the_gradient_zero():
    parameter = parameter_of()
    parameter.zero_grad()
    with pytest.raises(ValueError):  # noqa: PT011
        parameter.add_product_to_grad(A, B[:, :2])
    assert not parameter.grad.any()


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
