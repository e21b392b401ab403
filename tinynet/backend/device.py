"""Where an array lives, and how it gets elsewhere. This is the only module that imports cupy, when first asked."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinynet.backend import buffers
from tinynet.checks import device_of
from tinynet.errors import DeviceError, DeviceMemoryError

OLDEST = 70  # compute capability of the GPUs that the kernels are made for: Volta, 2017
# CuPy by its own name: what PyPI has as "tinynet" is another project
this_thread = threading.local()  # .recording: the `tinynet.backend.cuda_graph.Recorded` that is being made, if any
INSTALL = "pip install 'cupy-cuda12x[ctk]>=14.2', or 'cupy-cuda13x[ctk]>=14.2' for CUDA 13"


def checked_device(name: str) -> str:
    """`name` as `device_of` writes it, "cpu" or "cuda:K"; "cuda" is "cuda:0".

    Raises ValueError for anything else, DeviceError, which says what is missing, for a GPU that cannot be used.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", name) if isinstance(name, str) else None
    if not found:
        raise ValueError(f'expected a device "cpu", "cuda" or "cuda:K", got {name!r}')
    if name == "cpu":
        return name
    name = f"cuda:{int(found[1] or 0)}"
    _try_out(name)
    return name


def to_device(array: Any, device: str) -> Any:
    """`array` itself if it is on `device`, or a copy there in the same memory order.

    Raises what `checked_device` does, and DeviceMemoryError if it does not fit.
    """
    source, device = device_of(array), checked_device(device)
    if source == device:
        return array
    if source == "cpu" and recording():
        raise RuntimeError("a copy from the host, whose values a replay would take from memory long used otherwise")
    order = buffers.axes_in_memory(array)
    stored = array.transpose(order)  # as it lies in memory, so that one copy is enough
    if source != "cpu":
        with on(source):
            stored = stored.get()
    if device != "cpu":
        with on(device):
            stored = _in_memory(cupy().asarray, stored.shape, stored.dtype, device)(np.asarray(stored, order="C"))
    return stored.transpose(np.argsort(order).tolist())


def address(array: Any) -> tuple[str, int]:
    """(device, address there) of an array's first element."""
    where = device_of(array)
    return where, array.ctypes.data if where == "cpu" else array.data.ptr


def to_cpu(array: Any) -> np.ndarray:
    """The array on the CPU: itself, or a copy, for which the host waits for the device."""
    return to_device(array, "cpu")


def cpu_copy(array: Any) -> np.ndarray:
    """A copy on the CPU, in C order."""
    return np.array(to_cpu(array), order="C")


def assign(target: Any, values: Any) -> None:
    """target[...] = values, wherever both are: of arrays in one order in memory, a copy of that memory as it lies."""
    where = device_of(target)
    values = to_device(values, where)
    if values.ndim == target.ndim:  # CuPy copies at once what is C-contiguous, and element by element what is not
        order = buffers.axes_in_memory(target)
        target, values = target.transpose(order), values.transpose(order)
    with on(where):
        target[...] = values


def as_type(array: Any, dtype: DTypeLike) -> Any:
    """`array` itself if it has this dtype, or a copy that has, on the same device."""
    with on(device_of(array)):
        return array.astype(dtype, copy=False)


def empty(shape: Sequence[int], dtype: DTypeLike, device: str) -> Any:
    """A C-contiguous array with undefined values, on `device`; of memory that is used again on either.

    Raises DeviceError, a MemoryError too, if it does not fit.
    """
    if device == "cpu":
        return buffers.empty(shape, dtype)
    with on(device):
        return _in_memory(cupy().empty, shape, dtype, device)(tuple(shape), dtype)


def zeros(shape: Sequence[int], dtype: DTypeLike, device: str) -> Any:
    """A C-contiguous array of zeros, on `device`."""
    array = empty(shape, dtype, device)
    fill_with_zeros(array)
    return array


def fill_with_zeros(array: Any) -> None:
    """Every element becomes 0."""
    with on(device_of(array)):
        array.fill(0)


def zeros_like(array: Any) -> Any:
    """An array of zeros of the same shape, dtype and device."""
    return np.zeros_like(array) if isinstance(array, np.ndarray) else zeros(array.shape, array.dtype, device_of(array))


_in_use: list[tuple[Any, tuple[Any, ...]]] = []  # (event, host memory that a GPU reads or writes until then)
_lock = threading.Lock()


def keep_until(event: Any, *arrays: Any) -> None:
    """Keep pinned memory of the host until a GPU has done with it, even if nobody waits for that any more: freed, CuPy
    would give it to the next copy at once."""
    with _lock:
        _in_use[:] = [each for each in _in_use if not each[0].done] + [(event, arrays)]


