"""The two presets: counted against the published numbers, and trained beside an independent model in PyTorch."""

import numpy as np
import pytest
from parallel.nets import rounding

from tinynet import random, summary
from tinynet.losses import SoftmaxCE
from tinynet.models import alexnet
from tinynet.optim import SGD

# layer: parameters, activations, MACs for one picture; by arithmetic from the paper's and torchvision's layer sizes
PAPER = {
    "conv1": (34_944, 290_400, 105_415_200),
    "conv2": (307_456, 186_624, 223_948_800),
    "conv3": (885_120, 64_896, 149_520_384),
    "conv4": (663_936, 64_896, 112_140_288),
    "conv5": (442_624, 43_264, 74_760_192),
    "fc6": (37_752_832, 4_096, 37_748_736),
    "fc7": (16_781_312, 4_096, 16_777_216),
    "fc8": (4_097_000, 1_000, 4_096_000),
}
TORCHVISION = {
    "conv1": (23_296, 193_600, 70_276_800),
    "conv2": (307_392, 139_968, 223_948_800),
    "conv3": (663_936, 64_896, 112_140_288),
    "conv4": (884_992, 43_264, 149_520_384),
    "conv5": (590_080, 43_264, 99_680_256),
    "fc6": (37_752_832, 4_096, 37_748_736),
    "fc7": (16_781_312, 4_096, 16_777_216),
    "fc8": (4_097_000, 1_000, 4_096_000),
}


@pytest.mark.parametrize(
    ("preset", "image_size", "expected", "parameters", "macs"),
    [("paper", 227, PAPER, 60_965_224, 724_406_816), ("torchvision", 224, TORCHVISION, 61_100_840, 714_188_480)],
)
def test_counts_are_the_published_ones(preset, image_size, expected, parameters, macs):
    table = summary(alexnet(preset), (3, image_size, image_size))
    found = {row.name: (row.parameters, row.activations, row.macs) for row in table.rows if row.parameters}
    assert found == expected
    assert (table.parameters, table.macs, table.error) == (parameters, macs, None)
    assert not any(any(row.unused_border) for row in table.rows)  # 227 and 224 are chosen so that all windows fit


def test_initial_values_are_the_papers():
    net = alexnet(num_classes=10)
    for name, parameter in net.named_parameters():
        if name.endswith("weight"):
            # the standard error of a standard deviation of n values is std / sqrt(2n)
            assert abs(parameter.data.std() / 0.01 - 1) < 6 / np.sqrt(2 * parameter.size), name
            assert abs(parameter.data.mean()) < 6 * 0.01 / np.sqrt(parameter.size), name
        else:
            assert (parameter.data == (name.split(".")[0] in ("conv2", "conv4", "conv5", "fc6", "fc7"))).all(), name


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match=r"expected a preset out of paper, torchvision; got 'caffe'"):
        alexnet("caffe")


def test_five_steps_of_the_papers_net_agree_with_an_independent_model():
    torch = pytest.importorskip("torch", reason="PyTorch, the independent model, is not installed")
    net = alexnet("paper", num_classes=10, dropout=0.0).astype(np.float64)
    # larger values than the paper's 0.01, so that every layer, and LRN's term, moves the result
    for _, parameter in net.named_parameters():
        if parameter.data.ndim > 1:
            parameter.data *= np.sqrt(2 / np.prod(parameter.shape[1:])) / 0.01
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in net.state_dict().items()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}

    def lrn(x):  # two groups of their own; PyTorch divides alpha by size
        halves = (torch.nn.functional.local_response_norm(half, 5, 5 * 1e-4, 0.75, 2.0) for half in x.chunk(2, dim=1))
        return torch.cat(list(halves), dim=1)

    def forward(x):
        def conv(name, x, **options):
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return torch.relu(torch.nn.functional.conv2d(x, weight, bias, **options))

        def linear(name, x):
            return torch.nn.functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def pool(x):
            return torch.nn.functional.max_pool2d(x, 3, 2)

        x = pool(lrn(conv("conv1", x, stride=4)))
        x = pool(lrn(conv("conv2", x, padding=2, groups=2)))
        x = conv("conv3", x, padding=1)
        x = conv("conv4", x, padding=1, groups=2)
        x = pool(conv("conv5", x, padding=1, groups=2))
        x = torch.relu(linear("fc6", x.flatten(1)))
        return linear("fc8", torch.relu(linear("fc7", x)))

    optimizer, loss = SGD(net.parameters(), lr=0.002), SoftmaxCE()
    labels = np.array([3, 7])
    for step in range(5):
        x = 3 * random.normal((2, 3, 227, 227), 0, "five steps", step)
        optimizer.zero_grad()
        logits = net(x)
        ours = loss(logits, labels)
        net.backward(loss.backward())
        optimizer.step()

        theirs = torch.nn.functional.cross_entropy(forward(torch.tensor(x)), torch.tensor(labels))
        for gradient, (name, weight) in zip(
            torch.autograd.grad(theirs, list(weights.values())), weights.items(), strict=True
        ):
            with torch.no_grad():
                velocity[name].mul_(0.9).sub_(weight, alpha=5e-4 * 0.002).sub_(gradient, alpha=0.002)
                weight += velocity[name]
        # each step's gradients are off by so much, and so are the weights that the next one begins with
        allowed = (step + 1) * rounding(net, x.shape, logits=logits)[1]
        assert abs(ours / theirs.item() - 1) < allowed, step
    for name, parameter in net.named_parameters():
        expected = weights[name].detach().numpy()
        assert np.linalg.norm(parameter.data - expected) <= allowed * np.linalg.norm(expected), name
    assert abs(ours - np.log(10)) > 1e-3  # it learnt something, or the comparison would be empty
