"""The precision that was chosen reaches every product on a GPU, and nothing else decides."""

import copy

import numpy as np
import pytest
from bounds import FACTOR, random_sum, random_sum_of_coarse_products
from checks import assert_close, error_text, using
from cuda_on_cpu.fake_cublas import FakeCublas
from strategies import numbers

from gpu.cases import results
from tinynet.backend.device import to_device
from tinynet.backend.precision import PRECISIONS
from tinynet.errors import DeviceError
from tinynet.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from tinynet.ops.gpu.conv import choose
from tinynet.ops.matmul import matmul

LAYERS = {
    "conv": (lambda **options: using(Conv2d(16, 20, 3, padding=1, groups=2), **options), (5, 16, 9, 8)),
    "conv with a stride": (lambda **options: using(Conv2d(3, 16, (5, 4), stride=(3, 2)), **options), (4, 3, 17, 18)),
    "conv by im2col": (
        lambda **options: using(Conv2d(8, 12, 3, groups=2), algorithm="im2col", **options),
        (4, 8, 7, 9),
    ),
    "linear": (lambda **options: using(Linear(70, 30), **options), (12, 70)),
}
RESULTS = "y", "dx", "dweight", "dbias"
TERMS = 360  # in the longest sum, of the weight gradients of "conv"


def limits(precision, entries):
    """Of y, dx and dweight: the relative error in the L2 norm lies above the first and not above the second. Coarse
    factors leave an error of about 0.6 times theirs, as few of them lie just above a power of two."""
    most = random_sum_of_coarse_products(TERMS, precision, entries)
    return FACTOR.get(precision, 0) / 4, 1.1 * most  # the results may be a little smaller than the root of all squares


def relative_errors(where, make, shape, precision, dtype=np.float32):
    layer, x = make(precision=precision), numbers(shape, np.float32)
    dy = numbers(layer.output_shape(shape), np.float32, seed=1)
    exact = results(copy.deepcopy(layer).astype(np.float64), x.astype(np.float64), dy.astype(np.float64), "cpu")
    got = results(layer.astype(dtype), x.astype(dtype), dy.astype(dtype), where)
    return {
        name: (np.linalg.norm(array - wanted) / np.linalg.norm(wanted), wanted.size)
        for name, array, wanted in zip(RESULTS, got, exact, strict=True)
    }


def assert_exact_to(errors, dtype):
    """As exact as sums in `dtype` can be, computed there and here."""
    assert all(error <= 2.2 * random_sum(TERMS, dtype, entries) for error, entries in errors.values()), errors


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_product_is_as_exact_as_was_chosen(other_gpu, name, precision):
    errors = relative_errors(other_gpu, *LAYERS[name], precision)
    assert_exact_to({"dbias": errors.pop("dbias")}, np.float32)  # a sum, no product
    for error, entries in errors.values():
        least, most = limits(precision, entries)
        assert least < error <= most, errors


@pytest.mark.parametrize("precision", PRECISIONS)
def test_float64_is_always_exact(other_gpu, precision):
    for make, shape in LAYERS.values():
        assert_exact_to(relative_errors(other_gpu, make, shape, precision, np.float64), np.float64)


@pytest.fixture
def launched(monkeypatch):
    """The names of the convolutions' kernels, in the order of their launches."""
    names, launch = [], choose.launch
    monkeypatch.setattr(
        choose, "launch", lambda stem, name, *args, **more: names.append(name) or launch(stem, name, *args, **more)
    )
    return names


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", "FMA"), ("tf32x3", "TF32X3"), ("tf32", "TF32"), ("bf16", "BF16")]
)
def test_which_kernels_run(other_gpu, launched, precision, kind):
    relative_errors(other_gpu, *LAYERS["conv"], precision)
    kinds = [name.partition("<float, ")[2].partition(",")[0] for name in launched if "," in name]
    assert kinds == [kind] * 3  # forward, weight gradient, input gradient


@pytest.mark.parametrize(("precision", "compute"), [("fp32", 68), ("tf32x3", 68), ("tf32", 77), ("bf16", 75)])
def test_what_cublas_is_asked_for(simulated_gpu, monkeypatch, precision, compute):
    monkeypatch.setenv("CUPY_TF32", "1")  # what cupy.matmul would go by
    calls = simulated_gpu.cuda.cublas.calls
    calls.clear()
    relative_errors("cuda:1", *LAYERS["linear"], precision)
    assert calls == [compute] * 3
    relative_errors("cuda:1", *LAYERS["linear"], precision, np.float64)
    assert calls[3:] == [FakeCublas.CUBLAS_COMPUTE_64F] * 3


