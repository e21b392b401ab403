"""The CUDA sources in kernels/: compiled for real GPUs, and run on the CPU against naive loops. No GPU needed."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from cuda_on_cpu import CpuModule, kernel_names, nvrtc, why_not

import tinynet
from tinynet import cuda, random
from tinynet.ops.philox import philox4x32

STEMS = cuda.kernel_stems()
HERE = Path(__file__).parent / "cuda_on_cpu"
C_NAME = {np.float32: "float", np.float64: "double"}
LAUNCHES = (((1,), (1,), "forward"), ((3,), (5,), "shuffled"), ((64,), (32,), "reversed"))  # grid, block, order

both_dtypes = pytest.mark.parametrize("dtype", C_NAME)
all_launches = pytest.mark.parametrize("launch", LAUNCHES, ids=str)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """module(path): a .cu file, compiled for the CPU when first asked for."""
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    if reason := why_not(folder):
        pytest.skip(reason)
    modules = {}

    def compiled(path):
        if path not in modules:
            modules[path] = CpuModule(path, folder, include=cuda.kernel_folder())
        return modules[path]

    return compiled


@pytest.fixture(scope="module")
def kernel(module):
    """kernel("lrn_forward", np.float32): the kernel lrn_forward<float>, to be called on NumPy arrays."""

    def find(name, dtype=None):
        expression = f"{name}<{C_NAME[dtype]}>" if dtype else name
        (stem,) = (stem for stem in STEMS if expression in kernel_names(cuda.kernel_path(stem)))
        return module(cuda.kernel_path(stem)).get_function(expression)

    return find


def run(kernel, launch, *args, **options):
    grid, block, order = launch
    kernel(grid, block, args, order=order, **options)


def blank(shape, dtype):
    """An array to be overwritten: what a kernel leaves out stays NaN, or absurd."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 123456789, dtype)


def normal(shape, dtype=np.float64, stream="x"):
    return random.normal(shape, seed=1, stream=stream).astype(dtype)


def close(actual, expected):
    tolerance = {np.float32: 2e-6, np.float64: 1e-13}[actual.dtype.type]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


# --- every source -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", STEMS)
def test_compiles_for_every_gpu(stem):
    compiler = nvrtc.find_compiler()
    if compiler is None:
        pytest.skip("compiling for GPUs needs NVRTC (pip install nvidia-cuda-nvrtc-cu12) or nvcc; neither found")
    names = kernel_names(cuda.kernel_path(stem))
    assert compiler.architectures()
    for architecture in compiler.architectures():
        cubin = compiler.cubin(cuda.kernel_path(stem), names, architecture)
        assert [name for name in names if nvrtc.symbol(name) not in cubin] == []


@pytest.mark.parametrize("stem", STEMS)
def test_has_a_cpu_twin(stem):
    twin = Path(tinynet.__file__).parent / "ops" / f"{stem}.py"
    assert twin.exists()
    assert f"kernels/{stem}.cu" in twin.read_text(encoding="utf-8")
    assert f"tinynet/ops/{stem}.py" in cuda.kernel_path(stem).read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", STEMS)
def test_every_kernel_has_a_test_that_runs_it(stem):
    kernels = {name.partition("<")[0] for name in kernel_names(cuda.kernel_path(stem))}
    assert kernels
    assert [name for name in kernels if f"test_{name}" not in globals()] == []


# --- conv2d.cu --------------------------------------------------------------------------------------------------------

# (N, C, H, W), kernel, stride, padding, dilation
CONVOLUTIONS = (
    ((2, 3, 7, 5), (3, 2), (2, 1), (1, 2), (1, 2)),
    ((1, 2, 9, 6), (2, 3), (3, 2), (0, 1), (3, 1)),
    ((3, 2, 5, 8), (5, 3), (1, 3), (4, 2), (1, 2)),
    ((2, 1, 8, 9), (2, 1), (3, 4), (1, 0), (1, 1)),  # pixels in no window
    ((2, 2, 3, 4), (1, 1), (1, 1), (0, 0), (1, 1)),
)
all_convolutions = pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)


def window_counts(shape, size, stride, padding, dilation=(1, 1)):
    return tuple(len(range(0, shape[2 + a] + 2 * padding[a] - dilation[a] * (size[a] - 1), stride[a])) for a in (0, 1))


