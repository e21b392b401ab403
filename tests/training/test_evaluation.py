"""How good runs are: on their own pictures, on whole folders, on folders of other classes."""

import json
import shutil

import numpy as np
import pytest

import tinynet
from tinynet import data
from tinynet.cli import train
from tinynet.io.checkpoints import load_metadata, load_weights, save_weights
from tinynet.models import alexnet_mini
from tinynet.training.evaluate import evaluate
from tinynet.training.evaluate import predict as probabilities_and_labels
from tinynet.training.evaluation import LEARNED, OTHERS, evaluate_run
from training.album import CLASSES, draw_album

MINI = "--model", "alexnet_mini", "--image-size", 32, "--batch-size", 4, "--epochs", 1, "--lr", 0.003, "--quiet"
TINY = "--train-size", 40, "--val-size", 20, "--batch-size", 10, "--lr", 0.001, "--epochs", 1, "--quiet"


@pytest.fixture
def mine(tmp_path):
    """An album that a test may change."""
    return draw_album(tmp_path / "mine")


def last_epoch(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [record for record in records if record["event"] == "epoch"][-1]


def agrees(result, record):
    assert result.result.top1_error == record["val_top1_error"]
    assert result.result.loss == pytest.approx(record["val_loss"], rel=1e-6)


# a run's own pictures


@pytest.mark.parametrize("mean", ["channels", "picture"])
def test_training_evaluation_and_prediction_say_the_same(quick, mine, tmp_path, monkeypatch, mean):
    """The program's own validation loader, evaluate_run and predict: the same bits for each photograph."""
    seen = {}
    if mean == "picture":  # as for the paper's net
        monkeypatch.setattr(train, "input_scale", lambda args, train_set: with_mean_picture(train_set))
    real = train.Trainer
    monkeypatch.setattr(train, "Trainer", lambda *args, **options: seen.setdefault("run", real(*args, **options)))
    assert quick("--data", mine, *MINI, "--out", "run") == 0
    loader = seen["run"].val_loader
    expected, labels = probabilities_and_labels(seen["run"].model, loader)

    run = tinynet.load_run("run")
    assert run.preprocessing == tinynet.load_run("run/checkpoints/best.safetensors").preprocessing
    found = data.photos(mine, size=37)
    assert (run.preprocessing.mean.ndim == 3) == (mean == "picture")
    result = evaluate_run("run", batch_size=4)
    assert (result.pictures, result.warnings, result.absent) == (len(labels), (), ())
    assert [entry.path.name for entry in result.skipped] == ["broken.jpg", "notes.txt"]
    assert result.result == evaluate(seen["run"].model, loader)
    agrees(result, last_epoch(tmp_path / "run"))
    held_out = [path_of(image, mine) for image in found.validation.images]
    predicted = run.predict(held_out, batch_size=4)
    assert predicted.probabilities.tobytes() == expected.tobytes()


def with_mean_picture(train_set):
    return data.mean_picture(train_set).astype(np.float32).astype(np.float64), np.full(3, 1 / 255)


def path_of(image, folder):
    """Which of the files it is."""
    for path in folder.glob("*/*"):
        if path.suffix != ".txt" and path.stem != "broken":
            pixels = tinynet.data.photo.decode.read_square(path, image.shape[1])
            if (pixels == image).all():
                return path
    raise AssertionError("no file has this picture")


def test_shapes(quick, tmp_path):
    assert quick(*TINY, "--seed", 5, "--out", "run") == 0
    result = evaluate_run(tmp_path / "run")
    agrees(result, last_epoch(tmp_path / "run"))
    assert str(result).startswith("20 pictures, 1 net, centre crop: top-1 error ")
    assert (result.data, result.warnings) == ("shapes", ())
    more = evaluate_run("run", val_size=30)
    assert (more.pictures, more.warnings) == (30, (OTHERS,))
    assert evaluate_run("run", seed=6).warnings == (OTHERS,)
    two = evaluate_run(["run", tinynet.load_run("run")], "shapes", ten_crop=True)
    assert "20 pictures, 2 nets, ten crops" in str(two)


def idx_files(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for stem, count in (("train", 30), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{stem}-{kind}-ubyte").write_bytes(header + array.tobytes())


def test_a_named_set_is_found_where_the_run_had_it(quick, tmp_path, monkeypatch):
    idx_files(tmp_path / "files")
    options = "--data", "mnist", "--data-dir", "files", "--epochs", 1, "--batch-size", 8, "--lr", 0.001, "--val-size", 9
    assert quick(*options, "--quiet", "--out", "run") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = evaluate_run(tmp_path / "run")
    agrees(result, last_epoch(tmp_path / "run"))
    assert (result.pictures, result.absent, result.warnings) == (9, ("9",), ())
    assert evaluate_run(tmp_path / "run", whole=True).pictures == 12
    # weights of before do not tell the folder: config.json does
    metadata = load_metadata(tmp_path / "run")
    model = tinynet.load_run(tmp_path / "run").model
    for name in ("data_dir", "stored_size", "provenance"):
        del metadata[name]
    save_weights(tmp_path / "run" / "weights.safetensors", model, metadata)
    assert evaluate_run(tmp_path / "run").result == result.result
    shutil.move(tmp_path / "files", tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"t10k-images|train-images"):
        evaluate_run(tmp_path / "run")
    assert evaluate_run(tmp_path / "run", data_dir=tmp_path / "moved").result == result.result


def test_photographs_that_are_gone_or_others(quick, mine, tmp_path):
    assert quick("--data", mine, *MINI, "--out", "run") == 0
    mine.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"expected the run's pictures in .*mine, got nothing there.*--data"):
        evaluate_run("run")
    result = evaluate_run("run", tmp_path / "moved")
    agrees(result, last_epoch(tmp_path / "run"))
    assert result.warnings == ()
    (tmp_path / "moved" / "cats" / "grey.png").unlink()
    assert evaluate_run("run", tmp_path / "moved").warnings == (OTHERS,)
    with pytest.raises(
        FileNotFoundError, match=r"expected one of shapes, mnist, .* or a folder of class folders .*nowhere"
    ):
        evaluate_run("run", "nowhere")


# whole folders


def test_a_whole_folder(saved, mine):
    run = tinynet.load_run(saved(data=str(mine)))
    result = evaluate_run(run, mine, whole=True)
    assert result.pictures == 14
    assert result.warnings == (LEARNED,)
    assert evaluate_run(run, whole=True).pictures == 14
    everything = data.all_photos(mine, size=37).dataset
    assert result.result == evaluate(run.model, run.preprocessing.loader(everything))
    found = run.predict(mine, unreadable="skip")
    truth = [path.parent.name for path in found.paths]
    assert result.result.top1_error == np.mean([a != b for a, b in zip(found.labels, truth, strict=True)])


def test_a_test_folder_of_its_own_is_no_reason_to_warn(saved, mine, album):
    run = tinynet.load_run(saved(data=str(album), fingerprints={"train": [1], "validation": [2]}))
    assert evaluate_run(run, mine, whole=True).warnings == ()
    assert evaluate_run(run, mine).warnings == (OTHERS,)
    assert evaluate_run(run, album.parent / "album" / ".." / "album", whole=True).warnings == (LEARNED,)


def test_a_half_or_a_folder_beside_the_pictures_learned_from_may_have_been_learned(saved, mine, tmp_path):
    """Of a folder inside the run's own nobody knows whether it is the half that was held out."""
    halves = tmp_path / "halves"
    halves.mkdir()
    mine.rename(halves / "val")
    run = tinynet.load_run(saved(data=str(halves)))
    assert evaluate_run(run, halves / "val", whole=True).warnings == (OTHERS,)
    inside = tinynet.load_run(saved("inside", data=str(halves / "val")))
    (halves / "train").mkdir()
    for name in CLASSES:
        shutil.copytree(halves / "val" / name, halves / "train" / name)
    assert evaluate_run(inside, halves, whole=True).warnings == (LEARNED,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"val_size": 2}, "expected no val_size for a folder of photographs, got 2; leave it out"),
        ({"data_dir": "files"}, "expected no data_dir for a folder of photographs, got files"),
        ({"whole": True, "val_size": 2}, "expected no val_size for a folder of photographs, whole, got 2"),
        ({"data": "shapes", "whole": True, "val_size": 2}, "expected no val_size for shapes, whole, got 2"),
        ({"data": "shapes", "data_dir": "files"}, "expected no data_dir for shapes, got files"),
        ({"data": "MNIST", "whole": True, "val_size": 2}, "expected no val_size for mnist, whole, got 2"),
    ],
)
def test_what_would_choose_nothing_is_refused(saved, mine, options, text):
    run = tinynet.load_run(saved(data=str(mine)))
    with pytest.raises(ValueError, match=text):
        evaluate_run(run, **options)


