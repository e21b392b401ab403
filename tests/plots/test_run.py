import json
import os
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from bounds import roundings
from PIL import Image

from plots.layout import UGLY
from plots.pictures import as_drawn, some_pictures
from tinynet import optim, random
from tinynet.data import Dataset, Loader
from tinynet.data.augment import Augment, CentreCrop, TenCrop
from tinynet.layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, ReLU, Sequential
from tinynet.plots import run
from tinynet.plots.run import RunPictures, spread
from tinynet.training.trainer import Trainer

CHEAP = {"learning_curves.png", "first_layer_kernels.png"}
ANSWERS = {"predictions.png", "most_wrong.png", "confusion_matrix.png"}
ALL = CHEAP | ANSWERS | {"nearest_in_fc7.png", "activation_maps.png", "augmentation.png"}
MEAN, STD = np.array([0.5, 0.4, 0.6]), np.array([0.3, 0.2, 0.25])


NET = roundings(2 * (27 + 16 + 5 + 8), np.float32)  # sums of three layers and of the softmax, computed twice


def some_set(N, C, classes, stream):
    labels = (random.permutation(N, 0, stream) % len(classes)).astype(np.int64)
    return Dataset(some_pictures(N, C, 9, 8, stream), labels, classes)


def some_net(C, K):
    return Sequential(
        {
            "conv1": Conv2d(C, 4, 3, seed=1),
            "relu1": ReLU(),
            "pool1": MaxPool(2, 2),
            "flatten": Flatten(),
            "fc7": Linear(16, 5, seed=2),
            "relu7": ReLU(),
            "drop7": Dropout(0.5, seed=3),
            "fc8": Linear(5, K, seed=4),
        }
    )


def a_run(tmp_path, C=3, classes=("ant", "bee", "cat"), net=None, view=None, **options):
    """(RunPictures, a stand-in for the Trainer, the loaders)."""
    train_set, val_set = some_set(30, C, classes, "train"), some_set(20, C, classes, "val")
    numbers = {"mean": MEAN[:C], "std": STD[:C]}
    train_loader = Loader(train_set, 7, seed=5, view=Augment(7), **numbers)
    val_loader = Loader(val_set, 6, shuffle=False, view=view or CentreCrop(7), **numbers)
    pictures = RunPictures(train_set, val_set, train_loader, val_loader, **options)
    trainer = SimpleNamespace(model=net or some_net(C, len(classes)), out=tmp_path, records=[], epochs=4)
    return pictures, trainer


@pytest.fixture
def quick(monkeypatch):
    """No time is spent on the pictures' bytes."""
    monkeypatch.setattr(run, "save_figure", lambda figure, path: path.touch())


def epoch(number, seconds=100.0):
    return {"event": "epoch", "epoch": number, "seconds": seconds}


FINAL = {"event": "final", "epochs": 4, "seconds": 100.0}


@pytest.mark.parametrize(
    ("C", "classes", "view"), [(3, ("ant", "bee", "cat"), TenCrop(7)), (1, ("ant", "bee"), None), (3, UGLY, None)]
)
def test_all_pictures_of_any_set(tmp_path, capfd, C, classes, view):
    pictures, trainer = a_run(tmp_path, C, classes, view=view)
    pictures(trainer, FINAL)
    assert set(os.listdir(tmp_path)) == ALL
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert max(picture.size) <= 1600
    assert capfd.readouterr() == ("", "")


