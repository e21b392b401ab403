"""A stand-in for CuPy, for tests without a GPU: its arrays live on simulated devices, its kernels run on the CPU shim.

    fake = FakeCupy(folder_for_the_libraries, devices=2)
    monkeypatch.setitem(sys.modules, "cupy", fake)

It has what tinynet uses of CuPy and nothing more, and it is stricter. Each device has its own memory: an operation or a
launch that mixes two devices, or an array of NumPy's with one of a device, is an error, as is a launch of an array that
is not on the current device. A NumPy array of a device's array comes by `get()` alone. `synchronisations` counts what
makes the host wait, and `allocations` each new array that is no view. Memory is a pool's (fake_memory.py), and what is
done while a stream records is only noted (fake_streams.py); copies and cuBLAS are errors then, as CuPy has it.
"""

import contextlib
import operator
import types
from pathlib import Path

import numpy as np

from . import CpuModule
from .fake_cublas import CUDA_R_32F, CUDA_R_64F, FakeCublas
from .fake_memory import MemoryPool
from .fake_streams import Event, Stream


class Device:
    """The current device, in a `with`."""

    current = 0
    compute_capability = "90"
    # as CuPy has it; few multiprocessors, so that small work fills them
    attributes = {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 227 << 10}  # noqa: RUF012
    before: list[int]

    def __init__(self, number=None):
        self.id = Device.current if number is None else number
        self.before = []

    def __enter__(self):
        self.before.append(Device.current)
        Device.current = self.id
        return self

    def __exit__(self, *failure):
        Device.current = self.before.pop()

    @property
    def cublas_handle(self):
        return f"handle of device {self.id}"

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id


class ndarray:  # noqa: N801 - CuPy's own name
    """An array on a simulated device; `memory` is the NumPy array that stands for it, which only tests may touch. The
    array and its views hold the `chunk` of a pool in which that lies."""

    __array_priority__ = 100
    fake: "FakeCupy"

    def __init__(self, memory: np.ndarray, number: int, chunk):
        self.memory, self.number, self.chunk = memory, number, chunk

    shape = property(lambda self: self.memory.shape)
    dtype = property(lambda self: self.memory.dtype)
    ndim = property(lambda self: self.memory.ndim)
    size = property(lambda self: self.memory.size)
    nbytes = property(lambda self: self.memory.nbytes)
    itemsize = property(lambda self: self.memory.itemsize)
    strides = property(lambda self: self.memory.strides)
    flags = property(lambda self: self.memory.flags)
    T = property(lambda self: self._view(self.memory.T))

    @property
    def device(self):
        return Device(self.number)

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.memory.ctypes.data)

    def _view(self, memory):
        return type(self)(memory, self.number, self.chunk)

    def _new(self, function):
        """A new array of the values that function() has when it is the device's turn."""
        self._on_its_device()  # CuPy would allocate on the current one
        with np.errstate(all="ignore"):
            like = np.asarray(function())  # its shape and order: while recording, the values come later
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        result = self.fake.empty([like.shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))
        memory = result.memory
        self.fake.do(lambda: np.copyto(memory, function()))
        return result

    def reshape(self, *shape):
        memory = self.memory
        view = memory.reshape(*shape)
        return self._view(view) if np.shares_memory(view, memory) else self._new(lambda: memory.reshape(*shape))

    def transpose(self, *axes):
        return self._view(self.memory.transpose(*axes))

    def view(self, dtype):
        return self._view(self.memory.view(dtype))

    def copy(self, order="C"):
        memory = self.memory
        return self._new(lambda: memory.copy(order))

    def astype(self, dtype, copy=True):
        memory = self.memory
        return self if not copy and self.dtype == dtype else self._new(lambda: memory.astype(dtype))

    def fill(self, value):
        self._on_its_device()
        memory = self.memory
        self.fake.do(lambda: memory.fill(value))

    def get(self, out=None, blocking=True):
        self.fake.refuse_while_recording("a copy to the host")
        if blocking:
            self.fake.synchronisations += 1
            return self.memory.copy()
        self.fake.landing.append((out, self.memory.copy()))
        return out

    def item(self):
        return self.get().item()

    def __float__(self):
        return float(self.get())

    def __len__(self):
        return len(self.memory)

    def __getitem__(self, key):
        return self._view(self.memory[key])

    def __setitem__(self, key, value):
        self._on_its_device()
        memory, operand = self.memory, self._operand(value)
        self.fake.do(lambda: operator.setitem(memory, key, operand))

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __bool__(self):
        raise TypeError("the truth of an array on a device makes the host wait: compare on the device, or use .get()")

    def _operand(self, other):
        if isinstance(other, ndarray):
            if other.number != self.number:
                raise ValueError(f"arrays on devices {self.number} and {other.number} in one operation")
            return other.memory
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError("a NumPy array and an array on a device in one operation")
        return other

    def _on_its_device(self):
        if Device.current != self.number:
            raise ValueError(f"an operation on device {self.number} while the current one is {Device.current}")


def _binary(name, function):
    def call(self, other):
        memory, operand = self.memory, self._operand(other)
        return self._new(lambda: function(memory, operand))

    def in_place(self, other):
        self._on_its_device()
        memory, operand = self.memory, self._operand(other)
        self.fake.do(lambda: operator.setitem(memory, ..., function(memory, operand)))
        return self

    setattr(ndarray, f"__{name}__", call)
    setattr(ndarray, f"__i{name}__", in_place)


