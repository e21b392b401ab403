"""kernels/panels.cu on the CPU, in every instance, against a convolution by naive loops. No GPU needed."""

import re
from copy import copy
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import oracles
import pytest
from bounds import UNIT, random_sum, random_sum_of_coarse_products, roundings, spread
from checks import assert_sums, assert_within
from cuda_on_cpu import ORDERS, kernel_names, nvrtc
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import blank, orders, sparse
from strategies import Window, convolutions

from tinynet.backend import launch
from tinynet.backend.precision import PRECISIONS, TENSOR_CORES
from tinynet.ops.gpu.conv import choose

PATH = launch.kernel_path("panels")
TILED = "panels_forward", "panels_input_gradient", "panels_weight_gradient"
# bytes of shared memory that a block may have at most (CUDA C++ Programming Guide, compute capabilities)
MOST_SHARED = {70: 96, 75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
SPILLED = {  # bytes that instances of TF32X3, which fills the registers to the last, may store elsewhere
    "panels_forward<float, TF32X3, 128, 128>": 4,
    "panels_input_gradient<float, TF32X3, 64, 128>": 16,
    "panels_weight_gradient<float, TF32X3, 128, 128>": 12,
    "panels_weight_gradient<float, TF32X3, 64, 128>": 24,
}


@dataclass(frozen=True)
class Instance:
    """One instance of the three kernels."""

    T: str
    arithmetic: str
    rows: int
    columns: int

    def __str__(self):
        return f"<{self.T}, {self.arithmetic}, {self.rows}, {self.columns}>"

    @property
    def dtype(self):
        return {"float": np.float32, "double": np.float64}[self.T]

    def near(self, error, terms, entries):
        """Whether a relative error in the L2 norm is what rounding makes of sums of so many random products."""
        if self.T == "double":
            return error <= 2 * random_sum(terms, np.float64, entries)  # what is expected is rounded, too
        precision = self.arithmetic.lower().replace("fma", "fp32")
        return error <= random_sum_of_coarse_products(terms, precision, entries)

    def shared(self, k_inner):
        """Bytes of dynamic shared memory; k_inner: for the weight gradient, whose right matrix lies line by line."""
        size = np.dtype(self.dtype).itemsize
        line = 16 + 16 // size
        right = self.columns * line if k_inner else 16 * (self.columns + 8)
        return (3 if self.arithmetic == "FMA" else 4) * size * (self.rows * line + right)


INSTANCES = (
    Instance("float", "FMA", 128, 128),
    Instance("float", "FMA", 64, 128),
    Instance("double", "FMA", 64, 64),
    Instance("float", "TF32", 128, 256),
    Instance("float", "TF32", 128, 128),
    Instance("float", "TF32", 64, 128),
    Instance("float", "TF32X3", 128, 128),
    Instance("float", "TF32X3", 64, 128),
    Instance("float", "BF16", 128, 256),
    Instance("float", "BF16", 128, 128),
    Instance("float", "BF16", 64, 128),
)
EXACT = INSTANCES[1], INSTANCES[7]  # a smaller tile of float, by plain multiply-adds and by three TF32 products
every_instance = pytest.mark.parametrize("instance", INSTANCES, ids=str)

# more rows, columns and terms than a tile or a chunk has, in all three kernels
LARGE = Window(11, 134, 6, 5, (2, 1), (1, 2), (1, 1), (2, 1), groups=1, out_channels=131)


@st.composite
def cases(draw):
    """A convolution of some batch that copies of 16 bytes may or may not fit."""
    return replace(draw(convolutions(most_pixels=7)), N=draw(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 12])))


# --- what is expected -------------------------------------------------------------------------------------------------


def outputs(case):
    starts = zip(case.shape[2:], case.kernel_size, case.stride, case.padding, case.dilation, strict=True)
    return tuple(len(oracles.window_starts(*axis)) for axis in starts)


def seen_by(case, padded, kh, kw):
    """A view of the padded picture (C, H, W, N): what this tap of the kernel sees, (C, OH, OW, N)."""
    top, left = kh * case.dilation[0], kw * case.dilation[1]
    OH, OW = outputs(case)
    return padded[:, top :: case.stride[0], left :: case.stride[1]][:, :OH, :OW]