def test_training_is_the_same_with_and_without_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SHARE", 1e9)  # after each epoch
    weights = []
    for folder in ("without", "with"):
        pictures, stand_in = a_run(tmp_path)
        drawn = []
        monkeypatch.setattr(
            pictures, "_with_the_net", lambda trainer, p=pictures, d=drawn: d.append(_drawn(p, trainer))
        )
        trainer = Trainer(
            stand_in.model,
            optim.SGD(stand_in.model.parameters(), 0.05),
            pictures.train_loader,
            pictures.val_loader,
            epochs=2,
            out=tmp_path / folder,
            quiet=True,
            callbacks=[pictures] if folder == "with" else [],
        )
        trainer.fit()
        weights.append(trainer.model.state_dict())
        log = [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        weights[-1]["losses"] = np.array([record["val_loss"] for record in log if record["event"] == "epoch"])
    assert len(drawn) == 2  # after the first epoch and at the end
    assert set(os.listdir(tmp_path / "with")) >= ALL
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


def _drawn(pictures, trainer):
    modes = [layer.training for _, layer in trainer.model.named_layers()]
    RunPictures._with_the_net(pictures, trainer)
    assert [layer.training for _, layer in trainer.model.named_layers()] == modes


def test_the_dear_pictures_keep_to_their_share_of_the_time(tmp_path, monkeypatch, quick):
    pictures, trainer = a_run(tmp_path)
    clock = [0.0]
    drawn = []

    def draw(trainer):
        clock[0] += 1.0
        drawn.append(record)

    monkeypatch.setattr(run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(pictures, "_with_the_net", draw)
    trainer.epochs = 6
    for record in [epoch(1, 5.0), epoch(2, 19.9), epoch(3, 20.1), epoch(4, 39.0), epoch(5, 41.0), epoch(6, 500.0)]:
        pictures(trainer, record)
    assert [record["epoch"] for record in drawn] == [1, 3, 5]  # the sixth is the last: the final record comes at once
    record = {"event": "final", "epochs": 6, "seconds": 1.0}
    pictures(trainer, record)
    assert drawn[-1] is record
    assert pictures.seconds == 4
    assert set(os.listdir(tmp_path)) == CHEAP


def test_a_net_of_other_names_goes_without_and_says_so_once(tmp_path, capfd, quick):
    net = Sequential(Flatten(), Sequential({"fc": Linear(147, 3)}))
    pictures, trainer = a_run(tmp_path, net=net)
    pictures(trainer, FINAL)
    pictures(trainer, FINAL)
    assert set(os.listdir(tmp_path)) == ALL - {"first_layer_kernels.png", "nearest_in_fc7.png"}
    assert capfd.readouterr().err.splitlines() == [
        "train: warning: the net has no conv1.weight; training goes on without first_layer_kernels.png",
        "train: warning: the net has no layer 'relu7'; training goes on without nearest_in_fc7.png",
    ]


def test_a_net_that_is_no_sequential_gets_the_pictures_that_ask_no_layer(tmp_path, capfd, quick):
    class Mine(Layer):
        def __init__(self):
            self.fc = Linear(147, 3)

        def forward(self, x):
            return self.fc(np.ascontiguousarray(x).reshape(len(x), -1))

    pictures, trainer = a_run(tmp_path, net=Mine())
    pictures(trainer, FINAL)
    assert set(os.listdir(tmp_path)) == ANSWERS | {"learning_curves.png", "augmentation.png"}
    first, *others = capfd.readouterr().err.splitlines()
    assert "has no conv1.weight" in first
    assert ["expected a Sequential, got Mine" in text for text in others] == [True, True]


def test_the_names_can_be_given(tmp_path, capfd, quick):
    net = Sequential({"a": Sequential({"conv": Conv2d(3, 2, 3)}), "flatten": Flatten(), "b": Linear(50, 3)})
    pictures, trainer = a_run(tmp_path, net=net, kernels="a.conv.weight", features="a.conv")
    pictures(trainer, FINAL)
    assert set(os.listdir(tmp_path)) == ALL
    assert capfd.readouterr().err == ""


def test_a_picture_that_fails_is_a_warning_and_the_others_are_drawn(tmp_path, capfd, monkeypatch):
    def fails(*args):
        raise ValueError("no\nink")

    monkeypatch.setattr(run, "learning_curves", fails)
    monkeypatch.setattr(run, "activation_maps", fails)
    (tmp_path / "predictions.png").mkdir()
    pictures, trainer = a_run(tmp_path)
    pictures(trainer, FINAL)
    first, second, third = capfd.readouterr().err.splitlines()
    end = "; training goes on without this picture"
    assert first == f"train: warning: learning_curves.png: no ink{end}"
    assert second.startswith("train: warning: predictions.png: cannot write")
    assert second.endswith(end)
    assert third == f"train: warning: activation_maps.png: no ink{end}"
    assert ALL - set(os.listdir(tmp_path)) == {"learning_curves.png", "activation_maps.png"}


def test_a_validation_loader_in_another_order_gets_no_wrong_captions(tmp_path, capfd, quick):
    pictures, trainer = a_run(tmp_path)
    pictures.val_loader.shuffle = True
    pictures(trainer, FINAL)
    (warning,) = capfd.readouterr().err.splitlines()
    assert "expected val_loader to give all of val_set in its order" in warning
    assert all(name in warning for name in ANSWERS)
    assert set(os.listdir(tmp_path)) == ALL - ANSWERS


def test_a_net_of_more_or_fewer_classes_gets_no_captions(tmp_path, capfd, quick):
    for K in (2, 5):
        pictures, trainer = a_run(tmp_path, classes=("ant", "bee", "cat"), net=some_net(3, K))
        pictures.val_set = pictures.val_loader.dataset = _only_classes_below(2, pictures.val_set)
        pictures(trainer, FINAL)
        (warning,) = capfd.readouterr().err.splitlines()
        assert f"RunPictures: expected a net of 3 classes, as val_set has, got one of {K}" in warning
    assert set(os.listdir(tmp_path)) == ALL - ANSWERS


def _only_classes_below(k, dataset):
    return dataset.subset(dataset.labels < k)


def test_a_validation_loader_that_leaves_pictures_out_is_refused(tmp_path, capfd, quick):
    pictures, trainer = a_run(tmp_path)
    pictures.val_loader.drop_last = True  # 18 of 20, all of them right
    pictures(trainer, FINAL)
    assert "expected val_loader to give all of val_set in its order" in capfd.readouterr().err
    assert set(os.listdir(tmp_path)) == ALL - ANSWERS


def test_memory_grows_neither_with_pictures_times_classes_nor_with_its_square(tmp_path, capfd, quick):
    K, N = 4000, 1500  # probabilities of 48 MB; a table of 128 MB
    labels = random.permutation(K, 0, "labels")[:N].astype(np.int64)
    some = Dataset(some_pictures(N, 3, 9, 8), labels, ("ant",) * K)
    loaders = [Loader(some, 50, shuffle=False, view=CentreCrop(7)) for _ in range(2)]
    pictures = RunPictures(some, some, *loaders, search=50)
    trainer = SimpleNamespace(model=some_net(3, K), out=tmp_path, records=[], epochs=1)
    tracemalloc.start()
    pictures(trainer, FINAL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(os.listdir(tmp_path)) == ALL
    assert capfd.readouterr().err == ""
    assert peak < 30e6


def test_ctrl_c_is_no_failure(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "predictions", interrupted)
    pictures, trainer = a_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pictures(trainer, FINAL)


def test_without_a_folder_nothing_is_drawn_and_it_is_said_once(tmp_path, capfd):
    pictures, trainer = a_run(tmp_path)
    trainer.out = None
    for _ in range(2):
        pictures(trainer, FINAL)
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("train: warning: expected a Trainer with `out`")


def test_no_picture_to_search():
    with pytest.raises(ValueError, match="RunPictures: expected search to be at least 1, got 0"):
        a_run(None, search=0)


def test_before_an_epoch_is_over_some_pictures_come_at_most_once_a_minute(tmp_path, monkeypatch, quick):
    clock, drawn = [1000.0], []
    monkeypatch.setattr(run.time, "perf_counter", lambda: clock[0])
    pictures, trainer = a_run(tmp_path)
    monkeypatch.setattr(pictures, "_save", lambda trainer, file, draw: drawn.append((clock[0] - 1000, file)))
    for seconds, event in [(0, "step"), (59, "step"), (61, "step"), (100, "step"), (122, "step"), (123, "stopped")]:
        clock[0] = 1000 + seconds
        pictures.on_step(trainer, {"event": event, "step": 1})
    curves = [(seconds, "learning_curves.png") for seconds in (61, 122, 123)]
    assert sorted(drawn) == sorted([(61, "augmentation.png"), *curves])


def test_an_interrupted_run_has_its_curves_and_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "EARLY", 0.0)  # after the first step, too
    weights = []
    for folder, interrupted in (("straight", False), ("cut", True)):
        pictures, stand_in = a_run(tmp_path)
        trainer = Trainer(
            stand_in.model,
            optim.SGD(stand_in.model.parameters(), 0.05),
            pictures.train_loader,
            pictures.val_loader,
            epochs=1,
            out=tmp_path / folder,
            quiet=True,
            callbacks=[pictures, InterruptAfterAStep()] if interrupted else [],
        )
        if interrupted:
            with pytest.raises(KeyboardInterrupt, match="after step 1; everything is kept"):
                trainer.fit()
            assert set(os.listdir(tmp_path / folder)) >= {"learning_curves.png", "augmentation.png"}
            trainer.callbacks = ()
            trainer.fit(resume=tmp_path / folder)
        else:
            trainer.fit()
        weights.append(trainer.model.state_dict())
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


class InterruptAfterAStep:
    def __call__(self, trainer, record):
        raise AssertionError("no epoch comes to its end")

    def on_step(self, trainer, record):
        if record["event"] == "step":
            raise KeyboardInterrupt


# what the sheets get


@pytest.fixture
def given(monkeypatch, quick):
    """{function: arguments} of the sheets, which are drawn too."""
    arguments = {}
    for name in ("predictions", "draw_most_wrong", "confusion_matrix", "nearest_neighbours", "activation_maps"):
        _record(monkeypatch, arguments, name)
    for name in ("augmentation_sheet", "first_layer_kernels"):
        _record(monkeypatch, arguments, name)
    return arguments


def _record(monkeypatch, arguments, name):
    draw = getattr(run, name)

    def recording(*args):
        arguments[name] = args
        return draw(*args)

    monkeypatch.setattr(run, name, recording)


def test_the_sheets_get_what_belongs_together(tmp_path, given):
    pictures, trainer = a_run(tmp_path, search=15)
    pictures(trainer, FINAL)
    val_set, train_set, net = pictures.val_set, pictures.train_set, trainer.model.eval()

    def seen(dataset, indices):
        return (dataset.images[indices][:, :, 1:8, 0:7] / 255 - MEAN[:, None, None]) / STD[:, None, None]

    logits = net(seen(val_set, slice(None)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    images, (said, share, own), labels, classes = given["draw_most_wrong"]
    assert images is val_set.images
    np.testing.assert_array_equal(labels, val_set.labels)
    np.testing.assert_array_equal(said, logits.argmax(axis=1))
    np.testing.assert_allclose(share, probabilities.max(axis=1), rtol=NET)
    np.testing.assert_allclose(own, probabilities[np.arange(20), labels], rtol=NET)
    assert classes == val_set.classes
    np.testing.assert_array_equal(given["confusion_matrix"][0], labels)
    np.testing.assert_array_equal(given["confusion_matrix"][1], logits.argmax(axis=1))
    chosen = spread(val_set.labels, 8)
    assert not np.array_equal(chosen, np.sort(chosen))
    for got, expected in zip(given["predictions"], (images, probabilities, labels), strict=False):
        np.testing.assert_allclose(got, expected[chosen], rtol=NET)

    maps, picture = given["activation_maps"]
    assert list(maps) == ["conv1", "relu1", "pool1", "fc7", "relu7", "fc8"]
    np.testing.assert_array_equal(picture, val_set.images[chosen[0], :, 1:8, 0:7])  # its crop, not all of it
    np.testing.assert_allclose(maps["fc8"], logits[chosen[:1]], rtol=0, atol=NET)

    queries, neighbours, query_labels, neighbour_labels, _ = given["nearest_neighbours"]
    np.testing.assert_array_equal(queries, val_set.images[chosen[:5]])
    np.testing.assert_array_equal(query_labels, val_set.labels[chosen[:5]])
    searched = np.arange(0, 30, 2)  # 15 of 30
    through = Sequential({name: net[name] for name in list(net.layers)[:6]})
    ours, theirs = through(seen(val_set, chosen[:5])), through(seen(train_set, searched))
    distances = ((ours[:, None] - theirs) ** 2).sum(axis=2)
    order = searched[np.argsort(distances, axis=1, kind="stable")[:, :6]]
    np.testing.assert_array_equal(neighbour_labels, train_set.labels[order])
    np.testing.assert_array_equal(neighbours, train_set.images[order])


def test_the_picture_above_the_maps_is_the_first_of_ten_crops(tmp_path, given):
    pictures, trainer = a_run(tmp_path, view=TenCrop(7))
    pictures(trainer, FINAL)
    maps, picture = given["activation_maps"]
    x = (picture / 255 - MEAN[:, None, None]) / STD[:, None, None]
    np.testing.assert_allclose(maps["fc8"], trainer.model.eval()(x[None]), rtol=0, atol=NET)


def test_the_augmented_pictures_are_those_that_training_sees(tmp_path, given):
    pictures, trainer = a_run(tmp_path)
    pictures(trainer, FINAL)
    originals, versions, mean, std = given["augmentation_sheet"]
    chosen = spread(pictures.train_set.labels, 4)
    np.testing.assert_array_equal(originals, pictures.train_set.images[chosen])
    np.testing.assert_array_equal((mean, std), (MEAN, STD))
    for e in range(6):
        x = np.concatenate([x for x, _ in pictures.train_loader.epoch(e)])
        order = random.permutation(30, 5, "shuffle", step=e)
        for p, i in enumerate(chosen):
            np.testing.assert_array_equal(versions[e, p], x[list(order).index(i)])
    assert as_drawn(originals[0]).shape == (9, 8, 3)


@pytest.mark.parametrize(("groups", "O", "towers"), [((1, 1), 6, 1), ((1, 2), 6, 2), ((1, 4), 6, 1)])
def test_the_towers_of_the_kernels_are_the_nets(tmp_path, given, groups, O, towers):
    net = Sequential({"conv1": Conv2d(3, O, 3), "conv2": Conv2d(8 if groups[1] == 4 else O, 8, 1, groups=groups[1])})
    pictures, trainer = a_run(tmp_path, net=net)
    pictures(trainer, epoch(4))
    weight, drawn_towers = given["first_layer_kernels"]
    assert weight is net["conv1"].weight.data
    assert drawn_towers == towers


@pytest.mark.parametrize(
    ("labels", "count", "chosen"),
    [
        ([0, 0, 0, 1, 1, 2], 4, [0, 3, 5, 1]),
        ([2, 2, 0, 0], 8, [2, 0, 3, 1]),
        ([5, 4, 3, 2, 1, 0], 3, [5, 3, 1]),
        ([1], 2, [0]),
    ],
)
def test_pictures_of_as_many_classes_as_possible(labels, count, chosen):
    assert spread(np.array(labels), count).tolist() == chosen
