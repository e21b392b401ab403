"""Plain is the oracle of fast: each layer of both AlexNets, with all its channels and pixels, in batches of up to 8."""

import functools

import numpy as np
import pytest
from bounds import lrn_roundings, random_sum, roundings
from fast_conv import Case, random_bounds, winograd_growth, winograd_terms

import tinynet
from tinynet.fast.conv2d import path
from tinynet.fast.plan import has_twin
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, passes
from tinynet.models import alexnet
from tinynet.ops.conv import choose

SIDES = {"paper": 227, "torchvision": 224}
RUNS = (1, np.float32), (2, np.float64), (8, np.float32)


@functools.cache
def layers():
    """{name: (layer, shape of a picture's x)} of all that differ."""
    found, seen = {}, set()
    for preset, side in SIDES.items():
        shape = (1, 3, side, side)
        for name, layer in alexnet(preset).layers.items():
            if (key := (repr(layer), shape)) not in seen:
                seen.add(key)
                found[f"{preset} {name}"] = layer, shape[1:]
            shape = layer.output_shape(shape)
    return found


def random(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype, copy=False)


def one_pass(layer, x, dy):
    """y, dx and the gradients of the weights."""
    layer.at_step(0)
    layer.zero_grad()
    y = passes.forward(layer, x)
    dx = passes.backward(layer, dy)
    grads = {f"d{name}": parameter.grad.copy() for name, parameter in layer.named_parameters()}
    return {"y": y, "dx": dx} | grads


def both(layer, shape, N, dtype):
    """({what: array} of the plain lines, of the twin, the twin's algorithm)."""
    x = random((N, *shape), dtype, 0) * dtype(100 if isinstance(layer, LRN) else 1)  # so that the window's sum counts
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = random(parameter.shape, dtype, seed + 2)
        parameter.grad = np.zeros_like(parameter.data)
    dy = random(layer.output_shape(x.shape), dtype, 1)
    with tinynet.plain():
        plain = one_pass(layer, x, dy)
    assert has_twin(layer) or isinstance(layer, Flatten)
    return plain, one_pass(layer, x, dy), path(layer, x.shape) if isinstance(layer, Conv2d) else ""


def products(layer, shape, N):
    """{what: products in a sum of it}; of a bias they are no products."""
    _, *out = layer.output_shape((N, *shape))
    taps = int(np.prod(layer.weight.shape[1:]))
    if isinstance(layer, Linear):
        return {"y": taps + 1, "dx": out[0], "dweight": N, "dbias": N}
    pixels = N * out[1] * out[2]
    return {"y": taps + 1, "dx": taps * layer.out_channels // layer.in_channels, "dweight": pixels, "dbias": pixels}


def most(layer, shape, N, dtype, algorithm):
    """{what: how far an entry of one result may lie from that of the other}: n random products of variance 1 a sum."""
    counts = products(layer, shape, N)
    bounds = {what: 2 * random_sum(n, dtype) * np.sqrt(n) for what, n in counts.items()}
    if algorithm == "winograd":
        case = case_of(layer, shape, N)
        growth = winograd_growth(case.tile, choose.taps_a_phase(case.window))
        for what, n in zip(("y", "dx", "dweight"), winograd_terms(case), strict=True):
            bounds[what] = (random_sum(counts[what], dtype) + growth * random_sum(n, dtype)) * np.sqrt(counts[what])
    assert max(bounds.values()) < 0.1  # a missing product, of variance 1, would be seen
    return bounds


def assert_near_in_the_l2_norm(layer, shape, N, dtype, plain, fast):
    """As a whole, a result of Winograd's algorithm is nearer than its worst entry."""
    case, counts = case_of(layer, shape, N), products(layer, shape, N)
    for what, of_winograd, of_sums in zip(
        ("y", "dx", "dweight"), random_bounds(case, True), random_bounds(case), strict=True
    ):
        size = fast[what].size
        allowed = (of_winograd(dtype, size) + of_sums(dtype, size)) * np.sqrt(counts[what] * size)
        assert np.linalg.norm(fast[what] - plain[what]) <= allowed, what


def case_of(conv, shape, N):
    sizes = shape[0] // conv.groups, conv.out_channels // conv.groups, *shape[1:]
    return Case(N, *sizes, *conv.window, conv.groups)


def assert_no_further(what, got, expected, bound):
    assert got.shape == expected.shape, what
    assert got.dtype == expected.dtype, what
    difference = np.abs(got - expected).max()
    assert difference <= bound, f"{what}: expected a difference of at most {bound:.3g}, got {difference:.3g}"


@pytest.mark.parametrize("name", layers())
def test_plain_and_fast_agree(name):
    layer, shape = layers()[name]
    for N, dtype in RUNS[isinstance(layer, Linear) :]:
        plain, fast, algorithm = both(layer, shape, N, dtype)
        assert plain.keys() == fast.keys()
        if isinstance(layer, (Conv2d, Linear)):
            bounds = most(layer, shape, N, dtype, algorithm)
        else:
            terms = {LRN: 2 * lrn_roundings(5, 0.75, backward=True), MaxPool: 2 * 9, Dropout: 2}.get(type(layer), 0)
            bounds = {what: roundings(terms, dtype) * np.abs(array).max() for what, array in plain.items()}
        for what, expected in plain.items():
            assert_no_further(f"{what} of {N} in {np.dtype(dtype)} {algorithm}", fast[what], expected, bounds[what])
            if dtype is np.float64:
                assert np.linalg.norm(fast[what] - expected) <= 1e-12 * np.linalg.norm(expected)
        if algorithm == "winograd":
            assert_near_in_the_l2_norm(layer, shape, N, dtype, plain, fast)
        for parameter in layer.parameters():
            parameter.data = parameter.grad = np.zeros(parameter.shape, np.float32)  # gives the memory back


def test_all_ways_of_a_convolution_are_taken():
    ways = {
        path(layer, (N, *shape)) for layer, shape in layers().values() if isinstance(layer, Conv2d) for N, _ in RUNS
    }
    assert {"winograd", "panels"} <= ways


def test_a_layer_of_each_kind_is_there():
    assert {type(layer) for layer, _ in layers().values()} == {Conv2d, Dropout, Flatten, LRN, Linear, MaxPool, ReLU}
