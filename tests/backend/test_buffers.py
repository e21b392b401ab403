import gc
import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS

from tinynet.backend import buffers
from tinynet.layers import LRN, Conv2d, MaxPool, ReLU, Sequential

BIG = (64, 1024)  # float32: 256 KiB, four times the size below which malloc serves


@pytest.fixture(autouse=True)
def _a_list_of_its_own(monkeypatch):
    gc.collect()  # what other tests have left gives its memory back to the usual list
    monkeypatch.setattr(buffers, "_idle", deque())


def address(array):
    return array.__array_interface__["data"][0]


def idle_bytes():
    return sum(block.size for block in buffers._idle)


@given(st.lists(st.integers(0, 40), max_size=4), st.sampled_from(["f4", "f8", "u1", "i4"]))
def test_empty_is_a_plain_array(shape, dtype):
    array = buffers.empty(shape, dtype)
    assert array.shape == tuple(shape)
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array.fill(3)
    assert (array == 3).all()


@pytest.mark.parametrize("shape", [(3, 4), BIG])
def test_zeros_are_zeros_in_used_memory_too(shape):
    buffers.empty(shape, np.float32).fill(7)
    zeros = buffers.zeros(shape, np.float32)
    assert zeros.shape == shape
    assert not zeros.any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (8, 16, 20, 32)])
def test_empty_like_keeps_the_order_in_memory(shape, layout):
    array = LAYOUTS[layout](np.ones(shape))
    like = buffers.empty_like(array)
    assert like.shape == shape
    assert like.dtype == array.dtype
    order = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
    assert like.transpose(order).flags.c_contiguous
    assert not np.shares_memory(like, array)


def test_empty_like_of_one_number():
    assert buffers.empty_like(np.array(1.0)).shape == ()


def test_memory_is_reused_after_the_last_reference():
    array = buffers.empty(BIG, np.float32)
    first = address(array)
    assert idle_bytes() == 0
    del array
    assert idle_bytes() == 64 * 1024 * 4
    again = buffers.empty((1024, 32), np.float64)  # as many bytes, another shape and dtype
    assert address(again) == first
    assert idle_bytes() == 0


@pytest.mark.parametrize(
    "view_of",
    [
        lambda a: a[3:5, ::7],
        lambda a: a.T,
        lambda a: a.reshape(32, 32, 64).transpose(2, 0, 1)[1],
        lambda a: a.view(np.uint8),
        lambda a: a.ravel()[-1:],
        lambda a: np.broadcast_to(a[0], (3, 1024)),
        lambda a: memoryview(a),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, (2, 2)),
        lambda a: np.frombuffer(a.data, np.float32)[10:],
        lambda a: iter(a),
        lambda a: a.flat,
    ],
)
def test_a_view_keeps_the_memory(view_of):
    array = buffers.empty(BIG, np.float32)
    place = address(array)
    view = view_of(array)
    del array
    gc.collect()
    assert idle_bytes() == 0
    others = [buffers.empty(BIG, np.float32) for _ in range(5)]
    assert all(address(other) != place for other in others)
    del view
    gc.collect()
    assert idle_bytes() == 64 * 1024 * 4
    assert address(buffers.empty(BIG, np.float32)) == place


def test_values_of_a_living_view_stay():
    array = buffers.empty(BIG, np.float32)
    array[...] = np.arange(array.size).reshape(BIG)
    view = array[10:20:3, ::-1]
    expected = view.copy()
    del array
    for value in range(20):
        buffers.empty(BIG, np.float32).fill(value)
    assert np.array_equal(view, expected)


def test_an_array_in_a_cycle_comes_back_with_the_collector():
    cycle = [buffers.empty(BIG, np.float32)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert idle_bytes() == 64 * 1024 * 4


def test_sizes_up_to_the_same_power_of_two_share_a_block():
    small, large = buffers.empty(BIG, np.float32), buffers.empty(BIG, np.float64)
    places = address(small), address(large)
    del small, large
    middle = buffers.empty((96, 1024), np.float32)
    assert address(middle) == places[1]
    assert address(buffers.empty(BIG, np.float64)) not in places
    assert address(buffers.empty(BIG, np.float32)) == places[0]


def test_small_arrays_are_left_to_malloc():
    buffers.empty((10, 10), np.float32)
    assert not buffers._idle


def test_the_oldest_blocks_go_when_too_much_waits(monkeypatch):
    monkeypatch.setattr(buffers, "MAX_IDLE", 3 * (1 << 17) - 1)
    arrays = [buffers.empty([100_000 + i], np.uint8) for i in range(4)]
    places = [address(array) for array in arrays]
    while arrays:
        arrays.pop(0)
    assert [address(block) for block in buffers._idle] == places[2:]


def test_a_block_that_another_thread_takes_first(monkeypatch):
    """Between the look at the list and the grip into it, the last block may go."""

    class SoonEmpty(deque):
        def __len__(self):
            return 3

    monkeypatch.setattr(buffers, "_idle", SoonEmpty())
    assert buffers.empty(BIG, np.float32).shape == BIG


def test_blocks_that_another_thread_drops_first(monkeypatch):
    """A finalizer has nobody to tell of an error, so there must be none."""

    class Emptied(deque):
        def popleft(self):
            self.clear()
            return super().popleft()

    class Changing(deque):
        def __iter__(self):
            for block in super().__iter__():
                self.append(block)
                yield block

    monkeypatch.setattr(buffers, "MAX_IDLE", 10)
    for kind in (Emptied, Changing):
        monkeypatch.setattr(buffers, "_idle", kind([np.empty(100, np.uint8)]))
        buffers._give_back(np.empty(100, np.uint8))


def test_no_growth_over_200_rounds():
    """Forward and backward of a small net: after a few rounds the blocks that are there suffice."""
    net = Sequential(Conv2d(3, 8, 3, padding=1), ReLU(), LRN(3, 0.5), MaxPool(3, 2)).astype(np.float32)
    x = np.random.default_rng(0).normal(size=(16, 3, 12, 14)).astype(np.float32)

    def blocks_after(rounds):
        for _ in range(rounds):
            net.backward(np.ones_like(net(x)))
        return len(buffers._idle)

    few = blocks_after(5)
    assert few >= 3
    # a thread that is slow to drop its arguments may cost a block now and then, but not one a round
    assert blocks_after(200) <= few + 5


def test_threads_never_share_a_block():
    """Every thread fills its arrays with its own number and must find it again."""
    errors = []
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        rng = np.random.default_rng(number)
        held = []
        for _ in range(400):
            size = int(rng.choice([70_000, 80_000, 90_000]))
            array = buffers.empty([size], np.uint8) if rng.random() < 0.5 else buffers.zeros([size], np.uint8)
            array.fill(number)
            held.append(array[rng.integers(0, 9) :: 7])  # a view alone keeps it
            if len(held) > 5:
                checked = held.pop(int(rng.integers(0, len(held))))
                if not (checked == number).all():
                    errors.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    gc.collect()
    places = [address(block) for block in buffers._idle]
    assert len(places) == len(set(places)) > 0
    assert len(places) <= 3 * 4 * 6  # sizes x threads x arrays held at once
