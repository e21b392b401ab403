"""A stand-in for CuPy, for tests without a GPU: its arrays live on simulated devices, its kernels run on the CPU shim.

    fake = FakeCupy(folder_for_the_libraries, devices=2)
    monkeypatch.setitem(sys.modules, "cupy", fake)

It has what tinynet uses of CuPy, the functions that CuPy 14.2 takes from NumPy (fake_numpy.py), and nothing that CuPy
14.2 lacks (fake_names.py); and it is stricter. Each device has its own memory: an operation or a
launch that mixes two devices, or an array of NumPy's with one of a device, is an error, as is a launch of an array that
is not on the current device. A NumPy array of a device's array comes by `get()` alone. Work on the same memory in two
streams must be in an order (fake_order.py). What is done while a stream records is only noted (fake_streams.py); copies
and cuBLAS are errors then, as CuPy has it. Memory is a pool's (fake_memory.py).

`synchronisations` counts what makes the host wait, `allocations` each new array that is no view; `now` is the host's
simulated time. `busy`: the devices do nothing before the host waits for it. `peers`: whether they reach each other's
memory: "yes", "no", or "wrong".
"""

import contextlib
import operator
import tempfile
import threading
import types
from pathlib import Path

import numpy as np

from . import CpuModule, fake_numpy
from .fake_array import ndarray
from .fake_cublas import CUDA_R_32F, CUDA_R_64F, FakeCublas
from .fake_memory import MemoryPool, forget_pinned, pinned_memory
from .fake_names import names
from .fake_order import knows, learn
from .fake_streams import Device, Event, Stream, elapsed_time, here


