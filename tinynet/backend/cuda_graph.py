"""The work of a function on a GPU, recorded once and made again with a few launches: CUDA graphs, through CuPy.

While a function is recorded, nothing is computed. What it launches is noted with its arguments: the addresses of
arrays, and plain numbers, which are the same in every replay. What changes from step to step must therefore be read
from the device's memory. Copies between host and device, and whatever makes the host wait, cannot be recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from tinynet.backend import device
from tinynet.errors import DeviceError


class Recorded:
    """The launches of one call of `function` on the GPU `where`; `replay()` makes them again, and waits for nothing.

    inputs: arrays there, by name, which launches look up (`recording()`), because their values change between replays;
    the caller writes them. `result` is what the function returned: arrays that each replay writes anew.

    CuPy (14.2) refuses to record cuBLAS. So the recording is cut at each matrix product (`outside`): a replay is a
    graph, a product, a graph, ... on the current stream, which keeps their order.

    What the function allocates comes from a memory pool that nobody else uses, since each replay writes there again;
    inside the recording it is used again as always.

    Raises DeviceError, which says what to do, if the function does something that cannot be recorded.
    """

    def __init__(self, function: Callable[[], Any], where: str, **inputs: Any):
        cuda = device.cupy().cuda
        self.where, self.inputs = where, inputs
        self._parts: list[Callable[[], Any]] = []
        self._kept: list[Any] = []
        with device.on(where):
            self._pool, self._stream = cuda.MemoryPool(self._block), cuda.Stream(non_blocking=True)
            device.cupy().get_default_memory_pool().free_all_blocks()  # of the step that was not recorded
            with cuda.using_allocator(self._pool.malloc), self._stream:
                self._stream.begin_capture()
                device.this_thread.recording = self
                try:
                    self.result = function()
                    self._parts.append(self._stream.end_capture().launch)
                except BaseException as error:
                    with contextlib.suppress(RuntimeError):  # of a recording that was spoilt already
                        self._stream.end_capture()
                    if isinstance(error, DeviceError) or not isinstance(error, RuntimeError | TypeError):
                        raise
                    text = "does something that a CUDA graph cannot record"
                    raise DeviceError(f"{where}: the step {text}: {error}; train without graph=True") from error
                finally:
                    device.this_thread.recording = None

    def _block(self, size: int) -> Any:
        """Memory for the pool, which never gives it back: recorded launches know its addresses."""
        memory = device.cupy().cuda.Memory(size)
        self._kept.append(memory)
        return device.cupy().cuda.MemoryPointer(memory, 0)

    def outside(self, call: Callable[[], Any]) -> None:
        """To be called while recording: at each replay `call` is made here, between two graphs."""
        self._parts += [self._stream.end_capture().launch, call]
        self._stream.begin_capture()

    def keep(self, array: Any) -> None:
        """To be called while recording: `array`, which was made before, is read by launches and must stay."""
        self._kept.append(array)

    def replay(self) -> None:
        with device.on(self.where):
            for part in self._parts:
                part()


def recording() -> Recorded | None:
    """What this thread is recording, if it is."""
    return getattr(device.this_thread, "recording", None)
