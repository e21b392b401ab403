"""What nets say to pictures: to the bit what evaluation computes, whatever kind of picture it is and whoever asks."""

import threading

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import data, models
from tinynet.data.photo.decode import PictureError
from tinynet.io.checkpoints import load_metadata
from tinynet.layers import Flatten, Linear, Sequential
from tinynet.training.evaluate import evaluate
from tinynet.training.evaluate import predict as probabilities_and_labels
from tinynet.training.predictions import Predictions
from tinynet.training.preprocessing import Preprocessing, pack_mean
from training.album import CLASSES, scene


def same(a, b):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    return a.tobytes() == b.tobytes()


def readable(album):
    return sorted(path for path in album.glob("*/*") if path.suffix != ".txt" and path.stem != "broken")


@pytest.mark.parametrize("ten_crop", [False, True])
@pytest.mark.parametrize("batch_size", [5, 64])
@pytest.mark.parametrize("mean", ["channels", "picture"])
def test_the_same_bits_as_evaluation(album, saved, mean_picture, mean, batch_size, ten_crop):
    """Evaluation as it was before there was a predict: the photographs through the cache, crops and scale by hand."""
    changes = {} if mean == "channels" else {"mean": mean_picture, "std": [1 / 255] * 3}
    run = tinynet.load_run(saved(**changes))
    dataset = data.all_photos(album, size=37).dataset
    view = data.TenCrop(32) if ten_crop else data.CentreCrop(32)
    scale = {"mean": run.preprocessing.mean, "std": run.metadata["std"]}
    loader = data.Loader(dataset, max(1, batch_size // view.views), shuffle=False, view=view, **scale)
    expected, labels = probabilities_and_labels(run.model, loader)
    found = run.predict(readable(album), ten_crop=ten_crop, batch_size=batch_size)
    assert same(found.probabilities, expected)
    assert len(np.unique(expected[:, 0])) == 14  # not the same answer to any two
    assert found.labels == [CLASSES[i] for i in expected.argmax(axis=1)]
    wrong = np.mean(found.indices != labels)
    assert evaluate(run.model, loader).top1_error == pytest.approx(wrong)


def test_unreadable_files_do_not_move_the_others_to_other_batches(album, saved):
    run = tinynet.load_run(saved())
    expected = run.predict(readable(album), batch_size=5)
    found = run.predict(album, batch_size=5, unreadable="skip")
    assert same(found.probabilities, expected.probabilities)
    assert list(found.paths) == readable(album)
    assert [path.name for path, _ in ((entry.path, entry.reason) for entry in found.skipped)] == ["broken.jpg"]
    with pytest.raises(PictureError, match=r"broken\.jpg: "):
        run.predict(album)
    nothing = run.predict([album / "cats" / "broken.jpg"], unreadable="skip")
    assert (len(nothing), nothing.probabilities.shape, nothing.paths, len(nothing.skipped)) == (0, (0, 2), (), 1)
    assert "0 pictures" in repr(nothing)


def test_whatever_form_the_pictures_have(album, saved):
    run, files = tinynet.load_run(saved()), [path for path in readable(album) if path.stem != "large and turned"]
    expected = run.predict(files).probabilities
    stored = np.stack([run.preprocessing.read(path) for path in files])
    images = [Image.open(path) for path in files]
    dataset = data.Dataset(stored, np.zeros(len(files), np.int64), CLASSES)
    loader = run.preprocessing.loader(dataset)
    forms = {
        "text": [str(path) for path in files],
        "an iterator of paths": iter(files),
        "Pillow images": images,
        "an array": stored,
        "arrays": list(stored),
        "a set": dataset,
        "a loader": loader,
        "batches": list(loader.epoch(0)),
        "an iterator of batches": loader.epoch(0),
        "what the net gets": next(loader.epoch(0))[0],
        "of all kinds": [files[0], str(files[1]), images[2], *stored[3:]],
    }
    for name, form in forms.items():
        found = run.predict(form)
        assert same(found.probabilities, expected), name
        assert (found.paths is None) == (name not in ("text", "an iterator of paths", "of all kinds")), name
        assert found.classes == CLASSES, name
    assert run.predict(forms["of all kinds"]).paths == (*files[:2], *[None] * (len(files) - 2))
    for image in images:
        image.close()
    for one in (files[0], str(files[0]), stored[0], stored[:1]):
        assert run.predict(one).probabilities.shape == (1, 2)
        np.testing.assert_allclose(run.predict(one).probabilities[0], expected[0], rtol=1e-5)


def test_one_opened_picture_several_times(album, saved):
    """It is read once, when first needed, though pictures are prepared in threads."""
    run = tinynet.load_run(saved())
    for path in readable(album):
        with Image.open(path) as image:
            found = run.predict([image] * 8).probabilities
        assert (found == found[0]).all(), path


@pytest.mark.parametrize(("images", "got"), [([1, 2], "a list of int"), ([(1, 2, 3)], "a list of tuple")])
def test_what_is_neither_a_picture_nor_a_batch(saved, images, got):
    with pytest.raises(TypeError, match=f"predict: expected images as a picture's path, .*; got {got}"):
        tinynet.load_run(saved()).predict(images)


def test_pictures_of_other_sizes_are_scaled(saved):
    run, pixels = tinynet.load_run(saved()), scene(90, 60, 3)
    expected = run.predict(Image.fromarray(pixels)).probabilities
    assert same(run.predict(pixels.transpose(2, 0, 1)).probabilities, expected)
    large = data.Dataset(pixels.transpose(2, 0, 1)[None].copy(), np.array([2]), ("x", "y", "more than the net knows"))
    assert same(run.predict(large).probabilities, expected)


def test_the_model_of_a_run_knows_its_preprocessing(album, saved):
    run = tinynet.load_run(saved())
    expected = run.predict(readable(album)).probabilities
    run.model.train()
    assert same(tinynet.predict(run.model, readable(album)).probabilities, expected)
    assert run.model.training  # it is left in its own mode


def test_another_net_needs_to_be_told(album):
    net = models.alexnet_mini(2)
    with pytest.raises(
        ValueError, match=r"expected a model that knows how pictures become its input.*pass preprocessing"
    ):
        tinynet.predict(net, readable(album))
    told = Preprocessing(32, 40, 3, [0.5, 0.4, 0.3], [0.2, 0.2, 0.2], CLASSES)
    found = tinynet.predict(net, readable(album), preprocessing=told)
    dataset = data.all_photos(album, size=40).dataset
    assert same(found.probabilities, probabilities_and_labels(net, told.loader(dataset))[0])
    plain = Sequential({"flatten": Flatten(), "fc": Linear(12, 3)})
    prepared = np.random.default_rng(0).normal(size=(7, 3, 2, 2)).astype(np.float32)
    found = tinynet.predict(plain, prepared, batch_size=3)
    assert (found.classes, found.probabilities.shape) == (("output 0", "output 1", "output 2"), (7, 3))
    logits = prepared.reshape(7, 12) @ plain["fc"].weight.data.T + plain["fc"].bias.data
    np.testing.assert_array_equal(found.indices, logits.argmax(axis=1))


def test_several_nets_answer_together(album, saved):
    one, other = (tinynet.load_run(saved(name, seed=seed)) for name, seed in (("one", 0), ("other", 1)))
    dataset = data.all_photos(album, size=37).dataset
    expected, _ = probabilities_and_labels([one.model, other.model], one.preprocessing.loader(dataset))
    assert same(tinynet.predict([one, other], readable(album)).probabilities, expected)
    assert same(tinynet.predict([one.model, other], readable(album)).probabilities, expected)
    mean = (one.predict(readable(album)).probabilities + other.predict(readable(album)).probabilities) / 2
    np.testing.assert_allclose(expected, mean, rtol=1e-12)
    odd = tinynet.load_run(saved("odd", classes=["dogs", "cats"], std=[0.2, 0.2, 0.2]))
    with pytest.raises(ValueError, match="some that differ in classes, std; predict with each alone"):
        tinynet.predict([one, odd], readable(album))


def test_two_towers(album, saved):
    folder = saved()
    whole, split = tinynet.load_run(folder), tinynet.load_run(folder, devices=("cpu", "cpu"))
    expected = whole.predict(readable(album)).probabilities
    np.testing.assert_allclose(split.predict(readable(album)).probabilities, expected, rtol=1e-4)


def test_a_grey_net(tmp_path, saved):
    digits = {"in_channels": 1, "image_size": 28, "data_kind": "mnist", "num_classes": 10}
    run = tinynet.load_run(saved(**digits, classes=[str(i) for i in range(10)]))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, digit in zip(paths, pixels, strict=True):
        Image.fromarray(digit[0]).save(path)
    dataset = data.Dataset(pixels, np.zeros(6, np.int64), run.classes)
    loader = data.Loader(dataset, 64, shuffle=False, mean=run.metadata["mean"], std=run.metadata["std"])
    expected, _ = probabilities_and_labels(run.model, loader)
    assert same(run.predict(paths).probabilities, expected)
    assert same(run.predict(pixels).probabilities, expected)
    Image.fromarray(scene(40, 50, 1)).save(tmp_path / "colour.jpg")
    assert run.predict(tmp_path / "colour.jpg").probabilities.shape == (1, 10)


def test_more_outputs_than_classes(saved, album):
    found = tinynet.load_run(saved(num_classes=4)).predict(readable(album)[:3])
    assert found.classes == ("cats", "dogs", "output 2", "output 3")
    assert found.probabilities.shape == (3, 4)


def test_a_folder_is_its_picture_files_in_the_order_of_their_paths(tmp_path, saved):
    for name in ("b/2.png", "b/10.JPG", "a.bmp", "c.txt", ".hidden.png", ".thumbs/d.png", "@eaDir/e.png", "no ending"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(20, 20, len(name))).save(path, format="PNG")
    run = tinynet.load_run(saved())
    found = run.predict(tmp_path / "mine")
    assert [path.relative_to(tmp_path / "mine").as_posix() for path in found.paths] == ["a.bmp", "b/10.JPG", "b/2.png"]
    more = run.predict([tmp_path / "mine" / "no ending", str(tmp_path / "mine")])
    assert [path.name for path in more.paths] == ["no ending", "a.bmp", "10.JPG", "2.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected picture files in .*none, such as .*, got none"):
        run.predict(tmp_path / "none")


@pytest.mark.parametrize(
    ("images", "options", "kind", "message"),
    [
        ([], {}, ValueError, "expected at least one picture, got none"),
        (
            np.empty((0, 3, 9, 9), np.uint8),
            {},
            ValueError,
            r"at least one picture, got an array of shape \(0, 3, 9, 9\)",
        ),
        (7, {}, TypeError, "expected images as a picture's path, a folder, .*; got int"),
        (["gone.jpg"], {}, PictureError, "gone.jpg: cannot be opened: No such file or directory"),
        (["gone.jpg", 7], {}, TypeError, "expected each of the images as a path, an image or an array, got 7"),
        (np.zeros((9, 9), np.uint8), {}, ValueError, r"expected pixels, uint8 \(N, C, H, W\).* got uint8 \(9, 9\)"),
        (np.zeros((1, 3, 9, 9), np.int32), {}, ValueError, r"got int32 \(1, 3, 9, 9\)"),
        (np.zeros((9, 9, 3), np.uint8), {}, ValueError, r"\.transpose\(2, 0, 1\) puts the channels first"),
        (np.zeros((2, 3, 32, 32)), {"ten_crop": True}, ValueError, "ten_crop for pictures, got it for batches"),
        (["a.jpg"], {"batch_size": 0}, ValueError, "batch_size as a whole number of at least 1, got 0"),
        (["a.jpg"], {"unreadable": "ignore"}, ValueError, "unreadable as 'raise' or 'skip', got 'ignore'"),
    ],
)
def test_what_it_cannot_use(saved, monkeypatch, tmp_path, images, options, kind, message):
    monkeypatch.chdir(tmp_path)
    run = tinynet.load_run(saved())
    with pytest.raises(kind, match=message):
        run.predict(images, **options)


def test_what_is_no_model(album):
    for model, kind, message in [
        (7, TypeError, "expected a Layer, a LoadedRun or a list of these, got int"),
        (["net"], TypeError, "expected models that are a Layer or a LoadedRun, got str"),
        ([], ValueError, "expected a model or a list of at least one, got an empty list"),
    ]:
        with pytest.raises(kind, match=message):
            tinynet.predict(model, album)


def test_no_thread_is_left_after_an_error(album, saved):
    run = tinynet.load_run(saved())
    kept = []
    for images in ([*readable(album), "gone.jpg"], album):
        with pytest.raises(PictureError) as caught:
            run.predict(images, batch_size=1)
        kept.append(caught)  # and its traceback
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tinynet loader")]


def test_memory_does_not_grow_with_the_number_of_files(album, saved, monkeypatch):
    """No more pictures are read ahead than a few a thread and those of a batch."""
    run, seen, most = tinynet.load_run(saved()), [0, 0], []
    read, loader = Preprocessing.read, Preprocessing.loader

    def reading(self, path):
        seen[0] += 1
        return read(self, path)

    def loading(self, dataset, **options):
        seen[1] += len(dataset)
        most.append(seen[0] - seen[1])
        return loader(self, dataset, **options)

    monkeypatch.setattr(Preprocessing, "read", reading)
    monkeypatch.setattr(Preprocessing, "loader", loading)
    found = run.predict(readable(album) * 20, batch_size=4)
    assert len(found) == seen[1] == 280
    assert max(most) <= tinynet.get_num_threads() + 1


# the answers


def answers():
    return Predictions(np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4]]), ("a", "b", "c"))