def test_a_set_in_any_usual_spelling(saved):
    names = list(data.load("shapes", train_size=1, validation_size=1)[1].classes)
    run = saved(classes=names, num_classes=len(names), data="shapes", data_kind="shapes")
    assert evaluate_run(run, "SHAPES", val_size=12).result == evaluate_run(run, "shapes", val_size=12).result


def test_a_run_that_is_loaded_computes_where_it_is(saved, mine, monkeypatch):
    """Not where `devices` says, which is for runs that are given by their paths."""
    run, places = tinynet.load_run(saved(data=str(mine))), []
    real = type(run.preprocessing).loader
    monkeypatch.setattr(
        type(run.preprocessing),
        "loader",
        lambda self, *args, device, **how: places.append(device) or real(self, *args, **how),
    )
    evaluate_run(run, devices=("cuda:0",))
    assert places == ["cpu"]


def test_classes_are_compared_by_name(saved, mine):
    """A test folder that lacks classes, whose others have other numbers; and one with classes that the net lacks."""
    run = tinynet.load_run(saved("three", classes=["dogs", "ants", "cats"], num_classes=3))
    result = evaluate_run(run, mine, whole=True)
    assert result.absent == ("ants",)
    found = run.predict(mine, unreadable="skip")
    truth = [path.parent.name for path in found.paths]
    wrong = np.mean([a != b for a, b in zip(found.labels, truth, strict=True)])
    assert result.result.top1_error == wrong
    assert 0 < wrong < 1
    shutil.rmtree(mine / "cats")
    one = evaluate_run(run, mine, whole=True)
    assert (one.pictures, one.absent) == (7, ("ants", "cats"))
    (mine / "dogs").rename(mine / "wolves")
    with pytest.raises(
        ValueError, match=r"mine: expected pictures of the classes 'dogs', 'ants', 'cats', got some of 'wolves'"
    ):
        evaluate_run(run, mine, whole=True)


