"""What NumPy's functions do with arrays on simulated devices: their computation, and CuPy 14.2's refusals.

A function runs if CuPy has one of its name that takes these arguments (fake_names.py). A result that is a view of an
argument's memory stays one; any other is a new array of the current device, whose values the current stream is given
to compute. Python's own numbers, shapes and dtypes come back as they are.

An array of NumPy's is no operand: TypeError. It may be an index or the values of `asarray`, which CuPy copies to the
device, but not while a stream records. What needs a number from the device to know its result's shape (`nonzero`, a
mask) makes the host wait.
"""

from typing import NamedTuple

import numpy as np

from .fake_names import check_arguments, names

WAITS = {
    *("nonzero", "flatnonzero", "argwhere", "unique", "unique_values", "unique_counts", "unique_inverse", "unique_all"),
    *("compress", "extract", "bincount", "histogram", "setdiff1d", "union1d", "intersect1d", "trim_zeros", "place"),
}
WRITES = {"copyto", "put_along_axis", "fill_diagonal", "put", "putmask", "place", "ndarray.sort"}  # its first argument
TRUTHS = {"array_equal", "allclose", "array_equiv", "count_nonzero"}  # numbers of Python's in NumPy, arrays in CuPy
FROM_HOST = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "take", "take_along_axis"}
SETTINGS = {"pad"}  # arrays of NumPy's are widths
PRODUCTS = {"matmul", "dot", "tensordot", "inner", "vdot", "einsum", "ndarray.dot", "vecdot", "linalg.norm"}
NO_OPERANDS = {"result_type", "can_cast", "min_scalar_type", "promote_types", "shares_memory", "may_share_memory"}
REDUCE = {"add": "sum", "multiply": "prod"}
ACCUMULATE = {"add": "cumsum", "multiply": "cumprod"}
AT = {"add", "maximum", "minimum"}
HOST_ARRAY = "{}: Unsupported type numpy.ndarray: an array of NumPy's beside one of a device"
SCALARS = bool, int, float, complex, np.bool_, np.number


class Operand(NamedTuple):
    """An array on a device, or None and memory of the host; `memory` stands for it in NumPy's functions."""

    array: object
    memory: np.ndarray


def _is_device(value):
    return hasattr(value, "check_device")


class Arguments:
    """Of one call. `inside` are those for NumPy's function, `operands` the arrays among them."""

    def __init__(self, fake, name, args, kwargs):
        self.fake, self.name, self.operands = fake, name, []
        self.args = [self._inside(arg) for arg in args]
        self.kwargs = {key: self._inside(value) for key, value in kwargs.items()}

    def _inside(self, value):
        if _is_device(value):
            self.operands.append(Operand(value, value.memory))
            return value.memory
        if isinstance(value, np.ndarray):
            if self.name in FROM_HOST:
                return from_host(self.fake, value)
            if self.name not in SETTINGS | NO_OPERANDS:
                raise TypeError(HOST_ARRAY.format(self.name))
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)([self._inside(each) for each in value])
        return value

    def uses(self):
        return [each.array.use(False) for each in self.operands]

    def refuse_cublas_while_recording(self):
        if any(each.memory.dtype.kind in "fc" for each in self.operands):
            self.fake.current_stream().refuse_while_recording("calling cuBLAS API", NotImplementedError)

    def check(self):
        for each in self.operands:
            each.array.check_device()


def from_host(fake, values):
    """A copy of them, which CuPy sends to the device behind what is in the stream; not while it records."""
    fake.current_stream().refuse_while_recording("a copy from the host")
    return values.copy(order="K") if isinstance(values, np.ndarray) else values


def waits(fake):
    fake.current_stream().synchronize()


def call(fake, space, name, function, args, kwargs):
    """function(*args, **kwargs), CuPy's `name` in `space`, of NumPy's function or method, on arrays of devices."""
    check_arguments(space, name, args[1:] if space == "ndarray" else args, kwargs)
    full = f"{space}.{name}" if space else name
    out, kwargs = kwargs.get("out"), {key: value for key, value in kwargs.items() if key != "out"}
    inside = Arguments(fake, full, args, kwargs)
    if (
        full in PRODUCTS
        and len(inside.operands) > 1
        and any(each.memory.dtype.kind in "fc" for each in inside.operands)
    ):
        fake.current_stream().refuse_while_recording("calling cuBLAS API", NotImplementedError)
    if name in WAITS or (name == "where" and len(args) == 1):
        inside.check()
        waits(fake)

    def compute():
        return function(*inside.args, **inside.kwargs)

    if full in WRITES:
        return _written(fake, inside, compute)
    return finish(fake, inside, compute, out, array=full in TRUTHS)


def _written(fake, inside, compute):
    target = inside.operands[0].array
    inside.check()
    fake.do(compute, *inside.uses(), target.use(True))