def cols_shape(shape, size, stride, padding, dilation):
    return (shape[1], *size, *window_counts(shape, size, stride, padding, dilation), shape[0])


def copies(shape, size, stride, padding, dilation):
    """What im2col copies: from which index of the padded picture to which of cols (C, KH, KW, OH, OW, N)."""
    for c, kh, kw, oh, ow, n in np.ndindex(cols_shape(shape, size, stride, padding, dilation)):
        yield (n, c, oh * stride[0] + kh * dilation[0], ow * stride[1] + kw * dilation[1]), (c, kh, kw, oh, ow, n)


def conv_sizes(shape, size, stride, padding, dilation):
    return *shape, *window_counts(shape, size, stride, padding, dilation), *size, *stride, *padding, *dilation


@both_dtypes
@all_launches
@all_convolutions
def test_im2col(kernel, dtype, launch, convolution):
    shape, _, _, (top, left), _ = convolution
    x, cols = normal(shape, dtype), blank(cols_shape(*convolution), dtype)
    run(kernel("im2col", dtype), launch, x, cols, *conv_sizes(*convolution))
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    expected = np.empty_like(cols)
    for source, target in copies(*convolution):
        expected[target] = padded[source]
    np.testing.assert_array_equal(cols, expected)


@both_dtypes
@all_launches
@all_convolutions
def test_col2im(kernel, dtype, launch, convolution):
    shape, _, _, (top, left), _ = convolution
    N, C, H, W = shape
    cols, dx = normal(cols_shape(*convolution), dtype), blank(shape, dtype)
    run(kernel("col2im", dtype), launch, cols, dx, *conv_sizes(*convolution))
    padded = np.zeros((N, C, H + 2 * top, W + 2 * left))
    for target, source in copies(*convolution):
        padded[target] += cols[source]
    close(dx, padded[:, :, top : top + H, left : left + W])


# --- lrn.cu -----------------------------------------------------------------------------------------------------------

# (N, C, H, W), size, groups. alpha and k are far from the paper's 1e-4 and 2, with which most mistakes would not show
NORMALISATIONS = (
    ((2, 6, 3, 2), 3, 1),
    ((1, 7, 2, 3), 5, 1),
    ((2, 6, 1, 3), 5, 2),
    ((1, 6, 2, 2), 5, 3),  # windows wider than a group
    ((2, 4, 3, 1), 1, 1),
)
ALPHA, BETA, K = 0.5, 0.75, 1.3125  # all exact in float32
all_normalisations = pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=str)


def naive_lrn(x, size, groups):
    C = x.shape[1]
    y = np.empty_like(x)
    for c in range(C):
        scale = K + np.zeros_like(x[:, c])
        for i in range(C):
            if abs(i - c) <= size // 2 and i // (C // groups) == c // (C // groups):
                scale = scale + ALPHA * x[:, i] * x[:, i]
        y[:, c] = x[:, c] / scale**BETA
    return y


def naive_lrn_backward(x, dy, size, groups):
    """dx by the definition, without the formula: dx_j = sum of dy_i * (derivative of y_i by x_j), by complex steps."""
    dx = np.zeros(x.shape)
    for j in range(x.shape[1]):
        step = np.zeros((1, x.shape[1], 1, 1))
        step[:, j] = 1e-100
        dx[:, j] = (dy * naive_lrn(x + 1j * step, size, groups).imag).sum(axis=1) / 1e-100
    return dx


@both_dtypes
@all_launches
@all_normalisations
def test_lrn_forward(kernel, dtype, launch, normalisation):
    shape, size, groups = normalisation
    x, y = normal(shape, dtype), blank(shape, dtype)
    run(kernel("lrn_forward", dtype), launch, x, y, *shape, size, groups, ALPHA, BETA, K)
    close(y, naive_lrn(x.astype(np.float64), size, groups))


@both_dtypes
@all_launches
@all_normalisations
def test_lrn_backward(kernel, dtype, launch, normalisation):
    shape, size, groups = normalisation
    x, dy, dx = normal(shape, dtype), normal(shape, dtype, "dy"), blank(shape, dtype)
    run(kernel("lrn_backward", dtype), launch, x, dy, dx, *shape, size, groups, ALPHA, BETA, K)
    close(dx, naive_lrn_backward(x.astype(np.float64), dy.astype(np.float64), size, groups))


