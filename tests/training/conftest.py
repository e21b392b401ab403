import numpy as np
import pytest

from tinynet import models, random
from tinynet.io.checkpoints import save_weights
from tinynet.training.preprocessing import pack_mean
from training.album import CLASSES, draw_album


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def album(tmp_path_factory):
    return draw_album(tmp_path_factory.mktemp("pictures") / "album")


def decided(model):
    """The net's answers far apart, as after training."""
    for name, parameter in model.named_parameters():
        if name == "fc8.weight":
            parameter.data *= np.float32(40)
    return model


@pytest.fixture
def saved(tmp_path):
    """saved(name, **changes): the folder of a small net's run, as the program leaves it."""

    def save(name="run", *, seed=0, **changes):
        about = {"model": "alexnet_mini", "preset": None, "num_classes": 2, "in_channels": 3, "image_size": 32}
        about |= {"mean": [0.5, 0.4, 0.45][: changes.get("in_channels", 3)]}
        about |= {"std": [0.25, 0.2, 0.3][: changes.get("in_channels", 3)], "classes": list(CLASSES)}
        about |= {"data": "album", "data_kind": "photos", "epoch": 3} | changes
        net = decided(models.alexnet_mini(about["num_classes"], about["in_channels"], about["image_size"], seed=seed))
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / "weights.safetensors", net, about)
        return tmp_path / name

    return save


@pytest.fixture
def mean_picture():
    """As the paper's net has it, of a small net's stored size."""
    return pack_mean(random.uniform((3, 37, 37), 0, "mean picture", low=0.3, high=0.6).astype(np.float32))