def test_a_grey_net_on_colour_photographs_and_a_small_set(saved, mine):
    digits = {"in_channels": 1, "image_size": 28, "data_kind": "mnist", "classes": list(CLASSES)}
    run = tinynet.load_run(saved(**digits))
    result = evaluate_run(run, mine, whole=True)
    found = run.predict(mine, unreadable="skip")
    truth = [path.parent.name for path in found.paths]
    assert result.result.top1_error == np.mean([a != b for a, b in zip(found.labels, truth, strict=True)])


# nets that do not fit each other


def test_nets_that_are_not_alike(saved, mine):
    first = saved("first", data=str(mine))
    for changes, text in [
        ({"classes": ["dogs", "cats"]}, "expected the same classes as in .*first, got others"),
        ({"std": [0.3, 0.3, 0.3]}, "expected the same std as in"),
        ({"num_classes": 4}, "expected the same num_classes as in"),
    ]:
        other = saved(text[-20:].strip().replace(" ", "-").replace(",", ""), **changes)
        with pytest.raises(ValueError, match=text):
            evaluate_run([first, other])
    with pytest.raises(ValueError, match=r"expected a run or a list of at least one, got an empty list"):
        evaluate_run([])


def test_a_run_that_does_not_tell_its_pictures(tmp_path, mine):
    about = {"model": "alexnet_mini", "num_classes": 2, "in_channels": 3, "image_size": 32, "classes": list(CLASSES)}
    about |= {"mean": [0.5] * 3, "std": [0.2] * 3, "stored_size": 37}
    save_weights(tmp_path / "w.safetensors", alexnet_mini(2), about)
    with pytest.raises(ValueError, match=r"expected a run that tells where its pictures are.*give --data"):
        evaluate_run(tmp_path / "w.safetensors")
    assert evaluate_run(tmp_path / "w.safetensors", mine, whole=True).pictures == 14


@pytest.mark.parametrize("fingerprints", [None, [1], "x", {}, 3])
def test_a_run_whose_fingerprints_are_odd(tmp_path, mine, fingerprints):
    about = {"model": "alexnet_mini", "num_classes": 2, "in_channels": 3, "image_size": 32, "classes": list(CLASSES)}
    about |= {"mean": [0.5] * 3, "std": [0.2] * 3, "stored_size": 37, "fingerprints": fingerprints}
    save_weights(tmp_path / "w.safetensors", alexnet_mini(2), about)
    with pytest.raises(ValueError, match=r"w\.safetensors: expected fingerprints of the run's pictures, got"):
        evaluate_run(tmp_path / "w.safetensors", mine)


def test_the_program_evaluates_a_run_without_being_told_its_data(quick, mine, capfd):
    assert quick("--data", mine, *MINI, "--out", "run") == 0
    capfd.readouterr()
    assert quick("--evaluate", "run") == 0
    output = capfd.readouterr()
    assert output.out.startswith("2 pictures, 1 net, centre crop: top-1 error ")
    assert "skipped" in output.err
    assert OTHERS not in output.err
    assert load_weights("run")["fc8.weight"].shape[0] == 2