class FakeCupy(types.ModuleType):
    """The module. load(source, include=, names=) compiles a .cu file; by default without a sanitizer."""

    def __init__(self, folder: Path, devices: int = 1, memory: int = 1 << 40, load=None):
        super().__init__("cupy")
        self.folder, self.devices = folder, devices
        self.load = load or (lambda source, **options: CpuModule(source, folder, **options))
        self.lock = threading.RLock()  # of the clocks, and of the kernels, whose simulated threads are one process's
        self.modules: dict[tuple, CpuModule] = {}
        kinds = ndarray, Device, Event, Stream, MemoryPool
        own = {kind: self.own(kind) for kind in kinds}
        self.ndarray = own[ndarray]
        self.ndarray.__module__ = "cupy"
        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: self.devices,
            memGetInfo=lambda: (self.memory, self.memory),
            getDeviceProperties=lambda number: {"name": f"simulated {number}".encode()},
            deviceCanAccessPeer=lambda number, other: self.peers != "no",
            CUDA_R_32F=CUDA_R_32F,
            CUDA_R_64F=CUDA_R_64F,
        )
        self.cuda = types.SimpleNamespace(Device=own[Device], runtime=runtime, cublas=FakeCublas(self))
        self.cuda.Event, self.cuda.Stream, self.cuda.MemoryPool = own[Event], own[Stream], own[MemoryPool]
        self.cuda.using_allocator, self.cuda.alloc_pinned_memory = self._using_allocator, pinned_memory
        self.cuda.get_current_stream = self.current_stream
        self.cuda.Memory, self.cuda.MemoryPointer = int, lambda memory, offset: None  # of blocks that a pool asks for
        self.cuda.get_elapsed_time = elapsed_time
        self.__version__ = "a stand-in"
        self.reset(memory)

    def own(self, kind):
        """The class as this module has it."""
        return type(kind.__name__, (kind,), {"fake": self})

    def reset(self, memory=1 << 40):
        """Counters at 0, all memory free, device 0 current, no stream but the default ones, nothing under way, all
        devices reach each other."""
        self.allocations = self.synchronisations = self.launches = self.graph_launches = self.peer_copies = (
            self.strided_copies
        ) = 0
        self.memory, self.busy, self.peers = memory, False, "yes"
        self.known: dict[int, int] = {}  # what the host knows to be done, as a clock of fake_order.py
        self.now = 0.0  # s, the host's simulated time
        self.given: dict[int, tuple] = {}  # to each device: (the clock, the time) of its end
        self.under_way: list[tuple] = []  # copies to the host of which it does not know: (clock, out, values)
        self.null_streams = [self.cuda.Stream(null_of=number) for number in range(self.devices)]
        self.pools = [self.cuda.MemoryPool() for _ in range(self.devices)]
        here.reset()
        forget_pinned()

    def current_stream(self, device=None):
        """Of this device, by default the current one, in this Python thread."""
        number = here.device if device is None else device
        if not 0 <= number < self.devices:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        return here.streams.get(number) or self.null_streams[number]

    def do(self, call, *uses):
        """See Stream.give."""
        self.current_stream().give(call, *uses)

    def sends(self, stream, out, values):
        """`out` will be `values` once the host knows that the stream has come to here."""
        self.under_way.append((dict(stream.clock), out, values))

    def host_waits(self, clock, seconds):
        """Until all is done of which this clock knows, at that time."""
        self.synchronisations += 1
        self.now = max(self.now, seconds)
        self.host_learns(clock)

    def host_learns(self, clock):
        """That all is done of which this clock knows."""
        with self.lock:
            learn(self.known, clock)
            self.lands(lambda clock, out: knows(self.known, clock))

    def lands(self, wanted):
        """Those copies to the host are there for which wanted(clock, out) is True."""
        under_way, self.under_way = self.under_way, []
        for clock, out, values in under_way:
            if wanted(clock, out):
                out[...] = values
            else:
                self.under_way.append((clock, out, values))

    @contextlib.contextmanager
    def _using_allocator(self, allocator):
        before, here.allocator = here.allocator, allocator
        try:
            yield
        finally:
            here.allocator = before

    def get_default_memory_pool(self):
        return self.pools[here.device]

    def empty(self, shape, dtype=float, order="C"):
        if order == "F":
            return self.empty(shape[::-1], dtype).T
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > self.memory:
            raise MemoryError(f"Out of memory allocating {size:,} bytes")
        number = self.current_stream().device
        chunk = (here.allocator or self.pools[number].malloc)(size)
        values = chunk.array(shape, dtype)
        values.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, or a number that nobody expects
        self.allocations += 1
        return self.ndarray(values, number, chunk)

    def zeros(self, shape, dtype=float, order="C"):
        array = self.empty(shape, dtype, order)
        array.fill(0)
        return array

    def array(self, values, dtype=None, copy=True, order="K"):
        if isinstance(values, ndarray):
            values.check_device()
            return values.astype(values.dtype if dtype is None else dtype, order, copy=bool(copy))
        self.current_stream().refuse_while_recording("a copy from the host")
        values = np.asarray(values, dtype, order)
        array = self.empty(values.shape, values.dtype)
        self.do(lambda: np.copyto(array.memory, values), array.use(True))
        return array

    def asarray(self, values, dtype=None, order="K"):
        return self.array(values, dtype, copy=False, order=order)

    def asnumpy(self, array):
        return array.get() if isinstance(array, ndarray) else np.asarray(array)

    def __getattr__(self, name):
        """What CuPy takes by the same name as NumPy: its functions, here on these arrays; its dtypes and constants."""
        if name in ("linalg", "lib"):
            return _Space(self, name)
        return self._function("", name, np)

    def _function(self, space, name, numpy):
        kind = names(space).get(name)
        if kind is None or not hasattr(numpy, name):
            raise AttributeError(
                f"module 'cupy{space and '.'}{space}' has no attribute {name!r}"
                + ("" if kind is None else ": CuPy has it, the stand-in of these tests does not")
            )
        function = getattr(numpy, name)
        if isinstance(function, np.ufunc):
            return lambda *args, **options: self._ufunc(function, args, options)
        if kind.startswith("("):
            plain = getattr(function, "_implementation", function)
            return lambda *args, **options: fake_numpy.call(self, space, name, plain, args, options)
        return function

    def _ufunc(self, function, args, options):
        result = fake_numpy.ufunc(self, function, args, options)
        if result is NotImplemented:
            raise TypeError(f"{function.__name__}: Unsupported type among {[type(arg) for arg in args]}")
        return result

    def RawKernel(self, source, name):  # noqa: N802 - CuPy's own name
        with self.lock:
            if (source, name) not in self.modules:
                path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder), f"{name}.cu")
                path.write_text(source.replace('extern "C" ', ""), encoding="utf-8")
                self.modules[source, name] = self.load(path)
        return _Kernel(self, self.modules[source, name].get_function(name))

    def RawModule(self, *, code, options, name_expressions):  # noqa: N802 - CuPy's own name
        include = next(Path(option[2:]) for option in options if option.startswith("-I"))
        path = next(path for path in include.glob("*.cu") if path.read_text(encoding="utf-8") == code)
        key = path, tuple(name_expressions)
        with self.lock:
            if key not in self.modules:
                self.modules[key] = self.load(path, include=include, names=name_expressions)
        module = self.modules[key]
        return types.SimpleNamespace(get_function=lambda name: _Kernel(self, module.get_function(name)))


class _Space:
    """A module inside of CuPy with functions of NumPy's: cupy.linalg, cupy.lib.stride_tricks."""

    def __init__(self, fake, name):
        self.fake, self.name = fake, name

    def __getattr__(self, name):
        if (self.name, name) == ("lib", "stride_tricks"):
            return _Space(self.fake, "lib.stride_tricks")
        return self.fake._function(self.name, name, operator.attrgetter(self.name)(np))


class _Kernel:
    def __init__(self, fake: FakeCupy, kernel):
        self.fake, self.kernel, self.max_dynamic_shared_size_bytes = fake, kernel, 48 << 10

    def __call__(self, grid, block, args, shared_mem=0):
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError(f"cudaErrorInvalidValue: {shared_mem} bytes of shared memory were not asked for")
        uses = []
        for arg, kind in zip(args, self.kernel.signature, strict=True):
            if isinstance(arg, ndarray):
                arg.check_device()
                uses.append(arg.use(not kind.startswith("const ")))
        self.fake.launches += 1
        values = [arg.memory if isinstance(arg, ndarray) else arg for arg in args]
        values = [float(value) if isinstance(value, np.floating) else value for value in values]
        self.fake.do(lambda: self.kernel(grid, block, values, shared_mem=shared_mem), *uses)