for _name in ("add", "sub", "mul", "truediv"):
    _binary(_name, getattr(operator, _name))

ndarray.__module__ = "cupy"


class FakeCupy(types.ModuleType):
    """The module. load(source, include=, names=) compiles a .cu file; by default without a sanitizer."""

    def __init__(self, folder: Path, devices: int = 1, memory: int = 1 << 40, load=None):
        super().__init__("cupy")
        self.folder, self.devices, self.memory = folder, devices, memory
        self.load = load or (lambda source, **options: CpuModule(source, folder, **options))
        self.modules: dict[tuple, CpuModule] = {}
        self.ndarray = type("ndarray", (ndarray,), {"fake": self, "__module__": "cupy"})
        self.reset(memory)
        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: self.devices,
            memGetInfo=lambda: (self.memory, self.memory),
            getDeviceProperties=lambda number: {"name": f"simulated {number}".encode()},
            CUDA_R_32F=CUDA_R_32F,
            CUDA_R_64F=CUDA_R_64F,
        )
        self.cuda = types.SimpleNamespace(Device=Device, MemoryPool=MemoryPool, runtime=runtime)
        self.cuda.Event, self.cuda.Stream = (type(kind.__name__, (kind,), {"fake": self}) for kind in (Event, Stream))
        self.cuda.using_allocator, self.cuda.alloc_pinned_memory = self._using_allocator, bytearray
        self.cuda.cublas = FakeCublas(self)
        self.cuda.Memory, self.cuda.MemoryPointer = int, lambda memory, offset: None  # of blocks that a pool asks for
        self.cuda.get_elapsed_time = lambda begin, end: 1e3 * (end.seconds - begin.seconds)
        self.__version__ = "a stand-in"

    def reset(self, memory=1 << 40):
        """Counters at 0, all memory free, device 0 current, no stream but the default one, nothing under way."""
        self.allocations = self.synchronisations = self.launches = self.graph_launches = 0
        self.memory, self.busy, self.landing, self.streams = memory, False, [], []
        self.pools = [MemoryPool() for _ in range(self.devices)]
        self.allocator = None
        Device.current = 0

    def do(self, call):
        """Now, or when the graph that is being recorded is launched."""
        recorded = self.streams[-1].recorded if self.streams else None
        with np.errstate(all="ignore"):  # a device warns of nothing
            call() if recorded is None else recorded.append(call)

    def refuse_while_recording(self, what, kind=RuntimeError):
        if self.streams and self.streams[-1].recorded is not None:
            raise kind(f"{what} during stream capture is currently unsupported")

    @contextlib.contextmanager
    def _using_allocator(self, allocator):
        before, self.allocator = self.allocator, allocator
        try:
            yield
        finally:
            self.allocator = before

    def get_default_memory_pool(self):
        pool = self.pools[Device.current]
        return types.SimpleNamespace(
            used_bytes=lambda: pool.in_use, total_bytes=lambda: pool.in_use, free_all_blocks=lambda: None
        )

    def empty(self, shape, dtype=float):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > self.memory:
            raise MemoryError(f"Out of memory allocating {size:,} bytes")
        self._check_device()
        chunk = (self.allocator or self.pools[Device.current].malloc)(size)
        values = chunk.array(shape, dtype)
        values.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, or a number that nobody expects
        self.allocations += 1
        return self.ndarray(values, Device.current, chunk)

    def zeros(self, shape, dtype=float):
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def asarray(self, values):
        self.refuse_while_recording("a copy from the host")
        array = self.empty(values.shape, values.dtype)
        array.memory[...] = values
        return array

    def _check_device(self):
        if not 0 <= Device.current < self.devices:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def RawKernel(self, source, name):  # noqa: N802 - CuPy's own name
        path = self.folder / f"{name}.cu"
        path.write_text(source.replace('extern "C" ', ""), encoding="utf-8")
        return _Kernel(self, self.load(path).get_function(name))

    def RawModule(self, *, code, options, name_expressions):  # noqa: N802 - CuPy's own name
        include = next(Path(option[2:]) for option in options if option.startswith("-I"))
        path = next(path for path in include.glob("*.cu") if path.read_text(encoding="utf-8") == code)
        key = path, tuple(name_expressions)
        if key not in self.modules:
            self.modules[key] = self.load(path, include=include, names=name_expressions)
        module = self.modules[key]
        return types.SimpleNamespace(get_function=lambda name: _Kernel(self, module.get_function(name)))


class _Kernel:
    def __init__(self, fake: FakeCupy, kernel):
        self.fake, self.kernel, self.max_dynamic_shared_size_bytes = fake, kernel, 48 << 10

    def __call__(self, grid, block, args, shared_mem=0):
        self.fake._check_device()
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError(f"cudaErrorInvalidValue: {shared_mem} bytes of shared memory were not asked for")
        for arg in args:
            if isinstance(arg, ndarray):
                arg._on_its_device()
        self.fake.launches += 1
        values = [arg.memory if isinstance(arg, ndarray) else arg for arg in args]
        values = [float(value) if isinstance(value, np.floating) else value for value in values]
        self.fake.do(lambda: self.kernel(grid, block, values, shared_mem=shared_mem))