# --- max_pool.cu ------------------------------------------------------------------------------------------------------

# (N, C, H, W), (OH, OW) or None for all windows that fit, kernel, stride, padding
POOLS = (
    ((2, 3, 7, 5), None, (3, 3), (2, 2), (0, 0)),
    ((1, 2, 8, 5), None, (2, 3), (1, 2), (1, 0)),
    ((2, 2, 5, 9), None, (5, 2), (3, 1), (2, 1)),
    ((2, 1, 7, 8), None, (2, 1), (3, 4), (0, 0)),  # pixels in no window
    ((1, 3, 6, 8), (3, 4), (3, 3), (2, 2), (0, 0)),  # ceil_mode: the last window hangs over the edge
)
all_pools = pytest.mark.parametrize("pool", POOLS, ids=str)


def pool_output(shape, output, size, stride, padding):
    return output or window_counts(shape, size, stride, padding)


def naive_max_pool(x, output, size, stride, padding):
    """y and place, which NumPy's argmax finds in each window of the picture in a frame of minus infinity."""
    frame = [(p, p + k) for p, k in zip(padding, size, strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), *frame), constant_values=-np.inf)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    place = np.empty(y.shape, np.int32)
    for n, c, oh, ow in np.ndindex(y.shape):
        top, left = oh * stride[0], ow * stride[1]
        window = padded[n, c, top : top + size[0], left : left + size[1]].reshape(-1)
        place[n, c, oh, ow] = window.argmax()
        y[n, c, oh, ow] = window.max()
    return y, place


@both_dtypes
@all_launches
@all_pools
def test_max_pool_forward(kernel, dtype, launch, pool):
    shape, _, *window = pool
    output = pool_output(*pool)
    x = np.round(normal(shape, dtype) * 2)  # small whole numbers: many windows have several maxima
    y, place = blank((*shape[:2], *output), dtype), blank((*shape[:2], *output), np.int32)
    run(kernel("max_pool_forward", dtype), launch, x, y, place, *shape, *output, *sum(window, ()))
    expected_y, expected_place = naive_max_pool(x, output, *window)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(place, expected_place)


@both_dtypes
def test_max_pool_does_not_lose_nan(kernel, dtype):
    x = normal((1, 1, 4, 6), dtype)
    x[0, 0, 0, 0] = x[0, 0, 2, 3] = x[0, 0, 3, 5] = np.nan
    y, place = blank((1, 1, 2, 3), dtype), blank((1, 1, 2, 3), np.int32)
    run(kernel("max_pool_forward", dtype), LAUNCHES[0], x, y, place, *x.shape, 2, 3, 2, 2, 2, 2, 0, 0)
    np.testing.assert_array_equal(np.isnan(y[0, 0]), [[True, False, False], [False, True, True]])
    assert place[np.isnan(y)].tolist() == [0, 1, 3]


@both_dtypes
@all_launches
@all_pools
def test_max_pool_backward(kernel, dtype, launch, pool):
    shape, _, *window = pool
    size, stride, padding = window
    output = pool_output(*pool)
    _, place = naive_max_pool(np.round(normal(shape) * 2), output, *window)
    dy, dx = normal(place.shape, dtype, "dy"), blank(shape, dtype)
    run(kernel("max_pool_backward", dtype), launch, dy, place, dx, *shape, *output, *sum(window, ()))
    expected = np.zeros(shape)
    for n, c, oh, ow in np.ndindex(place.shape):
        kh, kw = divmod(place[n, c, oh, ow], size[1])
        expected[n, c, oh * stride[0] - padding[0] + kh, ow * stride[1] - padding[1] + kw] += dy[n, c, oh, ow]
    close(dx, expected)


# --- philox.cu and dropout.cu -----------------------------------------------------------------------------------------

# Random123's known answers (kat_vectors, philox4x32 with 10 rounds): counter, key, answer
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)
STREAMS = ((0, 0, 0), (12345678901234567890, 4000000000, 3), (7, 1, 4294967295))  # seed, stream, step