class Convolution:
    """x, weight, bias, dy of a case, in float64, and all that follows from them. Pictures are (C, H, W, N)."""

    def __init__(self, case, dtype, mean=0.0):
        random = np.random.default_rng(7)

        def normal(*shape):
            return (random.normal(size=shape) + mean).astype(dtype).astype(np.float64)

        KH, KW = case.kernel_size
        O, CG, (OH, OW) = case.out_channels, case.C // case.groups, outputs(case)
        self.case = case
        self.x = normal(case.C, case.H, case.W, case.N)
        self.weight, self.bias = normal(O, CG, KH, KW), normal(O)
        self.dy = normal(O, OH, OW, case.N)
        self.sizes = (case.C, case.H, case.W, case.N, O, OH, OW, KH, KW, *case.stride, *case.padding, *case.dilation)
        self.sizes = (*self.sizes, case.groups)

    @property
    def terms(self):
        """Products in a sum of y (and one more for the bias), dx and dweight."""
        O, CG, KH, KW = self.weight.shape
        return CG * KH * KW + 1, O // self.case.groups * KH * KW, self.dy[0].size

    def padded(self, picture):
        top, left = self.case.padding
        return np.pad(picture, ((0, 0), (top, top), (left, left), (0, 0)))

    def grouped(self):
        """(output channels, input channels) of each group."""
        O, C = self.case.out_channels // self.case.groups, self.case.C // self.case.groups
        return [(slice(g * O, g * O + O), slice(g * C, g * C + C)) for g in range(self.case.groups)]

    def y(self):
        y, padded = np.zeros(self.dy.shape), self.padded(self.x)
        for kh, kw in np.ndindex(*self.case.kernel_size):
            for o, c in self.grouped():
                y[o] += np.tensordot(self.weight[o, :, kh, kw], seen_by(self.case, padded, kh, kw)[c], 1)
        return y

    def dx(self):
        dpadded = self.padded(np.zeros(self.x.shape))
        for kh, kw in np.ndindex(*self.case.kernel_size):
            for o, c in self.grouped():
                seen_by(self.case, dpadded, kh, kw)[c] += np.tensordot(self.weight[o, :, kh, kw].T, self.dy[o], 1)
        (top, left), (_, H, W, _) = self.case.padding, self.x.shape
        return dpadded[:, top : top + H, left : left + W]

    def dweight(self):
        dweight, padded = np.zeros(self.weight.shape), self.padded(self.x)
        for kh, kw in np.ndindex(*self.case.kernel_size):
            for o, c in self.grouped():
                dweight[o, :, kh, kw] = np.tensordot(self.dy[o], seen_by(self.case, padded, kh, kw)[c], [[1, 2, 3]] * 2)
        return dweight


@settings(max_examples=20)
@given(cases())
def test_what_is_expected_is_what_the_loops_of_oracles_say(case):
    wanted = Convolution(replace(case, N=min(case.N, 3)), np.float64)
    window = case.stride, case.padding, case.dilation, case.groups
    x, dy = (array.transpose(3, 0, 1, 2) for array in (wanted.x, wanted.dy))
    y = oracles.conv2d(x, wanted.weight, None, *window)
    dx, dweight, _ = oracles.conv2d_backward(x, wanted.weight, dy, *window)
    squared, (own, back, over) = squares(wanted), wanted.terms
    assert_sums(wanted.y().transpose(3, 0, 1, 2), y, own, squared.y().transpose(3, 0, 1, 2))
    assert_sums(wanted.dx().transpose(3, 0, 1, 2), dx, back, squared.dx().transpose(3, 0, 1, 2))
    assert_sums(wanted.dweight(), dweight, over, squared.dweight())


def squares(wanted):
    """The same convolution of the squares of all numbers: its results are the sums of the squares of all terms."""
    result = copy(wanted)
    result.x, result.weight, result.dy, result.bias = wanted.x**2, wanted.weight**2, wanted.dy**2, wanted.bias**2
    return result


def relative_error(got, expected, squared):
    """In the L2 norm, relative to the root of the sum of all terms' squares."""
    return np.linalg.norm(got - expected) / (np.sqrt(np.sum(squared)) or 1)


def y_is_near(instance, y, wanted, bias=True, relu=False):
    own = wanted.bias.reshape(-1, 1, 1, 1) * bias
    expected, squared = wanted.y() + own, squares(wanted).y() + own**2
    error = relative_error(y, np.maximum(expected, 0) if relu else expected, squared)
    return instance.near(error, wanted.terms[0], y.size)


def dx_is_near(instance, dx, wanted):
    return instance.near(relative_error(dx, wanted.dx(), squares(wanted).dx()), wanted.terms[1], dx.size)


def dweight_is_near(instance, dweight, wanted):
    error = relative_error(dweight, wanted.dweight(), squares(wanted).dweight())
    return instance.near(error, wanted.terms[2], dweight.size)


