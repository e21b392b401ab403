"""Batches whose pictures go to a simulated GPU as bytes and are cropped there: the same bits, and fewer bytes."""

import numpy as np
import pytest

from tinynet import data, random
from tinynet.backend.device import device_of, to_cpu
from tinynet.data import Augment, CentreCrop, Loader, TenCrop
from tinynet.errors import DeviceError
from tinynet.layers import Flatten, Linear, Sequential
from tinynet.training.evaluate import evaluate

SET = data.Dataset(random.bits((11, 3, 12, 10), 0, "images").astype(np.uint8), np.arange(11) % 4, ("a", "b", "c", "d"))
COLOUR = np.array([0.2, 0.1, 0.05]), np.linalg.qr(np.arange(9.0).reshape(3, 3) + np.eye(3))[0]
VIEWS = {
    "whole": None,
    "centre": CentreCrop(7),
    "ten crops": TenCrop(6),
    "paper": Augment(8, padding=1, colour_noise=0.3, colour=COLOUR),
}


def loader(view, device="cpu", **options):
    scale = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
    return Loader(SET, 4, view=VIEWS[view], seed=3, device=device, **scale | options)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("view", VIEWS)
def test_the_same_bits(other_gpu, view, workers):
    expected = list(loader(view).epoch(2, start=1))
    found = list(loader(view, other_gpu, workers=workers).epoch(2, start=1))
    assert len(found) == len(expected) == 2
    for (x, labels), (wanted, wanted_labels) in zip(found, expected, strict=True):
        assert device_of(x) == other_gpu
        assert isinstance(labels, np.ndarray)
        np.testing.assert_array_equal(labels, wanted_labels)
        back = to_cpu(x)
        assert back.strides == wanted.strides  # the batch innermost
        np.testing.assert_array_equal(back, wanted)


@pytest.mark.usefixtures("gpu")
def test_a_mean_picture():
    mean = SET.images.mean(axis=0) / 255
    expected, _ = next(loader("paper", mean=mean).epoch(0))
    found, _ = next(loader("paper", "cuda:0", mean=mean).epoch(0))
    np.testing.assert_array_equal(to_cpu(found), expected)


def test_pictures_go_there_as_bytes_and_nothing_is_waited_for(gpu, monkeypatch):
    sent, asarray = [], gpu.asarray
    batches = loader("paper", "cuda:0").epoch(0)
    next(batches)  # sends the scale, too
    monkeypatch.setattr(gpu, "asarray", lambda values: sent.append(values) or asarray(values))
    before = gpu.synchronisations
    x, _ = next(batches)
    assert gpu.synchronisations == before
    assert {array.dtype for array in sent if array.size == 4 * 3 * 12 * 10} == {np.dtype(np.uint8)}
    assert max(array.nbytes for array in sent if array.dtype != np.uint8) < 200
    assert x.dtype == np.float32


def test_evaluation_takes_them(other_gpu):
    model = Sequential(Flatten(), Linear(3 * 7 * 7, 4)).to("cuda:0")
    expected = evaluate(model, loader("centre"))
    assert evaluate(model, loader("centre", "cuda:0")) == expected
    assert evaluate(model, loader("centre", other_gpu)) == expected  # they are taken to the model


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_is_not_there():
    with pytest.raises(DeviceError, match="cuda:5: no such GPU"):
        loader("whole", "cuda:5")
