import threading

import numpy as np
import pytest
from checks import assert_sums
from hypothesis import given
from hypothesis import strategies as st
from strategies import numbers
from threadpoolctl import ThreadpoolController

from tinynet import get_num_threads, set_num_threads
from tinynet.ops import matmul as module
from tinynet.ops.matmul import matmul

sizes = st.integers(1, 9)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)  # split small products too
    before = get_num_threads()
    set_num_threads(3)
    yield
    set_num_threads(before)


@given(sizes, sizes, sizes, sizes, st.booleans(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_every_shape_and_order(G, M, K, N, turned_a, turned_b, dtype):
    a, b = numbers((G, M, K)).astype(dtype), numbers((G, K, N), seed=1).astype(dtype)
    expected, squares = (np.einsum("gmk,gkn->gmn", a.astype(float) ** p, b.astype(float) ** p) for p in (1, 2))
    a = np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1) if turned_a else a
    b = np.ascontiguousarray(b.transpose(0, 2, 1)).transpose(0, 2, 1) if turned_b else b
    assert_sums(matmul(a, b), expected, K, squares, dtype)
    assert matmul(a, b).dtype == dtype
    out = np.full((G, M, N), np.nan, dtype)
    assert matmul(a, b, out=out) is out
    assert_sums(out, expected, K, squares, dtype)
    assert_sums(matmul(a[0], b[0]), expected[0], K, squares[0], dtype)


def test_same_threads_same_bits():
    a, b = numbers((40, 300)).astype(np.float32), numbers((300, 500), seed=1).astype(np.float32)
    assert len({matmul(a, b).tobytes() for _ in range(20)}) == 1


def blas_threads():
    return [info["num_threads"] for info in ThreadpoolController().info() if info["user_api"] == "blas"]


def test_blas_has_its_threads_back_after_any_number_of_threads_were_inside():
    before = blas_threads()
    if not before:
        pytest.skip("threadpoolctl does not know the BLAS that NumPy is built with here")
    a, b = numbers((64, 80)).astype(np.float32), numbers((80, 700), seed=1).astype(np.float32)
    expected, squares = (a.astype(float) ** p @ b.astype(float) ** p for p in (1, 2))
    seen, wrong = [], []

    def work():
        for _ in range(50):
            with module._one_thread_blas:
                seen.extend(blas_threads())
            try:
                assert_sums(matmul(a, b), expected, 80, squares, np.float32)
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}
    assert not wrong
    assert blas_threads() == before
    with pytest.raises(ValueError, match="size"):
        matmul(a, numbers((81, 700)))
    assert blas_threads() == before


def test_overflow_is_infinity_without_a_warning():
    a = np.full((200, 2), 1e30, np.float32)
    assert np.isinf(matmul(a, a.T)).all()