def finish(fake, inside, compute, out=None, array=False, order="K"):
    """The result of compute(): of the same kind, but its arrays are on the device; or in `out`."""
    with np.errstate(all="ignore"):
        like = compute()  # its shape and order: while recording, the values come later
    if out is not None:
        return into(fake, inside, compute, like, out)
    if array and not isinstance(like, np.ndarray):
        like = np.asarray(like)
    return _given(fake, inside, compute, like, order)


def _given(fake, inside, compute, like, order):
    if isinstance(like, list | tuple) and any(isinstance(each, np.ndarray | np.generic) for each in like):
        parts = [_given(fake, inside, lambda i=i: compute()[i], each, order) for i, each in enumerate(like)]
        return type(like)(parts) if type(like) in (list, tuple) else type(like)(*parts)  # a named tuple
    if not isinstance(like, np.ndarray | np.generic):
        return like
    for each in inside.operands:
        if isinstance(like, np.ndarray) and _is_view(like, each.memory):
            return each.array if like is each.memory else each.array._view(like)
    inside.check()
    return new(fake, compute, np.asarray(like), inside.uses(), order)


def _is_view(array, memory):
    """Whether the array shows `memory`; one without elements shares none, but knows whose view it is."""
    if array.size:
        return np.may_share_memory(array, memory)
    return array is memory or (array.base is not None and (array.base is memory or array.base is memory.base))


def new(fake, compute, like, uses, order="K"):
    """A new array of the values that compute() has when it is the device's turn, of the shape and dtype of `like`."""
    axes = range(like.ndim) if order == "C" else sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
    result = fake.empty([like.shape[axis] for axis in axes], like.dtype).transpose(np.argsort(list(axes)).tolist())
    memory = result.memory
    fake.do(lambda: np.copyto(memory, compute()), *uses, result.use(True))
    return result


def into(fake, inside, compute, like, out):
    if not _is_device(out):
        raise TypeError("Output arguments type must be cupy.ndarray")
    like = np.asarray(like)
    if like.shape != out.shape:
        raise ValueError(f"Out shape is mismatched: {out.shape} for {like.shape}")
    if not np.can_cast(like.dtype, out.dtype, "same_kind"):
        raise TypeError(f"output operand: {like.dtype} cannot be cast to {out.dtype} by the rule 'same_kind'")
    inside.check()
    out.check_device()
    memory = out.memory
    fake.do(lambda: np.copyto(memory, compute()), *inside.uses(), out.use(True))
    return out


def scalar(value):
    return isinstance(value, SCALARS)


def ufunc(fake, function, args, kwargs):
    """A ufunc of NumPy's; NotImplemented where CuPy has none, or for what is no number and no array."""
    name = function.__name__
    if not names().get(name):
        return NotImplemented
    comparison = name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
    args = [arg.item() if comparison and isinstance(arg, np.ndarray) and not arg.ndim else arg for arg in args]
    if not all(_is_device(arg) or scalar(arg) or isinstance(arg, np.ndarray) for arg in args):
        return NotImplemented
    kwargs = dict(kwargs)
    out = kwargs.pop("out", None)
    unknown = kwargs.keys() - {"where", "dtype", "casting", *(("axes", "axis") if name == "matmul" else ())}
    if unknown:
        raise TypeError(f"Wrong arguments {sorted(unknown)}")
    for array in (*args, out, kwargs.get("where")):
        if isinstance(array, np.ndarray):
            raise TypeError(HOST_ARRAY.format(name))
    inside = Arguments(fake, name, args, kwargs)
    if name in PRODUCTS:
        inside.refuse_cublas_while_recording()
    if "where" in kwargs and out is not None:
        before = out.memory
        return finish(fake, inside, lambda: function(*inside.args, **inside.kwargs, out=before.copy()), out, order="C")
    # the results of CuPy's element-wise functions are C-contiguous, whatever their arguments are
    return finish(fake, inside, lambda: function(*inside.args, **inside.kwargs), out, order="C")


def ufunc_method(fake, function, method, args, kwargs):
    """ufunc.reduce and its like; NotImplementedError where CuPy has none of the ufunc."""
    name = function.__name__
    if method in ("reduce", "accumulate"):
        as_function = {"reduce": REDUCE, "accumulate": ACCUMULATE}[method].get(name)
        if as_function is not None:
            args, kwargs = list(args), dict(kwargs)
            kwargs.setdefault("axis", args.pop(1) if len(args) > 1 else 0)
            return call(fake, "", as_function, getattr(np, as_function), tuple(args), kwargs)
    if method == "at" and name in AT:
        target, index, *values = args
        inside = Arguments(fake, "take", (target, index, *values), {})  # "take": a host's index is copied
        memory, rest = inside.args[0], inside.args[1:]
        inside.check()
        fake.do(lambda: function.at(memory, *rest), *inside.uses(), target.use(True))
        return None
    if method == "outer":
        a, b = args
        return ufunc(fake, function, (a.reshape(a.shape + (1,) * b.ndim), b), kwargs)
    raise NotImplementedError(f"`cupy_{name}.{method}` is not supported yet")
