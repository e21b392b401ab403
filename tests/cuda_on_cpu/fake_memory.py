"""The memory of a simulated device, given out by CuPy's rule, so that what is freed is soon somebody else's.

Sizes are rounded up to 512 bytes. The smallest free chunk that is large enough is taken, and what is left of it stays
free; if there is none, a block is taken from the device: `fresh` lists those. Free neighbours in a block are joined.

A block serves one stream, the one that was current when it was taken: what is freed goes to the next array made in that
stream, whoever used it last. So the notes of who used which bytes (fake_order.py) belong to the memory, not to arrays:
if another stream used the last array that lay there, and nobody waited for it, the next one is in danger, as on a GPU.
`free_all_blocks` waits for the device, and gives to it the blocks of which nothing is in use; any stream may have them.
"""

import collections
import ctypes
import functools
import threading
import weakref

import numpy as np

from .fake_order import Notes

UNIT = 512
_blocks: weakref.WeakSet = weakref.WeakSet()  # all there are
_lock = threading.RLock()


class Block:
    """Memory of the device. `stream`: the one whose arrays lie there; None, nobody's."""

    def __init__(self, size: int):
        memory = np.empty(size + UNIT, np.uint8)
        self.bytes = memory[-memory.ctypes.data % UNIT :][:size]
        self.start, self.stream, self.notes = self.bytes.ctypes.data, None, Notes()
        with _lock:
            _blocks.add(self)


def notes_at(start: int, stop: int) -> Notes:
    """Of the block in which these bytes lie. Raises AssertionError if they are no pool's."""
    with _lock:
        found = [each for each in _blocks if each.start <= start and stop <= each.start + each.bytes.size]
    assert found, f"bytes {start:#x} to {stop:#x}: not a device's memory, or past the end of it"
    return found[0].notes


class MemoryPool:
    fake = None

    def __init__(self, allocator=None):
        self.allocator = allocator  # which CuPy asks for blocks; here it only learns of them
        # all of them: what a chunk in a reference cycle alone holds is taken for lost before the chunk gives it back
        self.blocks: list[Block] = []
        self.free: list[tuple[Block, int, int]] = []  # (block, address, size)
        self.fresh: list[int] = []  # sizes of the blocks taken from the device
        self.returned: collections.deque = collections.deque()  # like free; by any thread, in the midst of anything
        self._in_use = 0

    def malloc(self, size: int) -> "Chunk":
        stream, size = self.fake.current_stream().number, max(1, -(-size // UNIT)) * UNIT
        with _lock:
            self._take_back()
            found = [piece for piece in self.free if piece[2] >= size and piece[0].stream in (stream, None)]
            if not found:
                block = Block(size)
                self.blocks.append(block)
                found = [(block, block.start, size)]
                self.free += found
            block, start, room = piece = min(found, key=lambda piece: (piece[0].stream is None, piece[2]))
            self.free.remove(piece)
            if block.stream is None:
                block.stream = stream
                self.fresh.append(room)
                if self.allocator is not None:
                    self.allocator(room)
            if room > size:
                self.free.append((block, start + size, room - size))
            self._in_use += size
        return Chunk(self, block, start, size)

    def _take_back(self) -> None:
        while self.returned:
            block, start, size = self.returned.popleft()
            self._in_use -= size
            beside = [each for each in self.free if each[0] is block and start in (each[1] + each[2], each[1] - size)]
            for other in beside:
                self.free.remove(other)
                start, size = min(start, other[1]), size + other[2]
            self.free.append((block, start, size))

    def free_all_blocks(self) -> None:
        with _lock:
            self._take_back()
            for block, _, size in self.free:
                if size == block.bytes.size:
                    block.stream, block.notes = None, Notes()

    def used_bytes(self) -> int:
        with _lock:
            self._take_back()
            return self._in_use

    def total_bytes(self) -> int:
        with _lock:
            return self.used_bytes() + sum(size for block, _, size in self.free if block.stream is not None)


class Chunk:
    """Memory of a pool, which has it again as soon as nobody holds this object."""

    def __init__(self, pool: MemoryPool, block: Block, address: int, size: int):
        self.pool, self.block, self.address, self.size = pool, block, address, size

    def __del__(self):
        self.pool.returned.append((self.block, self.address, self.size))

    def array(self, shape, dtype) -> np.ndarray:
        """What lies there, as an array that does not hold the chunk: as on a GPU, an address is no claim."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.block.bytes[self.address - self.block.start :][:size].view(dtype).reshape(shape)


_free_pinned: collections.defaultdict = collections.defaultdict(list)  # size: [(bytes, notes)]


def pinned_memory(size: int):
    """Memory of the host that a device reaches by itself. As soon as nobody holds it, it is the next one's of its size,
    with the notes of who used it."""
    with _lock:
        memory, notes = _free_pinned[size].pop() if _free_pinned[size] else (bytearray(size), Notes())
    memory[:] = bytes(size)
    pinned = _pinned_of(size).from_buffer(memory)
    pinned.memory, pinned.notes, pinned.free = memory, notes, _free_pinned[size]
    return pinned


def forget_pinned() -> None:
    """What there is nobody gets again: not what was freed, and not what will be."""
    _free_pinned.clear()


@functools.cache
def _pinned_of(size: int):
    def give_back(self):
        self.free.append((self.memory, self.notes))

    return type("PinnedMemory", (ctypes.c_ubyte * size,), {"__del__": give_back})


def notes_of_pinned(values: np.ndarray) -> Notes | None:
    """Those of the pinned memory in which a NumPy array lies; None if it lies elsewhere."""
    while isinstance(values, np.ndarray):
        values = values.base
    return getattr(values.obj if isinstance(values, memoryview) else values, "notes", None)
