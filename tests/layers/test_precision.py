import copy

import pytest
from checks import error_text, using

from tinynet.backend.precision import PRECISIONS
from tinynet.layers import Conv2d, Layer, Linear, ReLU, Sequential
from tinynet.models import alexnet_mini


class Block(Layer):
    def __init__(self):
        self.parts = [Linear(3, 4), ReLU()]
        self.own = Conv2d(1, 2, 3)


def test_set_precision_reaches_every_layer_inside():
    net = Sequential(Block(), Sequential({"fc": using(Linear(4, 2), precision="tf32")}))
    assert [layer.precision for _, layer in net.named_layers() if hasattr(layer, "weight")] == [
        "fp32",
        "fp32",
        "tf32",
    ]
    assert net.set_precision("bf16") is net
    assert [layer.precision for _, layer in net.named_layers() if hasattr(layer, "weight")] == ["bf16"] * 3
    assert copy.deepcopy(net)[0].own.precision == "bf16"
    net[0].set_precision("fp32")
    assert net[0].own.precision == "fp32"
    assert net[1]["fc"].precision == "bf16"
    assert Linear(2, 3).set_precision("tf32x3").precision == "tf32x3"


@pytest.mark.parametrize("precision", ["fp16", "FP32", "", None, 32])
def test_an_unknown_precision(precision):
    expected = f"expected a precision out of {PRECISIONS}, got {precision!r}"
    layer = using(Linear(3, 4), precision="tf32")
    net = Sequential({"fc": layer})
    for call, who in (
        (lambda: using(Conv2d(1, 2, 3), precision=precision), "Conv2d"),
        (lambda: using(Linear(3, 4), precision=precision), "Linear"),
        (lambda: setattr(layer, "precision", precision), "Linear 'fc'"),
        (lambda: net.set_precision(precision), "Sequential"),
        (lambda: ReLU().set_precision(precision), "ReLU"),
    ):
        assert error_text(call, ValueError) == f"{who}: {expected}"
    assert layer.precision == "tf32"


def test_it_is_shown_where_it_is_not_the_default():
    assert "precision" not in repr(alexnet_mini())
    assert repr(using(Linear(3, 4), precision="bf16")) == "Linear(3, 4, precision='bf16')"
    assert repr(using(Conv2d(1, 2, 3), precision="tf32")).endswith(", padding=(0, 0), precision='tf32')")
    assert repr(alexnet_mini().set_precision("tf32")).count("precision='tf32'") == 8
