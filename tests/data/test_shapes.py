"""The built-in pictures: what they promise, and that they are hard in the way that pictures are."""

import numpy as np
import pytest
from checks import run_python

import tinynet
from tinynet import data, get_num_threads, random, set_num_threads
from tinynet.data import drawing
from tinynet.data.shapes import Knobs, shapes
from tinynet.layers import Flatten, Linear, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.ops import drawing as loops
from tinynet.optim import SGD


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


def test_same_seed_same_bytes_whatever_the_threads_and_the_count(threads):
    threads(1)
    alone = shapes(40, seed=3)
    threads(3)
    together = shapes(1050, seed=3)
    assert np.array_equal(alone.images, together.images[:40])
    assert np.array_equal(alone.labels, together.labels[:40])


def test_another_process_draws_the_same_bytes():
    digest = (
        "import hashlib; from tinynet import data; print(hashlib.sha256(data.shapes(30, 20, 9).images).hexdigest())"
    )
    assert run_python(digest) == run_python(digest)


def test_seed_split_and_index_all_matter():
    one = shapes(500)
    for other in (shapes(500, seed=1), shapes(500, split="validation")):
        assert not (one.images == other.images).all(axis=(1, 2, 3)).any()
    assert len(np.unique(one.images.reshape(500, -1), axis=0)) == 500


@pytest.mark.parametrize("size", [12, 28, 32, 61, 227])
def test_any_size(size):
    pictures = shapes(10, size)
    assert pictures.images.shape == (10, 3, size, size)
    assert pictures.images.dtype == np.uint8
    assert pictures.images.std(axis=(1, 2, 3)).min() > 5  # none is blank


def test_sizes_show_the_same_picture():
    small, large = shapes(20, 32).images.astype(float), shapes(20, 128).images.astype(float)
    shrunk = large.reshape(20, 3, 32, 4, 32, 4).mean(axis=(3, 5))
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, shrunk, strict=True)]
    unlike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, np.roll(shrunk, 1, axis=0), strict=True)]
    assert np.median(alike) > 0.8 > 0.5 > np.median(unlike)


def test_classes_are_balanced_and_look_shuffled():
    labels = shapes(1000).labels
    assert np.bincount(labels).tolist() == [100] * 10
    assert len({tuple(labels[i : i + 10]) for i in range(0, 1000, 10)}) > 90
    assert data.shapes(5).classes == drawing.FIGURES
    assert len(set(drawing.FIGURES)) == 10


def test_every_knob_changes_the_pictures_and_zero_takes_its_difficulty_away():
    names = Knobs.__dataclass_fields__
    for name in names:
        assert not np.array_equal(shapes(20, **{name: 0.0}).images, shapes(20, **{name: 1.0}).images), name
    plain = shapes(200, 48, **dict.fromkeys(names, 0.0))
    # nothing in the way and every figure in the middle, of one size, upright: pictures of a class share their outline,
    # so its pixels stand apart from the ground in all of them
    for label in range(10):
        images = plain.images[plain.labels == label].astype(float).mean(axis=1)
        ground = np.median(images[:, [0, 0, -1, -1], [0, -1, 0, -1]], axis=1)[:, None, None]
        apart = (np.abs(images - ground) > 30).mean(axis=0)
        assert apart.max() > 0.95
        assert apart[:3].max() < 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, "much", True, float("nan")])