def hexadecimal(words):
    return np.array([int(word, 16) for word in words.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(module, counter, key, answer):
    out = blank(4, np.uint32)
    known_answer = module(HERE / "known_answers.cu").get_function("philox_known_answer")
    run(known_answer, LAUNCHES[0], hexadecimal(counter), hexadecimal(key), out)
    np.testing.assert_array_equal(out, hexadecimal(answer))


@all_launches
@pytest.mark.parametrize("stream", STREAMS, ids=str)
@pytest.mark.parametrize("count", [1, 4, 4003])
def test_philox_bits(kernel, launch, stream, count):
    out = blank(count, np.uint32)
    run(kernel("philox_bits"), launch, out, count, *stream)
    np.testing.assert_array_equal(out, random.bits(count, *stream))


@both_dtypes
@all_launches
@pytest.mark.parametrize("stream", STREAMS, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.75, 1 - 2**-40])
def test_dropout(kernel, dtype, launch, stream, p):
    x, threshold, scale = normal((3, 5, 7), dtype), round(p * 2**32), float(dtype(1 / (1 - p)))
    y = blank(x.shape, dtype)
    run(kernel("dropout", dtype), launch, x, y, x.size, threshold, scale, *stream)
    np.testing.assert_array_equal(y, np.where(random.bits(x.shape, *stream) >= threshold, x * dtype(scale), 0))


def test_dropout_keeps_the_threshold_itself(kernel):
    x, stream = np.ones(8), STREAMS[1]
    y, bits = blank(8, np.float64), random.bits(8, *stream)
    run(kernel("dropout", np.float64), LAUNCHES[0], x, y, x.size, int(bits[5]), 1.0, *stream)
    np.testing.assert_array_equal(y, bits >= bits[5])


# --- more than 2**31 elements: the last block of a grid, on arrays that are mostly never touched ----------------------


@pytest.fixture
def sparse(tmp_path):
    """sparse(*shape): zeros in a file that is all hole; it takes room, on disk and in memory, only where written to."""

    def zeros(*shape, dtype=np.float32):
        try:
            with tempfile.TemporaryFile(dir=tmp_path) as file:
                return np.memmap(file, dtype, "w+", shape=shape)
        except OSError as error:
            return pytest.skip(f"no sparse file for {shape} {np.dtype(dtype)} here: {error!r}")

    return zeros


def run_last_block(kernel, threads, *args):
    """Run only the last of the blocks of 128 that `threads` make; how many of them are in it."""
    last = (threads - 1) // 128
    kernel((last + 1,), (128,), args, blocks=[last], guarded=False)
    return threads - 128 * last


def last_bits(count, words, seed, stream, step):
    """The last `words` of `count` words; both are multiples of 4."""
    halves = [np.uint64(half) for half in (seed & 0xFFFFFFFF, seed >> 32)]
    blocks = ([np.uint64(i & 0xFFFFFFFF), np.uint64(i >> 32)] for i in range((count - words) // 4, count // 4))
    return np.concatenate([philox4x32(*block, np.uint64(step), np.uint64(stream), *halves) for block in blocks])


def test_philox_and_dropout_past_2_to_31(kernel, sparse):
    count, stream = 17 << 30, (5, 6, 7)  # past 2**34, where the block's number no longer fits 32 bits
    out, x, y = sparse(count, dtype=np.uint32), sparse(count), sparse(count)
    x[-512:] = normal(512, np.float32)
    run_last_block(kernel("philox_bits"), count // 4, out, count, *stream)
    run_last_block(kernel("dropout", np.float32), count // 4, x, y, count, 1 << 31, 2.0, *stream)
    bits = last_bits(count, 512, *stream)
    np.testing.assert_array_equal(out[-512:], bits)
    np.testing.assert_array_equal(y[-512:], np.where(bits >= 1 << 31, x[-512:] * 2, 0))


def test_convolution_past_2_to_31(kernel, sparse):
    sizes = 1, 1, 500, 500, 251, 251, 250, 250, 1, 1, 0, 0, 1, 1
    x, cols, dx = normal((500, 500), np.float32), sparse(250 * 250, 251 * 251), blank((500, 500), np.float32)
    # the last row of cols is what lies under the last pixel of the kernel in every window: the lower right 251 x 251
    last_row = x[249:, 249:].reshape(-1)
    end = run_last_block(kernel("im2col", np.float32), cols.size, x, cols, *sizes)
    np.testing.assert_array_equal(cols[-1, -end:], last_row[-end:])
    cols[-1] = last_row
    end = run_last_block(kernel("col2im", np.float32), dx.size, cols, dx, *sizes)
    np.testing.assert_array_equal(dx[-1, -end:], x[-1, -end:])


def test_lrn_past_2_to_31(kernel, sparse):
    shape = 1, 3, 1 << 15, 1 << 15
    x, dy, y, dx = (sparse(*shape) for _ in range(4))
    corner = np.s_[:, :, -1:, -128:]
    x[corner], dy[corner] = normal((1, 3, 1, 128), np.float32), normal((1, 3, 1, 128), np.float32, "dy")
    run_last_block(kernel("lrn_forward", np.float32), x.size, x, y, *shape, 3, 1, ALPHA, BETA, K)
    run_last_block(kernel("lrn_backward", np.float32), x.size, x, dy, dx, *shape, 3, 1, ALPHA, BETA, K)
    small_x, small_dy = x[corner].astype(np.float64), dy[corner].astype(np.float64)
    close(y[corner][:, -1], naive_lrn(small_x, 3, 1)[:, -1])
    close(dx[corner][:, -1], naive_lrn_backward(small_x, small_dy, 3, 1)[:, -1])


def test_max_pool_past_2_to_31(kernel, sparse):
    shape, window = (1, 4, 30000, 30000), (2, 2, 1, 1, 0, 0)
    x, y, place = sparse(*shape), sparse(1, 4, 29999, 29999), sparse(1, 4, 29999, 29999, dtype=np.int32)
    corner = np.s_[:, :, -2:, -129:]
    x[corner] = normal((1, 4, 2, 129), np.float32)
    end = run_last_block(kernel("max_pool_forward", np.float32), y.size, x, y, place, *shape, *y.shape[2:], *window)
    expected, expected_place = naive_max_pool(x[corner], (1, 128), (2, 2), (1, 1), (0, 0))
    np.testing.assert_array_equal(y[0, 3, -1, -end:], expected[0, 3, 0, -end:])
    np.testing.assert_array_equal(place[0, 3, -1, -end:], expected_place[0, 3, 0, -end:])
    # x[..., -1] is the last place of the last window, and no other window's
    dy, dx, place[0, 3, -1, -1] = y, sparse(*shape), 3
    run_last_block(kernel("max_pool_backward", np.float32), x.size, dy, place, dx, *shape, *y.shape[2:], *window)
    assert dx[0, 3, -1, -1] == dy[0, 3, -1, -1] != 0


# --- tinynet/cuda.py --------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(files): tinynet.cuda as if the package were tmp_path/tinynet, with these (empty) files around it."""
    monkeypatch.setattr(cuda, "_PACKAGE", tmp_path / "tinynet")

    def lay_out(*files):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()

    return lay_out


def test_sources_are_found_in_a_checkout(installed, tmp_path):
    installed("kernels/a.cu", "kernels/b.cu", "kernels/c.cuh")
    assert cuda.kernel_folder() == tmp_path / "kernels"
    assert cuda.kernel_stems() == ["a", "b"]
    assert cuda.kernel_path("b") == tmp_path / "kernels" / "b.cu"


def test_sources_are_found_in_a_wheel(installed, tmp_path):
    installed("tinynet/kernels/a.cu", "kernels/somebody_elses.cu")
    assert cuda.kernel_folder() == tmp_path / "tinynet" / "kernels"


def test_missing_sources_are_an_error(installed, tmp_path):
    installed("kernels/somebody_elses.py")
    with pytest.raises(FileNotFoundError) as error:
        cuda.kernel_folder()
    assert str(tmp_path / "tinynet" / "kernels") in str(error.value)
    assert str(tmp_path / "kernels") in str(error.value)


def test_an_unknown_stem_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"no CUDA source conv3d\.cu in .*kernels; it has conv2d, dropout, lrn"):
        cuda.kernel_path("conv3d")
