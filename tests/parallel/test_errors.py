"""What goes wrong in a tower ends the step with a clear error: nobody hangs, and the model can be used again."""

import gc
import os
import signal
import threading
import weakref

import numpy as np
import pytest
from checks import error_text
from strategies import numbers

from parallel.nets import LABELS, SHAPE, one_step, small
from tinynet.errors import BackwardBeforeForwardError, NonFiniteError
from tinynet.layers import ReLU, Sequential
from tinynet.models import alexnet, alexnet_mini
from tinynet.parallel import EachTower, Exchange, FirstTower, Split

TWO = ("cpu", "cpu")


def failing(layer, method, error):
    """layer.method raises `error`, once."""

    def fail(*args, **options):
        delattr(layer, method)
        raise error

    setattr(layer, method, fail)


@pytest.mark.parametrize("tower", [0, 1])
@pytest.mark.parametrize(
    ("layer", "method"), [("conv1", "forward"), ("fc7", "forward"), ("conv4", "backward"), ("conv1", "backward")]
)
@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, ValueError])
def test_a_layer_that_raises(tower, layer, method, kind):
    x = numbers(SHAPE)
    expected, net = one_step(small(TWO), x, LABELS), small(TWO)
    failing(net.towers[tower].layers[layer], method, kind("no room for the maps"))
    with pytest.raises(kind) as caught:
        one_step(net, x, LABELS)
    assert type(caught.value) is kind
    assert str(caught.value) == f"no room for the maps (in tower {tower + 1} of 2, on cpu)"
    again = one_step(net, x, LABELS)
    assert all(np.array_equal(again[what], array) for what, array in expected.items())


def test_numpys_own_memory_error_keeps_its_words():
    net = small(TWO)
    with pytest.raises(MemoryError) as numpys:
        np.empty(1 << 60, np.uint8)
    failing(net.towers[1].layers["conv4"], "forward", numpys.value)
    with pytest.raises(MemoryError, match=r"Unable to allocate.*\(in tower 2 of 2, on cpu\)"):
        net(numbers(SHAPE))


def test_wrong_input_says_what_a_whole_net_says():
    net = small(TWO)
    text = error_text(lambda: net(numbers((2, 4, 25, 23))), ValueError)
    assert text.startswith("Conv2d 'conv1': expected x of shape (N, 3, H, W), got (2, 4, 25, 23)")
    with pytest.raises(TypeError, match="expected a NumPy array, got list"):
        net([1.0])
    with pytest.raises(BackwardBeforeForwardError):
        net.backward(numbers((5, 7)))
    net(numbers(SHAPE))
    with pytest.raises(ValueError, match=r"expected dy of shape \(5, 7\), got \(5, 8\)"):
        net.backward(numbers((5, 8)))


def test_nan_is_named_by_the_layer_that_made_it():
    net = small(TWO)
    net.towers[1].layers["conv2"].weight.data[...] = np.inf
    with pytest.raises(NonFiniteError, match=r"Conv2d 'conv2': gave NaN or infinity as its output.*in tower 2 of 2"):
        net(numbers(SHAPE))
    net = small(TWO)
    refused = NonFiniteError("Conv2d 'conv3'", "expected finite numbers")
    failing(net.towers[0].layers["conv3"], "check_input", refused)
    with pytest.raises(NonFiniteError) as caught:
        net(numbers(SHAPE))
    assert caught.value.layer == "MaxPool 'pool2'"


@pytest.mark.skipif(os.name == "nt", reason="a signal to one's own process is POSIX")
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_ctrl_c_in_the_middle(method):
    x, net = numbers(SHAPE), small(TWO)
    expected = one_step(small(TWO), x, LABELS)
    layer = net.towers[1].layers["conv4"]
    real, arrived = getattr(layer, method), threading.Event()

    def interrupted(array, **options):
        delattr(layer, method)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        arrived.set()
        return real(array, **options)

    setattr(layer, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        one_step(net, x, LABELS)
    assert arrived.is_set()
    again = one_step(net, x, LABELS)
    assert all(np.array_equal(again[what], array) for what, array in expected.items())


def test_threads_end_with_the_model():
    net = small(TWO)
    net(numbers(SHAPE))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("tinynet-tower")]
    own = [tower.worker._thread for tower in net.towers]
    assert set(own) <= set(threads)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    for thread in own:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: alexnet(devices=("cpu",) * 3), "expected one device, or 2, one for each tower, got 3: cpu, cpu, cpu"),
        (lambda: alexnet_mini(devices=()), "expected one device, or 2, one for each tower, got 0: none"),
        (lambda: alexnet("torchvision", devices=TWO), "expected one device, got 2: cpu, cpu"),
        (lambda: alexnet("torchvision", towers=2), "expected for 'torchvision' a number of towers out of 1; got 2"),
        (lambda: alexnet(towers=3), "a number of towers out of 1, 2, 4, 8, 16, 32; got 3"),
        (lambda: alexnet_mini(devices=("cpu", "gpu")), 'expected a device "cpu", "cuda" or "cuda:K", got \'gpu\''),
        (lambda: small(TWO).to("cuda:0"), "expected to stay on cpu, cpu, got .to('cuda:0')"),
        (
            lambda: Split(small(), TWO, EachTower("conv1"), Exchange(), FirstTower("fc8")),
            "expected stages with the layers",
        ),
        (lambda: Split(small(), ("cpu",), EachTower("conv1")), "expected at least two devices"),
        (lambda: Split(small(), TWO, EachTower(*small().layers)), "expected EachTower stages, an Exchange and"),
    ],
)
def test_wrong_usage(make, text):
    assert text in error_text(make, ValueError)


def test_a_layer_that_cannot_be_cut_is_named():
    names = list(small().layers)
    own, rest = EachTower(*names[:-1]), FirstTower("fc8")
    text = error_text(lambda: Split(small(), TWO, own, Exchange(), rest), ValueError)
    assert "Conv2d 'conv3': expected a layer that can be cut into 2 towers with no Exchange before it" in text
    text = error_text(lambda: Split(small(towers=4), ("cpu",) * 3, own, Exchange(), rest), ValueError)
    assert "Conv2d 'conv1': expected a layer that can be cut into 3 towers with an Exchange before it" in text
    odd = Sequential({"a": ReLU(), "fc8": small()["fc8"]})
    text = error_text(lambda: Split(odd, TWO, EachTower("a"), Exchange(), rest), ValueError)
    assert "expected a Conv2d or Linear at the start and behind each Exchange, got ReLU 'a'" in text
