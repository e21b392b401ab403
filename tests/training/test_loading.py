"""A run loaded again: from its folder, its weights or a checkpoint; and what cannot be loaded."""

import numpy as np
import pytest

import tinynet
from tinynet import models
from tinynet.io.checkpoints import load_weights, read_checkpoint, save_weights
from training.album import CLASSES

TINY = "--train-size", 20, "--val-size", 10, "--batch-size", 10, "--lr", 0.001, "--epochs", 1, "--quiet"


def test_a_run_in_its_parts(saved):
    folder = saved()
    run = tinynet.load_run(folder)
    assert run.path == folder / "weights.safetensors"
    assert run.classes == CLASSES
    assert run.metadata["data_kind"] == "photos"
    assert run.preprocessing.stored_size == 37
    assert run.model.preprocessing is run.preprocessing
    assert not any(layer.training for _, layer in run.model.named_layers())
    weights = load_weights(folder)
    for name, array in run.model.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])
    place = str(folder / "weights.safetensors")
    assert repr(run) == (f"LoadedRun({place!r}: alexnet_mini, 3 x 32 x 32, 2 classes (cats, dogs), 3 epochs of album)")


def test_the_programs_run_as_folder_weights_and_checkpoints(quick):
    assert quick(*TINY, "--out", "run") == 0
    newest = read_checkpoint("run").path
    expected = load_weights("run")
    for path in ("run", "run/weights.safetensors", newest, "run/checkpoints/best.safetensors"):
        run = tinynet.load_run(path)
        assert run.classes == tinynet.data.shapes(10, 32).classes
        assert run.preprocessing.stored_size == run.metadata["stored_size"] == 32
        assert run.metadata["provenance"]["tinynet"] == tinynet.__version__
        for name, array in run.model.state_dict().items():
            np.testing.assert_array_equal(array, expected[name])
    (run.path.parent.parent / "weights.safetensors").unlink()
    assert tinynet.load_run("run").path == newest  # a run whose first epoch is not over


def test_on_two_devices(saved):
    run = tinynet.load_run(saved(), devices=("cpu", "cpu"))
    assert run.model.devices == ("cpu", "cpu")
    assert tinynet.load_run(run.path, devices="cpu").model.device == "cpu"
    with pytest.raises(ValueError, match="expected one device, or 2"):
        tinynet.load_run(run.path, devices=("cpu",) * 3)


def test_what_is_no_run(tmp_path):
    def refused(path, text, kind=ValueError):
        with pytest.raises(kind, match=text):
            tinynet.load_run(path)

    refused(tmp_path / "gone", "expected a run's folder, a weights file or a checkpoint at .*gone", FileNotFoundError)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "expected a run's folder or a checkpoint, got .*empty, which holds none", OSError)
    for name in ("one", "two"):
        (tmp_path / "empty" / name / "checkpoints").mkdir(parents=True)
    refused(tmp_path / "empty", "got .*empty, which holds 2: one, two; name one of them", OSError)
    (tmp_path / "notes.txt").write_text("no weights, but notes")
    refused(tmp_path / "notes.txt", "expected a safetensors file, got one that begins")
    save_weights(tmp_path / "others", models.alexnet_mini(2))
    refused(tmp_path / "others", r"others: expected weights that tinynet's program wrote, .*\(no model, num_classes in")
    refused(odd(tmp_path, model="resnet"), "a net out of alexnet, alexnet_mini; got 'resnet'")
    refused(
        odd(tmp_path, model="alexnet", preset="large"), "alexnet: expected a preset out of paper, torchvision; got 'la"
    )
    refused(odd(tmp_path, mean=None), "metadata of a run's weights, got some that are odd")
    refused(odd(tmp_path, classes=["a", "b", "c"]), "an output for each class, got 2 for 3 classes")
    refused(odd(tmp_path, num_classes="2"), "expected num_classes as a whole number of at least 1, got '2'")
    refused(odd(tmp_path, image_size=64, num_classes=3), "expected this net's weights, got another's")


def odd(tmp_path, **changes):
    about = {"model": "alexnet_mini", "preset": None, "num_classes": 2, "in_channels": 3, "image_size": 32}
    about |= {"mean": [0.5] * 3, "std": [0.2] * 3, "classes": ["a", "b"], "data_kind": "photos"} | changes
    save_weights(tmp_path / "odd.safetensors", models.alexnet_mini(2), about)
    return tmp_path / "odd.safetensors"