def test_a_knob_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"expected clutter to be a number in \[0, 1\], got"):
        shapes(10, clutter=value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"count": 0}, "expected count"),
        ({"count": 2.5}, "expected count"),
        ({"count": 10, "image_size": 11}, "expected image_size"),
        ({"count": 10, "image_size": 4096}, "expected image_size"),
        ({"count": 10, "split": "test"}, "expected split"),
        ({"count": 10, "seed": -1}, "seed: expected a whole number"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        shapes(**arguments)


def test_a_linear_softmax_stays_above_60_per_cent_error():
    train, validation = shapes(6000), shapes(1000, split="validation")
    mean, std = data.channel_statistics(train)
    loader = data.Loader(train, 100, mean=mean, std=std)
    x, labels = next(data.Loader(validation, 1000, shuffle=False, mean=mean, std=std).epoch(0))
    net, loss = Sequential(Flatten(), Linear(3 * 32 * 32, 10)), SoftmaxCE()
    net["1"].input_grad = False
    net["1"].weight.data *= 0.01
    best = 1.0
    for lr in (1e-3, 1e-4):
        optimizer = SGD(net.parameters(), lr=lr, weight_decay=1e-3)
        for epoch in range(8):
            for batch, wanted in loader.epoch(epoch):
                optimizer.zero_grad()
                loss(net(batch), wanted)
                net["1"].backward(loss.backward())
                optimizer.step()
            best = min(best, float((net(x).argmax(axis=1) != labels).mean()))
    assert 0.6 < best < 0.88  # it did learn something: chance is 0.9


def test_the_nearest_neighbour_stays_above_50_per_cent_error():
    train, validation = shapes(20_000), shapes(1000, split="validation")
    known = train.images.reshape(len(train), -1).astype(np.float32) / 255
    asked = validation.images.reshape(len(validation), -1).astype(np.float32) / 255
    nearest = ((known**2).sum(axis=1) - 2 * asked @ known.T).argmin(axis=1)
    assert 0.5 < (train.labels[nearest] != validation.labels).mean() < 0.95


def every_layer(size=24):
    """(layers, light, grain): a picture for each figure and fragment in each texture, over the picture's edges too."""
    kinds = [
        (figure, texture)
        for figure in range(len(drawing.FIGURES) + len(drawing.FRAGMENTS))
        for texture in range(len(drawing.TEXTURES))
    ]
    draws = random.uniform((len(kinds), 2, 16), 0, "layers")
    layers = np.zeros((len(kinds), 2), drawing.LAYER)
    layers["figure"][:, 0] = drawing.GROUND
    layers["figure"][:, 1], layers["texture"][:, 1] = np.transpose(kinds)
    layers["texture"][:, 0] = len(drawing.TEXTURES) - 1 - layers["texture"][:, 1]
    for i, name in enumerate(("x", "y", "radius", "cos", "sin", "thickness", "wave_x", "wave_y", "phase")):
        layers[name] = {"cos": 0.6, "sin": 0.8, "radius": 0.7}.get(name, 8 if "wave" in name else 1) * draws[:, :, i]
    layers["colours"] = draws[:, :, 10:].reshape(-1, 2, 2, 3)
    light = random.uniform((len(kinds), 5), 0, "light") * [1, 1, 1, 0.1, 63]
    return layers, np.floor(light) * [0, 0, 0, 0, 1] + light * [1, 1, 1, 1, 0], random.uniform((64, 64), 0, "grain")


def test_plain_painting_gives_the_loops_bits():
    scene = every_layer()
    painted, plainly = (np.zeros((len(scene[0]), 3, 24, 24), np.uint8) for _ in range(2))
    drawing.paint(*scene, painted)
    with tinynet.plain():
        drawing.paint(*scene, plainly)
    assert len({picture.tobytes() for picture in painted}) == len(painted)
    assert np.array_equal(painted, plainly)


@pytest.mark.parametrize("size", [12, 33])
def test_plain_shapes_are_the_same_pictures(size, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loops, "parallel_for", lambda *args: pytest.fail("a loop ran in plain mode"))
        with tinynet.plain():
            plainly = shapes(60, size, seed=2, clutter=1, occlusion=1)
    assert np.array_equal(plainly.images, shapes(60, size, seed=2, clutter=1, occlusion=1).images)


def test_every_figure_has_an_inside_and_an_outside():
    u, v = 2 * random.uniform((2, 50), 0, "points") - 1
    far = np.array([drawing.REACH])
    for figure in range(10):
        inside = drawing.figure_distance(figure, u, v) < 0
        assert 0 < inside.sum() < 50, drawing.FIGURES[figure]
        assert drawing.figure_distance(figure, far, far) > 0
    for fragment in range(len(drawing.FRAGMENTS)):
        assert drawing.fragment_distance(fragment, 2 * far, 2 * far, 0.3) > 0