def test_the_likeliest_classes():
    found = answers()
    assert found.top(2) == [[("b", 0.7), ("c", 0.2)], [("a", 0.4), ("c", 0.4)]]
    assert found.top() == [[("b", 0.7), ("c", 0.2), ("a", 0.1)], [("a", 0.4), ("c", 0.4), ("b", 0.2)]]
    assert found.labels == ["b", "a"]
    assert found.indices.tolist() == [1, 0]
    with pytest.raises(ValueError, match="expected k as a whole number of at least 1, got 0"):
        found.top(0)


def test_as_a_sequence():
    found = answers()
    assert len(found) == 2
    assert list(found) == found.top()
    assert found[1] == found[-1] == found.top()[1]
    assert found[:1].labels == ["b"]
    with pytest.raises(IndexError, match=r"expected a picture's number in \[0, 2\), got 2"):
        found[2]


def test_as_text(album, saved):
    found = tinynet.load_run(saved()).predict(album, unreadable="skip")
    lines = repr(found).splitlines()
    assert lines[0] == "Predictions of 14 pictures, 2 classes"
    name, text = lines[1].rsplit("  ", 1)
    assert name.strip() == str(found.paths[0])
    (first, p), (second, q) = found[0]
    assert text == f"{first} {p:.1%}, {second} {q:.1%}"
    assert lines[11] == "  and 4 more"
    assert lines[12].startswith(f"  skipped {album / 'cats' / 'broken.jpg'}: ")
    assert repr(answers()).splitlines()[2] == "  picture 1  a 40.0%, c 40.0%, b 20.0%"


