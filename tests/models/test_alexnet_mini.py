import numpy as np
import pytest

from tinynet import data, summary
from tinynet.layers import LRN, Conv2d, Dropout, Linear, MaxPool
from tinynet.losses import SoftmaxCE
from tinynet.models import alexnet_mini
from tinynet.optim import SGD


def unit_scale(pictures, size=64):
    mean, std = data.channel_statistics(pictures)
    return data.Loader(pictures, size, mean=mean, std=std)


@pytest.mark.parametrize("image_size", [28, 32, 47, 48, 64])
def test_the_eight_layers_of_alexnet(image_size):
    net = alexnet_mini(image_size=image_size)
    kinds = [type(layer) for layer in net]
    assert [kinds.count(kind) for kind in (Conv2d, Linear, LRN, MaxPool, Dropout)] == [5, 3, 2, 3, 2]
    assert [net[name].groups for name in ("conv1", "conv2", "conv3", "conv4", "conv5")] == [1, 2, 1, 2, 2]
    assert all(kernel > stride for kernel, stride in zip(*net["pool1"].window[:2], strict=True))  # overlapping
    table = summary(net, (3, image_size, image_size))
    assert table.error is None
    assert table.rows[-1].output_shape == (1, 10)


def test_the_seed_decides_initial_values_and_masks():
    one, same, other = (alexnet_mini(seed=seed) for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert np.array_equal(value, same.state_dict()[name])
        if name.endswith("weight"):
            assert abs(np.corrcoef(value.ravel(), other.state_dict()[name].ravel())[0, 1]) < 0.1, name
    x = np.ones((64, 256), np.float32)
    assert np.array_equal(one["drop6"](x), same["drop6"](x))
    assert not np.array_equal(one["drop6"](x), other["drop6"](x))
    assert not np.array_equal(one["drop6"].at_step(0)(x), one["drop7"].at_step(0)(x))


def test_lrn_changes_activations_by_at_least_ten_per_cent():
    x, _ = next(iter(unit_scale(data.shapes(64)).epoch(0)))
    net = alexnet_mini()
    for layer in net:
        before, x = x, layer.forward(x)
        if isinstance(layer, LRN):
            assert np.linalg.norm(x - before) >= 0.1 * np.linalg.norm(before), layer


def test_the_loss_leaves_ln_10_within_300_steps():
    train = unit_scale(data.shapes(2000, seed=5))
    net, loss = alexnet_mini(seed=5), SoftmaxCE()
    net.input_grad = False
    optimizer = SGD(net.parameters(), lr=0.01)
    losses: list[float] = []
    epoch = 0
    while len(losses) < 300 and not (len(losses) > 20 and np.mean(losses[-20:]) < np.log(10) - 0.3):
        for x, labels in train.epoch(epoch):
            optimizer.zero_grad()
            losses.append(loss(net(x), labels))
            net.backward(loss.backward())
            optimizer.step()
        epoch += 1
    assert np.mean(losses[-20:]) < np.log(10) - 0.2


def test_a_picture_too_small_for_three_poolings_is_refused():
    with pytest.raises(ValueError, match="MaxPool 'pool5': expected a height of at least 3"):
        alexnet_mini(image_size=8)
