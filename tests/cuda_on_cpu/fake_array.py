"""Arrays on simulated devices, with CuPy's face as far as tinynet looks at it. What reads or writes one is given to a
stream, together with its uses of memory."""

import ctypes
import operator

import numpy as np

from .fake_memory import notes_of_pinned
from .fake_order import Use
from .fake_streams import Device, here


def _use(notes, what, memory, written):
    return Use(notes, what, *(np.lib.array_utils.byte_bounds(memory) if memory.size else (0, 0)), written)


def _host_uses(values, written):
    """None of them but for pinned memory: from elsewhere the driver takes a copy before the call returns."""
    notes = notes_of_pinned(values)
    return [] if notes is None else [_use(notes, "pinned memory of the host", values, written)]


class _Pointer:
    def __init__(self, array):
        self.array, self.ptr = array, array.memory.ctypes.data

    def copy_from_device_async(self, source, size, stream=None):
        """From any device that this one reaches."""
        target, fake = self.array, self.array.fake
        stream, across = stream or fake.current_stream(), source.array.number != target.number
        assert stream.device == target.number, "a copy in a stream of another device"
        assert size == target.nbytes == source.array.nbytes
        assert target.flags.c_contiguous
        assert source.array.flags.c_contiguous

        def copy():
            fake.peer_copies += across
            ctypes.memmove(self.ptr, source.ptr, size)
            if across and fake.peers == "wrong":
                target.memory.reshape(-1)[size // target.itemsize // 2] = 0

        if across and fake.peers == "no":
            raise RuntimeError("cudaErrorPeerAccessUnsupported")
        stream.give(copy, source.array.use(False), target.use(True))


class ndarray:  # noqa: N801 - CuPy's own name
    """An array on a simulated device; `memory` is the NumPy array that stands for it, which only tests may touch. The
    array and its views hold the `chunk` of a pool in which that lies."""

    __array_priority__ = 100
    fake = None

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
    device = property(lambda self: Device(self.number))
    data = property(_Pointer)

    def use(self, written):
        return _use(self.chunk.block.notes, f"an array {self.shape}", self.memory, written)

    def _view(self, memory):
        return type(self)(memory, self.number, self.chunk)

    def _new(self, function, *uses):
        """A new array of the values that function() has when it is the device's turn."""
        self.check_device()  # CuPy would allocate on the current one
        with np.errstate(all="ignore"):
            like = np.asarray(function())  # its shape and order: while recording, the values come later
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        result = self.fake.empty([like.shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))
        memory = result.memory
        self.fake.do(lambda: np.copyto(memory, function()), self.use(False), *uses, result.use(True))
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
        self.check_device()
        memory = self.memory
        self.fake.do(lambda: memory.fill(value), self.use(True))

    def get(self, stream=None, out=None, blocking=True):
        """In the current stream of the array's device, or another. To memory that is not pinned the host copies, and
        waits."""
        stream, memory = stream or self.fake.current_stream(self.number), self.memory
        stream.refuse_while_recording("a copy to the host")
        out = np.empty(self.shape, self.dtype) if out is None else out
        uses = _host_uses(out, True)
        stream.give(lambda: self.fake.sends(stream, out, memory.copy()), self.use(False), *uses)
        if blocking or not uses:
            stream.synchronize()
        return out

    def set(self, values, stream=None):
        """What other streams, in some order with this one, copied to `values` is there, whether the host knows or
        not."""
        stream, memory = stream or self.fake.current_stream(self.number), self.memory
        stream.refuse_while_recording("a copy from the host")
        assert values.shape == self.shape
        assert values.dtype == self.dtype
        assert values.flags.c_contiguous

        def copy():
            self.fake.lands(lambda clock, out: np.shares_memory(out, values))
            memory[...] = values

        stream.give(copy, *_host_uses(values, False), self.use(True))

    def item(self):
        return self.get().item()

    def __float__(self):
        return float(self.get())

    def __len__(self):
        return len(self.memory)

    def __getitem__(self, key):
        return self._view(self.memory[key])

    def __setitem__(self, key, value):
        self.check_device()
        memory, (operand, uses) = self.memory, self._operand(value)
        self.fake.do(lambda: operator.setitem(memory, key, operand), *uses, self[key].use(True))

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __bool__(self):
        raise TypeError("the truth of an array on a device makes the host wait: compare on the device, or use .get()")

    def _operand(self, other):
        """(what NumPy is to take for it, its uses of memory)."""
        if isinstance(other, ndarray):
            if other.number != self.number:
                raise ValueError(f"arrays on devices {self.number} and {other.number} in one operation")
            return other.memory, [other.use(False)]
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError("a NumPy array and an array on a device in one operation")
        return other, []

    def check_device(self):
        """Raises ValueError unless it is on the current device."""
        if here.device != self.number:
            raise ValueError(f"an operation on device {self.number} while the current one is {here.device}")


def _binary(name, function):
    def call(self, other):
        memory, (operand, uses) = self.memory, self._operand(other)
        return self._new(lambda: function(memory, operand), *uses)

    def in_place(self, other):
        self.check_device()
        memory, (operand, uses) = self.memory, self._operand(other)
        self.fake.do(lambda: operator.setitem(memory, ..., function(memory, operand)), *uses, self.use(True))
        return self

    setattr(ndarray, f"__{name}__", call)
    setattr(ndarray, f"__i{name}__", in_place)


for _name in ("add", "sub", "mul", "truediv"):
    _binary(_name, getattr(operator, _name))
_binary("or", operator.or_)

ndarray.__module__ = "cupy"