# real nets and real photographs


@pytest.mark.parametrize("kind", ["photos-varied", "oddities"])
def test_real_photographs(shared_data, saved, tmp_path, mean_picture, kind):
    """A net of the small kind and one with the paper's mean picture, on photographs of all sizes and kinds."""
    folder, files = tmp_path / "some", sorted((shared_data / kind).rglob("*"))
    files = [path for path in files if path.is_file() and path.suffix != ".csv"][: 120 if kind == "oddities" else 40]
    for i, path in enumerate(files):
        (folder / CLASSES[i % 2]).mkdir(parents=True, exist_ok=True)
        (folder / CLASSES[i % 2] / path.name).write_bytes(path.read_bytes())
    cached = data.all_photos(folder, size=37)
    runs = tinynet.load_run(saved()), tinynet.load_run(saved("paper", mean=mean_picture, std=[1 / 255] * 3))
    for run in runs:
        expected, _ = probabilities_and_labels(run.model, run.preprocessing.loader(cached.dataset, 16))
        found = run.predict(folder, batch_size=16, unreadable="skip")
        assert same(found.probabilities, expected)
        assert [entry.path for entry in found.skipped] == [entry.path for entry in cached.skipped]


def test_the_papers_net_itself(album, tmp_path):
    """61 million parameters, crops of 227 from 256, the mean picture: half a minute's worth in a few seconds."""
    from tinynet.io.checkpoints import save_weights

    mean = np.random.default_rng(0).uniform(0.3, 0.6, (3, 256, 256)).astype(np.float32)
    about = {"model": "alexnet", "preset": "paper", "num_classes": 2, "in_channels": 3, "image_size": 227}
    about |= {"mean": pack_mean(mean), "std": [1 / 255] * 3, "classes": list(CLASSES), "data_kind": "photos"}
    save_weights(tmp_path / "weights.safetensors", models.alexnet("paper", 2, seed=3), about)
    run = tinynet.load_run(tmp_path)
    assert load_metadata(tmp_path) == run.metadata == about
    cached = data.all_photos(album, size=256).dataset
    view = data.CentreCrop(227)
    loader = data.Loader(cached, 7, shuffle=False, view=view, mean=mean.astype(np.float64), std=[1 / 255] * 3)
    expected, _ = probabilities_and_labels(run.model, loader)
    assert same(run.predict(readable(album), batch_size=7).probabilities, expected)
    assert np.ptp(expected[:, 0]) > 1e-4
