import re

import numpy as np
import pytest

from tinynet import summary
from tinynet.layers import Conv2d, Flatten, Layer, Linear, MaxPool, ReLU, Sequential
from tinynet.models import alexnet


def test_the_table_of_the_papers_net():
    table = summary(alexnet(num_classes=1000), (3, 227, 227))
    rows = {row.name: row for row in table.rows}
    # receptive fields by hand: r += (k - 1) * jump, jump *= stride
    assert {
        name: rows[name].receptive_field for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5", "fc6")
    } == {
        "conv1": (11, 11),
        "pool1": (19, 19),
        "conv2": (51, 51),
        "pool2": (67, 67),
        "conv5": (163, 163),
        "pool5": (195, 195),
        "fc6": None,
    }
    text = str(table)
    assert "60,965,224" in text
    assert "724,406,816" in text
    assert "243.9 MB" in text  # 4 bytes a parameter
    assert all(name in text for name in rows)


def test_unequal_sides_stride_padding_dilation():
    net = Sequential(
        Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3)), MaxPool((2, 3), stride=(2, 2))
    )
    conv, pool = summary(net, (5, 2, 12, 11)).rows
    assert conv.output_shape == (5, 4, 6, 8)
    assert conv.receptive_field == (3, 4)
    assert conv.unused_border == (0, 0)  # rows -1..11 of 12, columns 0..10 of 11
    assert conv.macs == 5 * 6 * 8 * 4 * 2 * 3 * 2
    assert pool.output_shape == (5, 4, 3, 3)
    assert pool.receptive_field == (5, 6)
    assert pool.unused_border == (0, 1)  # columns 0..6 of 8 are read


def test_the_receptive_field_is_what_really_moves_the_output():
    net = Sequential(Conv2d(1, 1, 3, stride=2), MaxPool(3, 2), Conv2d(1, 1, (2, 3)))
    shape = (1, 1, 31, 33)
    x = np.zeros(shape)
    x += np.arange(x.size).reshape(shape) % 7
    y = net.forward(x)
    moved = np.zeros(shape[2:], bool)
    for h, w in np.ndindex(*shape[2:]):
        changed = x.copy()
        changed[0, 0, h, w] += 1e6
        low = x.copy()
        low[0, 0, h, w] -= 1e6
        moved[h, w] = (net.forward(changed)[0, 0, 1, 1] != y[0, 0, 1, 1]) or (
            net.forward(low)[0, 0, 1, 1] != y[0, 0, 1, 1]
        )
    rows, columns = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    seen = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert seen == summary(net, shape).rows[-1].receptive_field


def test_unused_border_is_what_never_moves_the_output():
    net = Sequential(MaxPool(3, 2))
    x = np.zeros((1, 1, 8, 6))
    used = net.backward(
        np.ones_like(net.forward(np.broadcast_to(np.arange(8.0)[:, None] + np.arange(6.0), x.shape).copy()))
    )
    assert summary(net, (1, 8, 6)).rows[0].unused_border == (1, 1)
    assert not used[0, 0, 7].any()
    assert not used[0, 0, :, 5].any()
    assert used[0, 0, 6, 4]


def test_a_net_that_does_not_fit_is_shown_up_to_the_layer_and_the_reason():
    net = Sequential({"conv": Conv2d(3, 8, 5), "flatten": Flatten(), "fc": Linear(100, 10), "relu": ReLU()})
    table = summary(net, (3, 10, 10))
    assert [row.name for row in table.rows] == ["conv", "flatten"]
    assert table.error == "Linear 'fc': expected x of shape (N, 100), got (1, 288)"
    assert str(table).endswith(f"DOES NOT FIT: {table.error}")
    assert summary(net, (4, 10, 10)).rows == []


def test_a_students_layer_needs_no_output_shape():
    class Halve(Layer):
        def forward(self, x):
            return x[:, ::2]

    assert summary(Sequential(Halve(), Linear(3, 2)), (6,)).rows[0].output_shape == (1, 3)


class IndexOff(Layer):
    def forward(self, x):
        return x[:, [7]]


class NoReturn(Layer):
    def forward(self, x):
        x + 1


class ShapelessReturn(Layer):
    def output_shape(self, shape):
        shape[0]


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (IndexOff(), "IndexOff 'mine': IndexError: index 7 is out of bounds"),
        (NoReturn(), "NoReturn 'mine': AttributeError: "),
        (ShapelessReturn(), "ShapelessReturn 'mine': TypeError: "),
        (Layer(), "Layer 'mine': NotImplementedError: Layer has no forward: write forward(self, x)"),
    ],
)
def test_a_students_layer_may_fail_in_any_way(layer, error):
    table = summary(Sequential({"fc": Linear(3, 2), "mine": layer}), (3,))
    assert [row.name for row in table.rows] == ["fc"]
    assert table.error.startswith(error)
    assert f"DOES NOT FIT: {error}" in str(table)


def test_nested_nets_are_listed_layer_by_layer():
    net = Sequential({"features": Sequential({"conv1": Conv2d(1, 2, 3)}), "top": Sequential(Flatten(), Linear(8, 2))})
    assert [row.name for row in summary(net, (1, 4, 4)).rows] == ["features.conv1", "top.0", "top.1"]


@pytest.mark.parametrize("shape", [(), (3, 0, 5), (1, 2, 3, 4, 5), (3, 2.5, 1), 8, np.int64(8), None, "8"])
def test_impossible_input_shapes(shape):
    with pytest.raises(ValueError, match=rf"such as \(3, 227, 227\) or \(8,\); got {re.escape(repr(shape))}$"):
        summary(ReLU(), shape)


@pytest.mark.parametrize("shape", [(np.int64(2), np.int32(8)), [2, 8], np.array([2, 8])])
def test_sizes_may_be_numpys(shape):
    table = summary(Linear(8, 3), shape)
    assert table.rows[0].output_shape == (2, 3)
    assert table.input_shape == (2, 8)
    assert all(type(size) is int for size in table.input_shape)