def test_a_gpu_without_these_tensor_cores(simulated_gpu, monkeypatch):
    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "75")
    for name in ("conv", "conv by im2col", "linear"):
        make, shape = LAYERS[name]
        for precision in PRECISIONS[1:]:
            message = error_text(
                lambda make=make, shape=shape, p=precision: relative_errors("cuda:1", make, shape, p), DeviceError
            )
            assert f'cuda:1: precision "{precision}" needs tensor cores of compute capability 8.0' in message
            assert 'this GPU has 7.5: choose "fp32"' in message
        assert_exact_to(relative_errors("cuda:1", make, shape, "fp32"), np.float32)
        assert_exact_to(relative_errors("cuda:1", make, shape, "bf16", np.float64), np.float64)


def test_a_gpu_with_less_shared_memory_takes_smaller_tiles(simulated_gpu, launched, monkeypatch):
    make, shape = (lambda **options: using(Conv2d(2, 128, 1), **options)), (16, 2, 8, 8)
    relative_errors("cuda:1", make, shape, "tf32")
    monkeypatch.setitem(simulated_gpu.cuda.Device.attributes, "MaxSharedMemoryPerBlockOptin", 99 << 10)
    choose.shared_memory.cache_clear()
    relative_errors("cuda:1", make, shape, "tf32")
    tiles = [name.partition("TF32, ")[2] for name in launched if name.startswith("panels_forward")]
    assert tiles == ["128, 256>", "128, 128>"]


def test_the_tiles_of_the_papers_layers_on_132_multiprocessors():
    """As the head of panels.cu has it: 128 pictures; (rows, columns of one picture, groups) of conv1 to conv5."""
    layers = (96, 55 * 55, 1), (128, 27 * 27, 2), (384, 13 * 13, 1), (192, 13 * 13, 2), (128, 13 * 13, 2)
    choice = choose.FLOAT["tf32"].tiles
    chosen = [choose.best_tile(choice, rows, pixels * 128, groups, 132) for rows, pixels, groups in layers]
    assert chosen == [(128, 256)] * 3 + [(64, 128), (128, 128)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_cpu_computes_in_full_precision(precision):
    for make, shape in LAYERS.values():
        x = numbers(shape, np.float32)
        dy = numbers(make().output_shape(shape), np.float32, seed=1)
        expected, got = (results(make(**options), x, dy, "cpu") for options in ({}, {"precision": precision}))
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.usefixtures("gpu")
def test_a_whole_net():
    def net():
        return Sequential(Conv2d(3, 8, 3), ReLU(), Flatten(), Sequential(Linear(8 * 36, 5)))

    x, dy = numbers((4, 3, 8, 8), np.float32), numbers((4, 5), np.float32, seed=1)
    exact = results(net(), x, dy, "cuda:0")
    errors = [
        np.linalg.norm(results(net().set_precision(precision), x, dy, "cuda:0")[0] - exact[0])
        for precision in ("fp32", "tf32", "bf16")
    ]
    assert errors == sorted(errors)
    assert errors[0] == 0 < errors[1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda x: x[:4, :5], lambda y: y[:5, :3]),  # parts of larger matrices
        (lambda x: x[:5, :4].T, lambda y: y[:3, :5].T),
        (lambda x: x[:4, :5], lambda y: y[:1, :5].T),
        (lambda x: x[:1, :5], lambda y: y[:5, :1]),
        (lambda x: x[::2, ::2][:4, :3], lambda y: y[:3, :6]),  # with gaps: copied
        (lambda x: x.reshape(2, 3, 8)[:, :, :5], lambda y: y.reshape(2, 4, 6)[:, :3, :5].transpose(0, 2, 1)),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_products_of_views(a, b):
    x, y = numbers((6, 8), np.float32), numbers((8, 6), np.float32, seed=1)
    got = matmul(a(to_device(x, "cuda:0")), b(to_device(y, "cuda:0")))
    assert_close(got.get(), a(x) @ b(y), np.float32, terms=2 * 8, size=8)  # sums of at most 8 products, here and there


@pytest.mark.usefixtures("gpu")
def test_a_product_into_an_array_that_does_not_fit():
    x = to_device(numbers((4, 4), np.float32), "cuda:0")
    message = error_text(lambda: matmul(x, x, out=x.T), ValueError)
    assert "matmul: expected `out` of shape (4, 4), float32, C-contiguous" in message
