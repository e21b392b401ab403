"""Arrays on simulated devices, with CuPy's face. What reads or writes one is given to a stream, together with its uses
of memory. NumPy's functions and operators reach them by NumPy's protocols, as they reach CuPy's (fake_numpy.py).
"""

import ctypes
import functools
import importlib

import numpy as np

from . import fake_numpy
from .fake_memory import notes_of_pinned
from .fake_names import names
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


class Flags:
    """CuPy's, which knows nothing of NumPy's others."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata
        self.fnc, self.forc = flags.fnc, flags.forc

    def __getitem__(self, name):
        return getattr(self, name.lower())


class ndarray:  # noqa: N801 - CuPy's own name
    """An array on a simulated device; `memory` is the NumPy array that stands for it, which only tests may touch. The
    array and its views hold the `chunk` of a pool in which that lies."""

    __array_priority__ = 100
    __hash__ = None
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
    flags = property(lambda self: Flags(self.memory.flags))
    T = property(lambda self: self._view(self.memory.T))
    mT = property(lambda self: self._view(self.memory.mT))  # noqa: N815 - CuPy's own name
    device = property(lambda self: Device(self.number))
    data = property(_Pointer)

    def use(self, written):
        return _use(self.chunk.block.notes, f"an array {self.shape}", self.memory, written)

    def check_device(self):
        """Raises ValueError unless it is on the current device."""
        if here.device != self.number:
            raise ValueError(f"an operation on device {self.number} while the current one is {here.device}")

    def _view(self, memory):
        return type(self)(memory, self.number, self.chunk)

    def __array_ufunc__(self, function, method, *args, out=None, **options):
        if out is not None and len(out) != 1:
            raise ValueError("The 'out' parameter must have exactly one array value")
        options |= {} if out is None else {"out": out[0]}
        if method == "__call__":
            return fake_numpy.ufunc(self.fake, function, args, options)
        return fake_numpy.ufunc_method(self.fake, function, method, args, options)

    def __array_function__(self, function, types, args, options):
        space = ".".join(function.__module__.split(".")[1:])
        if function.__name__ not in names(space) or not all(issubclass(each, (ndarray, np.ndarray)) for each in types):
            return NotImplemented
        return fake_numpy.call(self.fake, space, function.__name__, function._implementation, args, options)

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    # the methods that NumPy computes by itself are added below

    def view(self, dtype=None):
        return self._view(self.memory.view(self.dtype if dtype is None else dtype))

    def copy(self, order="C"):
        return self.astype(self.dtype, order)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        memory = self.memory
        if not copy and self.dtype == dtype and np.array(memory, order=order, copy=None) is memory:
            return self
        like = memory.astype(dtype, order=order)  # its shape and order
        self.check_device()  # CuPy would allocate on the current one
        return fake_numpy.new(self.fake, lambda: memory.astype(dtype), like, [self.use(False)])

    def fill(self, value):
        if np.ndim(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self.check_device()
        memory, value = self.memory, value.item() if isinstance(value, np.ndarray) else value
        self.fake.do(lambda: memory.fill(value), self.use(True))

    def get(self, stream=None, order="C", out=None, blocking=True):
        """In the current stream of the array's device, or another. To memory that is not pinned the host copies, and
        waits."""
        stream, memory = stream or self.fake.current_stream(self.number), self.memory
        stream.refuse_while_recording("a copy to the host")
        out = np.empty(self.shape, self.dtype, order) if out is None else out
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

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element, or none, is ambiguous")
        return bool(self.item())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __complex__(self):
        return complex(self.get())

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __format__(self, how):
        return format(self.get(), how)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        with type(self.device)(self.number):
            return self.copy()

    def __reduce__(self):
        return _from_host, (self.get(),)

    def __len__(self):
        return len(self.memory)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        memory, (inside, advanced, mask) = self.memory, self._index(key)
        if not advanced:
            return self._view(_basic(memory, inside))
        arguments = fake_numpy.Arguments(self.fake, "take", (self, inside), {})
        arguments.check()
        if mask:  # how many it chooses is the device's to say
            fake_numpy.waits(self.fake)
        memory, where = arguments.args
        like = memory[_as_zeros(where)]  # while recording, the indices come later
        return fake_numpy.new(self.fake, lambda: memory[where], like, arguments.uses())

    def __setitem__(self, key, value):
        self.check_device()
        memory, (inside, advanced, mask) = self.memory, self._index(key)
        if not advanced:
            whole = isinstance(key, slice) and key == slice(None)
            return self._assign(self._view(_basic(memory, inside)), value, whole)
        if mask:
            fake_numpy.waits(self.fake)
        if not isinstance(value, ndarray):  # a number, too
            value = fake_numpy.from_host(self.fake, value)
        arguments = fake_numpy.Arguments(self.fake, "take", (self, inside, value), {})
        arguments.check()
        memory, where, values = arguments.args

        def scatter():
            memory[where] = values

        self.fake.do(scatter, *arguments.uses(), self.use(True))
        return None

    def _assign(self, view, value, whole):
        """view[...] = value. A copy of one piece of memory, or element by element, which `fake.strided_copies` counts
        where one of the two is not C-contiguous."""
        memory = view.memory
        if isinstance(value, np.ndarray) and value.ndim and whole:
            if (value.shape, value.dtype) != (view.shape, view.dtype) or not (memory.flags.forc):
                raise ValueError("copying a numpy.ndarray by empty slice assignment: the same shape and dtype")
            view.set(np.ascontiguousarray(value))
        elif not isinstance(value, ndarray):
            view.fill(value)
        else:
            value.check_device()
            source = value.memory
            if view.data.ptr == value.data.ptr and (view.shape, view.strides) == (value.shape, value.strides):
                return  # of `view += ...`
            np.broadcast_to(source, view.shape)  # as it would have to be
            self.fake.strided_copies += not (source.flags.c_contiguous and memory.flags.c_contiguous)
            self.fake.do(lambda: np.copyto(memory, source, casting="unsafe"), value.use(False), view.use(True))

    def _index(self, key):
        """(the key as a tuple, whether an array is in it, whether a mask is)."""
        key = key if isinstance(key, tuple) else (key,)
        advanced = mask = False
        for each in key:
            if isinstance(each, list | ndarray | np.ndarray | bool | np.bool_):
                advanced = True
                mask |= (each if isinstance(each, ndarray) else np.asarray(each)).dtype.kind == "b"
            if isinstance(each, list):
                fake_numpy.from_host(self.fake, each)
        return key, advanced, mask


def _basic(memory, key):
    """memory[key], a view even where it is one number."""
    return memory[key if any(each is Ellipsis for each in key) else (*key, ...)]


def _as_zeros(where):
    return tuple(
        np.zeros_like(each) if isinstance(each, np.ndarray) and each.dtype.kind != "b" else each for each in where
    )


def _from_host(values):
    return importlib.import_module("cupy").asarray(values)


def _operator(name, function):
    def call(self, other):
        return function(self, other) if _known(other) or function in COMPARISONS.values() else NotImplemented

    def reflected(self, other):
        return function(other, self) if _known(other) else NotImplemented

    def in_place(self, other):
        return function(self, other, out=self) if _known(other) else NotImplemented

    setattr(ndarray, f"__{name}__", call)
    if f"__r{name}__" in names("ndarray"):
        setattr(ndarray, f"__r{name}__", reflected)
    if f"__i{name}__" in names("ndarray"):
        setattr(ndarray, f"__i{name}__", in_place)


def _known(other):
    return isinstance(other, ndarray | np.ndarray) or fake_numpy.scalar(other)


OPERATORS = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide},
    **{"mod": np.remainder, "divmod": np.divmod, "pow": np.power, "matmul": np.matmul, "lshift": np.left_shift},
    **{"rshift": np.right_shift, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
}
COMPARISONS = {
    **{"lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal, "gt": np.greater},
    "ge": np.greater_equal,
}
for _name, _function in {**OPERATORS, **COMPARISONS}.items():
    _operator(_name, _function)
for _name, _function in {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}.items():
    setattr(ndarray, f"__{_name}__", lambda self, function=_function: function(self))


def _method(name):
    def method(self, *args, **options):
        return fake_numpy.call(self.fake, "ndarray", name, getattr(np.ndarray, name), (self, *args), options)

    return functools.wraps(getattr(np.ndarray, name))(method)


METHODS = (
    *("all", "any", "argmax", "argmin", "argsort", "choose", "clip", "compress", "conj", "conjugate", "cumprod"),
    *("cumsum", "diagonal", "dot", "flatten", "max", "mean", "min", "nonzero", "prod", "ravel", "repeat", "reshape"),
    *("round", "searchsorted", "sort", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var"),
)
for _name in METHODS:
    setattr(ndarray, _name, _method(_name))

ndarray.__module__ = "cupy"
