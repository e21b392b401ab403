"""Every layer, and SGD, against PyTorch in float64: an implementation that nobody here has written."""

import numpy as np
import pytest
from bounds import lrn_roundings
from checks import FEW, assert_close
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import (
    Filling,
    Normalisation,
    Window,
    convolutions,
    distinct_numbers,
    fillings,
    normalisations,
    numbers,
    poolings,
    shapes,
)

from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, Parameter, ReLU, Sequential, im2col
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch compares every layer with it")
F = torch.nn.functional
torch.set_num_threads(1)  # its arrays are tiny here, and its waiting threads would take the cores from the others

wide = fillings.map(lambda filling: Filling(np.float64, filling.layout, filling.dy_layout, filling.seed))


def tensor(array, requires_grad=True):
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float64, requires_grad=requires_grad)


def compare(layer, x, filling, function, terms=FEW):
    """Forward and backward of `layer` against `function(x, *parameters)` and its autograd: longest sums of `terms`."""
    for i, parameter in enumerate(layer.parameters()):
        parameter.astype(np.float64)
        parameter.data[...] = numbers(parameter.shape, seed=filling.seed + 2 + i)
    inputs = [tensor(x), *(tensor(parameter.data) for parameter in layer.parameters())]
    expected = function(*inputs)
    y = layer.forward(x)
    assert y.shape == tuple(expected.shape)
    close = {"terms": terms, "size": terms**0.5 if terms > FEW else 1.0}  # as large as a sum of so many is as a rule
    assert_close(y, expected.detach().numpy(), **close)

    dy = filling.dy(y.shape)
    dx = layer.backward(dy)
    gradients = torch.autograd.grad(expected, inputs, tensor(dy, requires_grad=False))
    for got, gradient in zip([dx, *(parameter.grad for parameter in layer.parameters())], gradients, strict=True):
        assert_close(got, gradient.numpy(), **close)


@given(convolutions(), wide)
@example(Window(2, 4, 7, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, out_channels=6), Filling())
@example(Window(1, 3, 23, 27, (11, 11), (4, 4), out_channels=4), Filling())  # conv1 of the paper's net in small
def test_conv2d(window, filling):
    sizes = window.stride, window.padding, window.dilation, window.groups
    layer = Conv2d(window.C, window.out_channels, window.kernel_size, *sizes, window.bias)
    compare(
        layer,
        filling.x(window.shape),
        filling,
        lambda x, weight, bias=None: F.conv2d(x, weight, bias, *sizes),
        terms=max(x_terms(layer), window.N * int(np.prod(layer.output_shape(window.shape)[2:]))) + 1,
    )


def x_terms(layer):
    """Products in a sum of y or of dx."""
    return max(layer.weight.shape[:2]) * int(np.prod(layer.window[0]))


@given(convolutions(), wide)
def test_im2col_is_unfold(window, filling):
    """As the docstring of im2col says."""
    x = filling.x(window.shape)
    cols = im2col(x, window.kernel_size, window.stride, window.padding, window.dilation)
    expected = F.unfold(tensor(x), window.kernel_size, window.dilation, window.padding, window.stride).detach().numpy()
    assert np.array_equal(cols.reshape(cols.shape[0], -1, window.N).transpose(2, 0, 1), expected)


@given(shapes, wide)
def test_relu(shape, filling):
    compare(ReLU(), filling.distinct_x(shape), filling, F.relu)


@given(normalisations(), wide)
@example(Normalisation((2, 8, 3, 4), 5, 0.5, 0.75, 2.0, 2), Filling())
def test_lrn(case, filling):
    """PyTorch divides alpha by size, and knows no groups."""

    def function(x):
        towers = x.chunk(case.groups, dim=1)
        return torch.cat(
            [F.local_response_norm(part, case.size, case.alpha * case.size, case.beta, case.k) for part in towers],
            dim=1,
        )

    terms = lrn_roundings(case.size, case.beta, backward=True)
    compare(LRN(*case.constants), filling.x(case.shape), filling, function, terms)


@given(poolings(), wide, st.booleans())
@example(Window(2, 3, 7, 8, (3, 2), (2, 1)), Filling(), False)
@example(Window(2, 2, 7, 6, (2, 3), (2, 2), ceil_mode=True), Filling(), False)
@example(Window(1, 1, 5, 6, (2, 3), (3, 4), (1, 1), ceil_mode=True), Filling(), True)
def test_max_pool(window, filling, ties):
    x = np.round(filling.x(window.shape)) if ties else filling.distinct_x(window.shape)
    layer = MaxPool(window.kernel_size, window.stride, window.padding, window.ceil_mode)
    compare(
        layer,
        x,
        filling,
        lambda x: F.max_pool2d(x, window.kernel_size, window.stride, window.padding, ceil_mode=window.ceil_mode),
    )


