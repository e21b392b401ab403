"""What a net gets to see in training is the same to the byte, however the batches are made and the run is cut up."""

import hashlib

import numpy as np
import pytest

from tinynet import data
from tinynet.layers import Dropout, Flatten, Layer, Linear, Sequential
from tinynet.optim import SGD
from tinynet.training.trainer import Trainer

PICTURES, BATCH, EPOCHS = 45, 8, 3
STEPS = -(-PICTURES // BATCH)


class Witness(Layer):
    """Passes everything on and keeps a digest of each training batch; `last` steps on, the power is cut."""

    def __init__(self, last=None):
        self.seen, self.cut_after = [], last

    def forward(self, x):
        self.check_input(x)
        self.saved = (x.shape,)
        if self.training:
            if len(self.seen) == self.cut_after:
                raise SystemExit("power cut")
            self.seen.append(hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest())
        return x

    def backward(self, dy):
        return dy

    def output_shape(self, shape):
        return shape


def run(out, workers, last=None):
    """(Trainer, Witness) of a run on coloured, cropped, mirrored pictures."""
    pictures, validation = data.load("shapes", train_size=PICTURES, validation_size=10, image_size=32)
    view = data.Augment(28, colour_noise=0.1, colour=data.colour_components(pictures))
    witness = Witness(last)
    model = Sequential(
        {
            "witness": witness,
            "flatten": Flatten(),
            "drop1": Dropout(0.5, seed=1),
            "fc1": Linear(3 * 28 * 28, 10, seed=1),
        }
    )
    train_loader = data.Loader(pictures, BATCH, seed=5, view=view, workers=workers)
    val_loader = data.Loader(validation, 10, shuffle=False, view=data.CentreCrop(28))
    optimizer = SGD(model.parameters(), 0.001)
    options = {"epochs": EPOCHS, "out": out, "quiet": True, "checkpoint_minutes": 1e-9}
    return Trainer(model, optimizer, train_loader, val_loader, **options), witness


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    trainer, witness = run(tmp_path_factory.mktemp("straight"), workers=0)
    trainer.fit()
    assert len(set(witness.seen)) == EPOCHS * STEPS  # no batch comes twice
    return witness.seen, trainer.model["fc1"].weight.data


@pytest.mark.parametrize("workers", [1, 3])
def test_with_workers(tmp_path, straight, workers):
    trainer, witness = run(tmp_path, workers)
    trainer.fit()
    assert witness.seen == straight[0]
    np.testing.assert_array_equal(trainer.model["fc1"].weight.data, straight[1])


@pytest.mark.parametrize("workers", [(0, 3), (3, 0)])
@pytest.mark.parametrize("last", [1, STEPS - 1, STEPS, 2 * STEPS + 3])
def test_resumed_with_another_number_of_workers(tmp_path, straight, workers, last):
    trainer, before = run(tmp_path, workers[0], last)
    with pytest.raises(SystemExit):
        trainer.fit()
    trainer, after = run(tmp_path, workers[1])
    trainer.fit(resume=tmp_path)
    assert before.seen + after.seen == straight[0]
    np.testing.assert_array_equal(trainer.model["fc1"].weight.data, straight[1])
