"""Find, compile and launch the CUDA kernels in kernels/*.cu.

    launch("lrn", "lrn_forward<float>", (64,), (256,), x=x, y=y, size=5, groups=1, alpha=1e-4, beta=0.75, k=2.0)

A raw kernel takes whatever it is given: a view as a bare pointer, a float where it reads a double, an array of another
GPU. So every argument is given by the name it has in the kernel's source, and checked against what stands there:

    const T* __restrict__ x /* C, H, W, N */        an array of T, C-contiguous, of this shape
    const T* __restrict__ bias /* O or null */      the same, or None
    int C                                           a whole number; those that stand in shapes need not be given

The sources are data: the repository keeps them in `kernels/` beside the package, and a wheel carries them inside it, as
`tinynet/kernels/`. An editable install is the repository. `kernel_folder` finds both.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import device
from tinynet.errors import DeviceError

_PACKAGE = Path(__file__).resolve().parents[1]

TYPES = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned char": np.uint8,
    "long long": np.int64,
    "index_t": np.int64,  # by which the sources call it
    "unsigned long long": np.uint64,
}
C_TYPE = {np.dtype(TYPES[name]): name for name in ("float", "double")}  # C_TYPE[x.dtype] is the T of a kernel for x

STATIC_SHARED = 48 << 10  # bytes of shared memory that a kernel may have without asking for more

KERNEL = re.compile(
    r"(?:template\s*<(?P<template>[^<>]*)>\s*)?"
    r"__global__\s+void\s+(?:__launch_bounds__\s*\([^()]*\)\s*)?(?P<name>\w+)\s*\((?P<parameters>.*?)\)\s*\{",
    re.DOTALL,
)
PARAMETER = re.compile(
    r"(?P<const>const\s+)?(?P<type>\w+(?:\s+\w+)*?)\s*(?P<pointer>\*)?\s*(?:__restrict__\s+)?(?P<name>\w+)\s*"
    r"(?:/\*(?P<shape>[^*]*)\*/)?\s*"
)


def kernel_folder() -> Path:
    """The folder of the .cu files. Raises FileNotFoundError, with the places it looked, if there is none."""
    places = _PACKAGE / "kernels", _PACKAGE.parent / "kernels"
    for place in places:
        # the second one may be anybody's folder when the package lies in site-packages: ours has the sources in it
        if next(place.glob("*.cu"), None):
            return place
    raise FileNotFoundError(f"tinynet's CUDA sources: expected .cu files in {places[0]} or in {places[1]}, found none")


def kernel_stems() -> list[str]:
    """The names of all kernel files without ".cu", sorted: ["augment", ...]."""
    return sorted(path.stem for path in kernel_folder().glob("*.cu"))


def kernel_path(stem: str) -> Path:
    """kernels/<stem>.cu. Raises FileNotFoundError, with the folder and the stems that it holds, if there is none."""
    path = kernel_folder() / f"{stem}.cu"
    if stem not in kernel_stems():
        raise FileNotFoundError(f"no CUDA source {path.name} in {path.parent}; it has {', '.join(kernel_stems())}")
    return path


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter as its source declares it; `shape` is the text of the comment, for pointers."""

    name: str
    dtype: np.dtype
    pointer: bool
    shape: tuple[str, ...] = ()
    may_be_null: bool = False


def launch(stem: str, expression: str, grid: Sequence[int], block: Sequence[int], shared: int = 0, **args: Any) -> None:
    """Run the kernel `expression`, as "lrn_forward<float>", of kernels/<stem>.cu on the device of its arrays, after
    what that device's current stream has to do. The host does not wait for it.

    grid and block: one to three sizes; shared: bytes of dynamic shared memory. args: see above.

    Raises TypeError and ValueError for arguments that do not fit the kernel, DeviceError if it cannot be compiled or
    run.
    """
    parameters = signature(stem, expression)
    values, where = _checked(expression, parameters, args)
    with device.on(where):
        kernel = _compiled(stem, expression, where)
        try:
            if shared > max(STATIC_SHARED, kernel.max_dynamic_shared_size_bytes):
                kernel.max_dynamic_shared_size_bytes = shared
            kernel(tuple(grid), tuple(block), tuple(values), shared_mem=shared)
        except RuntimeError as error:
            raise DeviceError(
                f"{expression}: the launch of {grid} blocks of {block} threads failed: {error}"
            ) from error


@functools.cache
def signature(stem: str, expression: str) -> tuple[Parameter, ...]:
    """The parameters of a kernel. Raises LookupError if kernels/<stem>.cu has none of this name."""
    name, _, instance = expression.partition("<")
    text = re.sub(r"//.*", "", kernel_path(stem).read_text(encoding="utf-8"))
    found = next((kernel for kernel in KERNEL.finditer(text) if kernel["name"] == name), None)
    if found is None:
        raise LookupError(f"{stem}.cu: no kernel {name}")
    names = [parameter.split()[-1] for parameter in (found["template"] or "").split(",") if parameter.split()]
    given = [argument.strip() for argument in instance.rstrip(">").split(",") if argument.strip()]
    if len(names) != len(given):
        raise LookupError(f"{stem}.cu: {name} takes the template arguments <{', '.join(names)}>, got {expression}")
    meaning = dict(zip(names, given, strict=True))
    return tuple(_parameter(stem, name, text, meaning) for text in _split(found["parameters"]))