@given(shapes, wide, st.sampled_from([0.25, 0.5, 0.9]))
def test_dropout(shape, filling, p):
    """PyTorch draws other masks: it gets ours, and agrees on all else. In evaluation both are the identity."""
    keep = torch.tensor(Dropout(p, seed=filling.seed)(np.ones(shape)) > 0)
    compare(Dropout(p, seed=filling.seed), filling.x(shape), filling, lambda x: x * keep / (1 - p))
    compare(Dropout(p).eval(), filling.x(shape), filling, lambda x: F.dropout(x, p, training=False))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.booleans(), wide)
def test_linear(N, in_features, out_features, bias, filling):
    layer = Linear(in_features, out_features, bias)
    compare(layer, filling.x((N, in_features)), filling, F.linear)


@given(shapes, wide)
def test_flatten(shape, filling):
    compare(Flatten(), filling.x(shape), filling, lambda x: x.reshape(shape[0], -1))


@given(st.integers(1, 5), st.integers(1, 6), wide, st.sampled_from([1.0, 1e4]))
def test_softmax_ce(N, K, filling, scale):
    logits = filling.x((N, K)) * scale
    labels = np.random.default_rng(filling.seed).integers(0, K, N)
    wanted = tensor(logits)
    expected = F.cross_entropy(wanted, torch.tensor(labels))
    layer = SoftmaxCE()
    assert_close(layer(logits, labels), expected.item(), size=np.abs(logits).max())
    (gradient,) = torch.autograd.grad(expected, wanted)
    assert_close(layer.backward(), gradient.numpy())


def test_a_net():
    net = Sequential(
        Conv2d(2, 4, 3, padding=(1, 0)),
        ReLU(),
        LRN(3, 0.5, groups=2),
        MaxPool(3, 2),
        Conv2d(4, 6, (2, 1), groups=2),
        Flatten(),
        Linear(6 * 2 * 4, 3),
    )

    def function(x, w1, b1, w2, b2, w3, b3):
        x = F.relu(F.conv2d(x, w1, b1, padding=(1, 0)))
        x = torch.cat([F.local_response_norm(part, 3, 1.5, 0.75, 2.0) for part in x.chunk(2, dim=1)], dim=1)
        x = F.conv2d(F.max_pool2d(x, 3, 2), w2, b2, groups=2)
        return F.linear(x.flatten(1), w3, b3)

    terms = 2 * (18 + 8 + 48) + 3 * 7 * 9  # of the layers there and back, and of conv1's gradient
    compare(net, distinct_numbers((3, 2, 7, 11), layout="transposed"), Filling(), function, terms)


def both_optimizers(weight_decay):
    """The same two arrays in tinynet's SGD and PyTorch's, momentum 0.9."""
    ours = [Parameter(numbers((3, 4))), Parameter(numbers((5,), seed=1))]
    theirs = [tensor(parameter.data) for parameter in ours]
    return (
        ours,
        theirs,
        SGD(ours, 0.1, 0.9, weight_decay),
        torch.optim.SGD(theirs, 0.1, momentum=0.9, weight_decay=weight_decay),
    )


def step_both(ours, theirs, optimizer, torch_optimizer, seed):
    for i, (parameter, weight) in enumerate(zip(ours, theirs, strict=True)):
        parameter.grad[...] = numbers(parameter.shape, seed=10 * seed + i)
        weight.grad = torch.tensor(parameter.grad)
    optimizer.step()
    torch_optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_sgd_agrees_at_a_constant_rate(weight_decay):
    both = both_optimizers(weight_decay)
    for seed in range(6):
        step_both(*both, seed)
        for parameter, weight in zip(both[0], both[1], strict=True):
            assert_close(parameter.data, weight.detach().numpy(), terms=8 * (seed + 1))


def test_sgd_differs_after_a_change_of_the_rate_by_what_the_old_velocity_weighs():
    """Here lr stands inside the velocity, as in the paper: the old velocity is not scaled. PyTorch scales it too."""
    ours, theirs, optimizer, torch_optimizer = both_optimizers(0.3)
    for seed in range(3):
        step_both(ours, theirs, optimizer, torch_optimizer, seed)
    old = [v.copy() for v in optimizer.velocity]
    optimizer.lr = torch_optimizer.param_groups[0]["lr"] = 0.01
    step_both(ours, theirs, optimizer, torch_optimizer, 3)
    for parameter, weight, v in zip(ours, theirs, old, strict=True):
        difference = parameter.data - weight.detach().numpy()
        assert np.abs(difference).max() > 0.01
        assert_close(difference, 0.9 * v * (1 - 0.01 / 0.1))
