"""The memory of a simulated device, given out by CuPy's rule, so that what is freed is soon somebody else's.

Sizes are rounded up to 512 bytes. The smallest free chunk that is large enough is taken, and what is left of it stays
free; if there is none, a block is taken from the device: `fresh` lists those. Free neighbours in a block are joined.
"""

import numpy as np

UNIT = 512


class MemoryPool:
    def __init__(self, allocator=None):
        self.allocator = allocator  # which CuPy asks for blocks; here it only learns of them
        self.free: list[tuple[int, int]] = []  # (address, size)
        self.fresh: list[int] = []  # sizes of the blocks taken from the device
        self.blocks: dict[int, np.ndarray] = {}
        self.in_use = 0

    def malloc(self, size: int) -> "Chunk":
        size = max(1, -(-size // UNIT)) * UNIT
        found = min((chunk for chunk in self.free if chunk[1] >= size), key=lambda chunk: chunk[1], default=None)
        if found is None:
            if self.allocator is not None:
                self.allocator(size)
            block = np.empty(size + UNIT, np.uint8)
            start = block.ctypes.data + -block.ctypes.data % UNIT
            self.blocks[start] = block[start - block.ctypes.data :][:size]
            self.fresh.append(size)
            found = start, size
        else:
            self.free.remove(found)
            if found[1] > size:
                self.free.append((found[0] + size, found[1] - size))
        self.in_use += size
        return Chunk(self, found[0], size)

    def give_back(self, start: int, size: int) -> None:
        self.in_use -= size
        for other in list(self.free):
            if other[0] + other[1] == start and start not in self.blocks:
                self.free.remove(other)
                start, size = other[0], other[1] + size
            elif start + size == other[0] and other[0] not in self.blocks:
                self.free.remove(other)
                size += other[1]
        self.free.append((start, size))

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        start = max(start for start in self.blocks if start <= address)
        return self.blocks[start][address - start :][:size]


class Chunk:
    """Memory of a pool, which has it again as soon as nobody holds this object."""

    def __init__(self, pool: MemoryPool, address: int, size: int):
        self.pool, self.address, self.size = pool, address, size

    def __del__(self):
        self.pool.give_back(self.address, self.size)

    def array(self, shape, dtype) -> np.ndarray:
        """What lies there, as an array that does not hold the chunk: as on a GPU, an address is no claim."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.pool.bytes_at(self.address, size).view(dtype).reshape(shape)