class Arriving:
    """Copies of arrays of one GPU, on their way to the CPU: of their values now, behind all that is under way there."""

    def __init__(self, *arrays: Any):
        cuda, self._copies = cupy().cuda, []
        with on(device_of(arrays[0])):
            for array in arrays:
                pinned = cuda.alloc_pinned_memory(array.nbytes)  # into other memory a GPU cannot copy by itself
                copy = np.frombuffer(pinned, array.dtype, array.size).reshape(array.shape)
                array.get(out=copy, blocking=False)
                self._copies.append(copy)
            self._event = cuda.Event(disable_timing=True)
            self._event.record()
        keep_until(self._event, *self._copies)

    @property
    def there(self) -> bool:
        return self._event.done

    def wait(self) -> list[np.ndarray]:
        """The copies, once they have come."""
        if not self.there:
            self._event.synchronize()
        return self._copies


def recording() -> bool:
    """Whether this thread is recording a CUDA graph."""
    return getattr(this_thread, "recording", None) is not None


def on(device: str) -> Any:
    """A context in which CuPy works on `device`; for "cpu" it does nothing."""
    return contextlib.nullcontext() if device == "cpu" else cupy().cuda.Device(int(device.removeprefix("cuda:")))


def cupy() -> Any:
    """The module. Raises DeviceError if it is not there."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(f"a GPU needs CuPy, which cannot be imported ({error}): {INSTALL}") from error


@functools.cache
def _try_out(device: str) -> None:
    """Raises DeviceError unless a tiny kernel can be compiled and run on `device`, its result read back, and cuBLAS
    loaded."""
    module, number = cupy(), int(device.removeprefix("cuda:"))
    try:
        count = module.cuda.runtime.getDeviceCount()
    except RuntimeError as error:  # no driver, or one too old
        raise DeviceError(
            f"{device}: no GPU can be reached: {error}. It needs an NVIDIA GPU and a driver for the CUDA version of "
            'this CuPy (nvidia-smi shows the driver\'s); without one, use the device "cpu"'
        ) from error
    if number >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
        raise DeviceError(f"{device}: no such GPU; this machine has {there}")
    try:
        with on(device):
            capability = module.cuda.Device().compute_capability  # "90" for 9.0
            if int(capability) < OLDEST:
                raise RuntimeError(f"it has compute capability {capability}; tinynet's kernels need {OLDEST} (Volta)")
            values = module.zeros(3, np.float32)
            source = 'extern "C" __global__ void count(float* x) { x[threadIdx.x] = threadIdx.x + 1; }'
            module.RawKernel(source, "count")((1,), (3,), (values,))
            right = values.get().tolist() == [1, 2, 3]
    except (RuntimeError, ImportError, MemoryError) as error:
        hint = f"; if NVRTC or headers are missing: {INSTALL}"
        raise DeviceError(f"{device}: a first kernel could not be compiled and run: {error}{hint}") from error
    if not right:
        raise DeviceError(f"{device}: a first kernel gave wrong numbers: the GPU or its driver is not sound")
    try:
        with on(device):
            _ = module.cuda.Device().cublas_handle  # now, not in the middle of the first Linear
    except (RuntimeError, ImportError, MemoryError) as error:
        raise DeviceError(f"{device}: cuBLAS, which multiplies matrices, cannot be used: {error}; {INSTALL}") from error


def _in_memory(make: Any, shape: Sequence[int], dtype: DTypeLike, device: str) -> Any:
    """`make`, with DeviceMemoryError for CuPy's own error."""

    def call(*args: Any) -> Any:
        try:
            return make(*args)
        except MemoryError as error:
            raise out_of_memory(f"an array of shape {tuple(shape)}, {np.dtype(dtype)}", device, error) from error

    return call


@contextlib.contextmanager
def computing(device: str, who: str) -> Iterator[None]:
    """Inside, array code computes on this GPU, with DeviceMemoryError for CuPy's own error."""
    with on(device):
        try:
            yield
        except DeviceMemoryError:
            raise
        except MemoryError as error:
            raise out_of_memory(who, device, error) from error


def out_of_memory(wanted: str, device: str, error: BaseException) -> DeviceError:
    """The error for a device that has no room left, with the sizes."""
    with on(device):
        free, total = cupy().cuda.runtime.memGetInfo()
        used = cupy().get_default_memory_pool().used_bytes()
    return DeviceMemoryError(
        f"{device} is out of memory for {wanted} ({error}): {free / 1e9:.2f} of {total / 1e9:.2f} GB are free, "
        f"{used / 1e9:.2f} GB are in use here. Take a smaller batch"
    )