# --- launches, as the header of panels.cu describes them. options: order, blocks, guarded -----------------------------


def unaligned(array):
    """A copy that does not start at a multiple of 16 bytes."""
    result = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    assert result.ctypes.data % 16
    result[...] = array
    return result


def tiles(instance, rows, columns):
    return ceil(rows / instance.rows) * ceil(columns / instance.columns)


def forward(kernel, instance, wanted, place=np.array, bias=True, relu=0, **options):
    case, dtype, y = wanted.case, instance.dtype, place(blank(wanted.dy.shape, instance.dtype))
    grid = tiles(instance, case.out_channels // case.groups, y[0].size), 1, case.groups
    x, weight, own = (place(array.astype(dtype)) for array in (wanted.x, wanted.weight, wanted.bias))
    args = x, weight, own if bias else None, y, *wanted.sizes, relu
    kernel(f"panels_forward{instance}")(grid, (instance.columns,), args, instance.shared(False), **options)
    return y


def input_gradient(kernel, instance, wanted, place=np.array, **options):
    case, dtype, dx = wanted.case, instance.dtype, place(blank(wanted.x.shape, instance.dtype))
    columns = ceil(case.H / case.stride[0]) * ceil(case.W / case.stride[1]) * case.N
    grid = tiles(instance, case.C // case.groups, columns), case.stride[0] * case.stride[1], case.groups
    dy, weight = (place(array.astype(dtype)) for array in (wanted.dy, wanted.weight))
    args, run = (dy, weight, dx, *wanted.sizes), kernel(f"panels_input_gradient{instance}")
    run(grid, (instance.columns,), args, instance.shared(False), **options)
    return dx


def weight_gradient(kernel, instance, wanted, place=np.array, parts=1, **options):
    case, dtype = wanted.case, instance.dtype
    partial = place(blank((parts, *wanted.weight.shape), dtype))
    grid = tiles(instance, case.out_channels // case.groups, wanted.weight[0].size), parts, case.groups
    x, dy = (place(array.astype(dtype)) for array in (wanted.x, wanted.dy))
    args, run = (x, dy, partial, *wanted.sizes, parts), kernel(f"panels_weight_gradient{instance}")
    run(grid, (instance.columns,), args, instance.shared(True), **options)
    return sum_parts(kernel, instance, partial, blank(wanted.weight.shape, dtype))


def sum_parts(kernel, instance, partial, total, accumulate=0, **options):
    args = partial, total, len(partial), total.size, accumulate
    kernel(f"panels_sum_parts<{instance.T}>")((2,), (64,), args, **options)
    return total


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_instance_is_listed_here():
    names = {f"{name}{i}" for name in TILED for i in INSTANCES}
    names |= {f"panels_{kind}<{T}>" for kind in ("bias_gradient", "sum_parts") for T in ("float", "double")}
    assert set(kernel_names(PATH)) == names


def launchable(architecture):
    """{name of an instance that the library may launch on such a GPU: bytes of its shared memory}."""
    chosen = {"float": [choose.FLOAT[precision] for precision in PRECISIONS], "double": [choose.DOUBLE]}
    found = {}
    for T, ways in chosen.items():
        for way in ways if architecture >= TENSOR_CORES else ways[:1]:
            for name in TILED:
                for tile in way.tiles:
                    shared = choose.shared_bytes(name, way, np.dtype(launch.TYPES[T]).itemsize, tile)
                    if shared <= MOST_SHARED[architecture] << 10:
                        found[f"{name}<{T}, {way.name}, {tile[0]}, {tile[1]}>"] = shared
    return found


def test_the_library_knows_every_instance_and_its_shared_memory():
    wanted = {f"{name}{i}": i.shared("weight" in name) for name in TILED for i in INSTANCES}
    assert launchable(90) == wanted
    header = re.findall(r"^//   <(.+?)>? {2,}(\d+) +(\d+)", PATH.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(header) == 6
    for instance, others, weight in header:
        assert wanted[f"panels_forward<{instance}>"] == wanted[f"panels_input_gradient<{instance}>"] == int(others)
        assert wanted[f"panels_weight_gradient<{instance}>"] == int(weight)
    assert all(any(name.startswith(kernel) for name in launchable(gpu)) for gpu in MOST_SHARED for kernel in TILED)


def test_source():
    assert "tinynet/ops/conv/panels.py" in PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_compiles(architecture):
    """Whatever the library may launch on such a GPU compiles for it without a warning, with all sums in registers."""
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC (pip install nvidia-cuda-nvrtc-cu12) or nvcc; neither found")
    if architecture not in compiler.architectures():
        pytest.skip(f"{compiler} compiles here for {compiler.architectures()}, not for sm_{architecture}")
    plain = [name for name in kernel_names(PATH) if "," not in name]
    names = plain + list(launchable(architecture))
    cubin = compiler.cubin(PATH, names, architecture, spills=0, more=SPILLED)
    assert all(f"_Z{len(name)}{name}I".encode() in cubin for name in {name.partition("<")[0] for name in names})


@every_instance
@settings(max_examples=6)
@given(case=cases(), order=orders, relu=st.integers(0, 1))
def test_panels_forward(kernel, instance, case, order, relu):
    wanted = Convolution(case, instance.dtype)
    y = forward(kernel, instance, wanted, bias=case.bias, relu=relu, order=order)
    assert y_is_near(instance, y, wanted, case.bias, relu)


@every_instance
@settings(max_examples=6)
@given(case=cases(), order=orders)
def test_panels_input_gradient(kernel, instance, case, order):
    wanted = Convolution(case, instance.dtype)
    dx = input_gradient(kernel, instance, wanted, order=order)
    assert dx_is_near(instance, dx, wanted)


@every_instance
@settings(max_examples=6)
@given(case=cases(), order=orders, parts=st.integers(1, 5))
def test_panels_weight_gradient(kernel, instance, case, order, parts):
    wanted = Convolution(case, instance.dtype)
    dweight = weight_gradient(kernel, instance, wanted, parts=parts, order=order)
    assert dweight_is_near(instance, dweight, wanted)


@every_instance
@pytest.mark.parametrize("N", [11, 12])
def test_larger_than_a_tile(kernel, instance, N):
    wanted = Convolution(replace(LARGE, N=N), instance.dtype)
    assert y_is_near(instance, forward(kernel, instance, wanted), wanted)
    assert dx_is_near(instance, input_gradient(kernel, instance, wanted), wanted)
    assert dweight_is_near(instance, weight_gradient(kernel, instance, wanted, parts=2), wanted)


@pytest.mark.parametrize("instance", EXACT, ids=str)
def test_the_order_of_threads_and_blocks_changes_no_bit(kernel, instance):
    wanted = Convolution(Window(4, 9, 7, 6, (3, 2), (2, 1), (1, 1), groups=3, out_channels=6), instance.dtype)
    for run in (forward, input_gradient, weight_gradient):
        first, *others = (run(kernel, instance, wanted, order=order).tobytes() for order in ORDERS)
        assert others == [first, first]


@every_instance
def test_arrays_that_are_not_aligned(kernel, instance):
    wanted = Convolution(Window(8, 8, 4, 5, (3, 2), padding=(1, 1), out_channels=5), instance.dtype)
    options = {"place": unaligned, "guarded": False}
    y, dx, dweight = (run(kernel, instance, wanted, **options) for run in (forward, input_gradient, weight_gradient))
    assert y_is_near(instance, y, wanted)
    assert dx_is_near(instance, dx, wanted)
    assert dweight_is_near(instance, dweight, wanted)


@every_instance
def test_relu_shows_nan_and_infinity(kernel, instance):
    wanted = Convolution(Window(5, 1, 1, 1, (1, 1)), instance.dtype)
    wanted.x[...], wanted.weight[...], wanted.bias[...] = [-2, 3, np.nan, 0, -1], 1, 0
    np.testing.assert_array_equal(forward(kernel, instance, wanted, relu=1).ravel(), [0, 3, np.nan, 0, 0])
    wanted.x[...], wanted.bias[...] = [-2, 3, np.nan, 0, -1], -np.inf
    assert np.isnan(forward(kernel, instance, wanted, relu=1)).all()


@every_instance
def test_a_nan_stays_in_its_column(kernel, instance):
    wanted = Convolution(Window(8, 3, 5, 4, (3, 2), padding=(1, 1), out_channels=2), instance.dtype)
    wanted.x[1, 2, 1, 5] = np.nan  # the window's rows 1 to 3, columns 1 and 2
    assert np.argwhere(np.isnan(forward(kernel, instance, wanted))).tolist() == [
        [o, oh, ow, 5] for o in (0, 1) for oh in (1, 2, 3) for ow in (1, 2)
    ]


@pytest.mark.parametrize("instance", EXACT, ids=str)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_a_long_sum_is_accurate(kernel, instance, mean):
    wanted = Convolution(Window(128, 8, 8, 8, (1, 1), out_channels=9), instance.dtype, mean)
    assert wanted.dy[0].size == 8192  # the longest part that panels.cu recommends
    dweight = weight_gradient(kernel, instance, wanted)
    if mean:  # a sum of n like terms is k / n of itself after k of them: n variances of u**2 / 3 times that squared
        once = np.sqrt(8192 / 9) * UNIT[np.dtype(np.float32)] * spread(dweight.size)
        expected = wanted.dweight()
        assert np.linalg.norm(dweight - expected) <= (3 if "X3" in str(instance) else 1) ** 0.5 * once * size_of(wanted)
    else:
        assert dweight_is_near(instance, dweight, wanted)


def size_of(wanted):
    """The L2 norm of the sums of dweight's terms' absolute values."""
    absolute = copy(wanted)
    absolute.x, absolute.dy = np.abs(wanted.x), np.abs(wanted.dy)
    return np.linalg.norm(absolute.dweight())


@pytest.mark.parametrize("instance", INSTANCES[1:3], ids=lambda instance: instance.T)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("parts", [1, 3])
def test_panels_bias_gradient(kernel, instance, order, parts):
    wanted = Convolution(Window(9, 2, 8, 9, (2, 1), out_channels=3), instance.dtype)
    O, OH, OW, N = wanted.dy.shape
    partial = blank((parts, O), instance.dtype)
    args = wanted.dy.astype(instance.dtype), partial, O, OH, OW, N, parts
    kernel(f"panels_bias_gradient<{instance.T}>")((parts, O), (256,), args, order=order)
    dbias = sum_parts(kernel, instance, partial, blank(O, instance.dtype), order=order)
    assert_sums(dbias, wanted.dy.sum((1, 2, 3)), wanted.terms[2], np.square(wanted.dy).sum((1, 2, 3)), instance.dtype)


@pytest.mark.parametrize("instance", INSTANCES[1:3], ids=lambda instance: instance.T)
@pytest.mark.parametrize("accumulate", [0, 1])
def test_panels_sum_parts(kernel, instance, accumulate):
    random = np.random.default_rng(3)
    partial, before = random.normal(size=(40, 300)).astype(instance.dtype), random.normal(size=300)
    total = before.astype(instance.dtype) if accumulate else blank(300, instance.dtype)
    before = total.astype(np.float64) if accumulate else np.zeros(300)
    wide = partial.astype(np.float64)
    allowed = 2 * random_sum(41) * np.sqrt((wide**2).sum(0) + before**2)  # twice, in float64; and one rounding
    got, expected = sum_parts(kernel, instance, partial, total, accumulate=accumulate), wide.sum(0) + before
    assert_within(got, expected, allowed + roundings(1, instance.dtype) * np.abs(expected))


# --- more than 2**31 elements: one block, on arrays that are mostly never touched ------------------------------------


def test_past_2_to_31(kernel, tmp_path):
    instance, W, N = INSTANCES[1], 1 << 23, 128
    x, y, last = sparse(tmp_path, 3, 1, W, N), sparse(tmp_path, 3, 1, W, N), np.s_[:, 0, -1]
    random = np.random.default_rng(5)
    weight = random.normal(size=(3, 3, 1, 1)).astype(np.float32)
    x[last] = random.normal(size=(3, N))
    sizes, tile = (3, 1, W, N, 3, 1, W, 1, 1, 1, 1, 0, 0, 1, 1, 1), W * N // instance.columns
    options = {"blocks": [tile - 1], "guarded": False}
    shared = instance.shared(False)

    run = kernel(f"panels_forward{instance}")
    run((tile,), (instance.columns,), (x, weight, None, y, *sizes, 0), shared, **options)
    w = weight[:, :, 0, 0].astype(np.float64)
    assert_sums(y[last], w @ x[last], 3, w**2 @ x[last] ** 2, np.float32)

    dy, dx = x, y
    run = kernel(f"panels_input_gradient{instance}")
    run((tile,), (instance.columns,), (dy, weight, dx, *sizes), shared, **options)
    assert_sums(dx[last], w.T @ dy[last], 3, w.T**2 @ dy[last] ** 2, np.float32)

    parts = 65535
    partial = np.zeros((parts, 3, 3, 1, 1), np.float32)
    run = kernel(f"panels_weight_gradient{instance}")
    options["blocks"] = [parts - 1]
    run((1, parts), (instance.columns,), (x, y, partial, *sizes, parts), instance.shared(True), **options)
    wide_x, wide_y = x[last].astype(np.float64), y[last].astype(np.float64)
    assert_sums(partial[-1, :, :, 0, 0], wide_y @ wide_x.T, 128, wide_y**2 @ wide_x.T**2, np.float32)