def _split(parameters: str) -> list[str]:
    """At the commas that stand outside of comments."""
    parts = re.findall(r"(?:/\*.*?\*/|[^,/]|/(?!\*))+", parameters, re.DOTALL)
    return [part.strip() for part in parts if part.strip()]


def _parameter(stem: str, kernel: str, text: str, meaning: dict[str, str]) -> Parameter:
    found = PARAMETER.fullmatch(text)
    kind = meaning.get(found["type"], found["type"]) if found else ""
    if not found or kind not in TYPES or bool(found["pointer"]) != (found["shape"] is not None):
        raise LookupError(f"{stem}.cu: {kernel}: cannot read the parameter {text!r}")
    shape, null, _ = (found["shape"] or "").partition("or null")
    dims = tuple(dim.strip() for dim in shape.split(",") if dim.strip())
    return Parameter(found["name"], np.dtype(TYPES[kind]), bool(found["pointer"]), dims, bool(null))


def _checked(expression: str, parameters: Sequence[Parameter], args: dict[str, Any]) -> tuple[list[Any], str]:
    """The arguments in order, each of the exact type, and the device of the arrays."""
    arrays = {parameter.name: parameter for parameter in parameters if parameter.pointer}
    sizes = {name: int(value) for name, value in args.items() if _is_whole(value)}
    devices: dict[str, str] = {}
    for name, parameter in arrays.items():
        if name not in args:
            raise TypeError(f"{expression}: expected an array {name} ({', '.join(parameter.shape)})")
        if args[name] is not None:
            devices[name] = _check_array(f"{expression}: {name}", parameter, args[name])
            if len(parameter.shape) == args[name].ndim:
                for dim, size in zip(parameter.shape, args[name].shape, strict=True):
                    if dim.isidentifier():
                        sizes.setdefault(dim, size)
            elif len(parameter.shape) == 1 and parameter.shape[0].isidentifier():
                sizes.setdefault(parameter.shape[0], args[name].size)
        elif not parameter.may_be_null:
            raise TypeError(f"{expression}: expected an array {name} ({', '.join(parameter.shape)}), got None")
    if len(set(devices.values())) != 1 or "cpu" in devices.values():
        raise TypeError(f"{expression}: expected all arrays on one GPU, got {devices}")
    for name, parameter in arrays.items():
        if args[name] is not None:
            _check_shape(f"{expression}: {name}", parameter, args[name], sizes)
    unknown = set(args) - {parameter.name for parameter in parameters}
    if unknown:
        raise TypeError(f"{expression}: no parameters {sorted(unknown)}; it has {[p.name for p in parameters]}")
    values = [
        args[p.name] if p.pointer else _number(f"{expression}: {p.name}", p.dtype, args.get(p.name, sizes.get(p.name)))
        for p in parameters
    ]
    return values, next(iter(devices.values()))


def _check_array(what: str, parameter: Parameter, array: Any) -> str:
    where = device.device_of(array)
    if array.dtype != parameter.dtype:
        raise TypeError(f"{what}: expected an array of {parameter.dtype}, got {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{what}: expected a C-contiguous array, got one of shape {array.shape}, strides {array.strides}"
        )
    return where


def _check_shape(what: str, parameter: Parameter, array: Any, sizes: dict[str, int]) -> None:
    try:
        # the text is a source's of this package: names, numbers and + - * / alone
        expected = tuple(eval(_code(dim), {"__builtins__": {}}, sizes) for dim in parameter.shape)
    except NameError as error:
        raise TypeError(
            f"{what}: its shape ({', '.join(parameter.shape)}) needs a number that is not given: {error}"
        ) from None
    if array.shape != expected and not (len(expected) == 1 and array.size == expected[0]):
        raise ValueError(f"{what}: expected the shape ({', '.join(parameter.shape)}) = {expected}, got {array.shape}")


@functools.cache
def _code(dim: str) -> Any:
    return compile(dim.replace("/", "//"), dim, "eval")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _number(what: str, dtype: np.dtype, value: Any) -> Any:
    """`value` as a NumPy scalar of exactly the kernel's type."""
    if value is None:
        raise TypeError(f"{what}: expected a number of {dtype}, got none")
    if dtype.kind == "f":
        if not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{what}: expected a number, got {value!r}")
        return dtype.type(value)
    if not _is_whole(value):
        raise TypeError(f"{what}: expected a whole number, got {value!r}")
    limits = np.iinfo(dtype)
    if not limits.min <= int(value) <= limits.max:
        raise ValueError(f"{what}: {value} does not fit {dtype}")
    return dtype.type(int(value))


@functools.cache
def _compiled(stem: str, expression: str, where: str) -> Any:
    """The kernel, compiled when first wanted on `where`. Versions of CuPy that keep such kernels on disk do so under a
    key that knows the source and the options, but not the headers that the source includes: hence their hash."""
    path = kernel_path(stem)
    headers = b"".join(header.read_bytes() for header in sorted(path.parent.glob("*.cuh")))
    options = ("-std=c++17", f"-I{path.parent}", f"-DTINYNET_HEADERS=0x{hashlib.sha256(headers).hexdigest()[:8]}")
    source = path.read_text(encoding="utf-8")
    try:
        module = device.cupy().RawModule(code=source, options=options, name_expressions=[expression])
        return module.get_function(expression)
    except Exception as error:  # NVRTC's, of a kind of its own, and the loader's
        raise DeviceError(
            f"{path.name}: {expression} does not compile on {where}: {error}; {device.INSTALL}"
        ) from error
