import os
import threading

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from plots.pictures import some_pictures, some_probabilities
from tinynet.plots import (
    activation_maps,
    augmentation_sheet,
    files,
    first_layer_kernels,
    learning_curves,
    most_wrong,
    nearest_neighbours,
    predictions,
    save_figure,
)


def test_a_figure_is_written_whole_under_any_name(tmp_path):
    figure = learning_curves([])
    path = tmp_path / "Kurven, 走る.png"
    save_figure(figure, path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (1260, 504))
    first = path.read_bytes()
    save_figure(learning_curves([]), path)
    assert path.read_bytes() == first
    save_figure(figure, tmp_path / "k.SVG")
    assert b"<svg" in (tmp_path / "k.SVG").read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, "k.SVG"])


@pytest.fixture(scope="module")
def photographs(shared_data):
    """(60, 3, 224, 224) uint8, of ten classes."""
    folders = sorted((shared_data / "photos").iterdir())
    found = [file for folder in folders for file in sorted(folder.iterdir())[:6]]
    return np.array([_decoded(file) for file in found])


def _decoded(file):
    with Image.open(file) as picture:
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (224, 224))).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [224, 64])
def test_a_sheet_of_photographs_has_less_than_400_kb(tmp_path, photographs, size):
    pictures = photographs
    if size < 224:
        small = [Image.fromarray(picture.transpose(1, 2, 0)).resize((size, size)) for picture in photographs]
        pictures = np.array([np.asarray(picture).transpose(2, 0, 1) for picture in small])
    labels, classes = np.arange(60) // 6, [f"class {k}" for k in range(10)]
    probabilities = some_probabilities(60, 10)
    sheets = {
        "predictions": predictions(pictures[::8], probabilities[::8], labels[::8], classes),
        "most_wrong": most_wrong(pictures, probabilities, labels, classes),
        # as many as RunPictures shows; no photograph twice, which would take less
        "nearest": nearest_neighbours(
            pictures[:5], pictures[5:35].reshape(5, 6, 3, size, size), labels[:5], labels[5:35].reshape(5, 6), classes
        ),
        "augmentation": augmentation_sheet(pictures[:4], pictures[4:28].reshape(6, 4, 3, size, size) / 255),
    }
    for name in sheets if size == 224 else ["nearest"]:  # the largest
        figure = sheets[name]
        path = tmp_path / f"{name}.png"
        save_figure(figure, path)
        assert 50_000 < path.stat().st_size < 400_000, name
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert picture.info["dpi"] == pytest.approx((120, 120), abs=0.1)
            found = np.asarray(picture.convert("RGB"), float)
        page = np.asarray(figure.canvas.buffer_rgba(), float)[..., :3]
        assert np.sqrt(((found - page) ** 2).mean()) < 9
        text = page.max(axis=2) - page.min(axis=2) == 0
        text[int(0.42 * 120) :] = False  # what stands above the photographs
        np.testing.assert_allclose(found[text], page[text], atol=12)


@pytest.mark.parametrize(("size", "mode"), [(23, "RGBA"), (110, "P")])
def test_small_pictures_whose_pixels_are_squares_lose_nothing(tmp_path, size, mode):
    pictures = some_pictures(35, 3, size, size)  # noise: the largest files that there are
    labels = np.zeros(35, np.int64)
    figure = nearest_neighbours(
        pictures[:5], pictures[5:].reshape(5, 6, 3, size, size), labels[:5], labels[5:].reshape(5, 6), ["ant"]
    )
    save_figure(figure, tmp_path / "sheet.png")
    figure.savefig(tmp_path / "plain.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.mode == mode
    sizes = [(tmp_path / name).stat().st_size for name in ("sheet.png", "plain.png")]
    assert sizes[0] == sizes[1] if mode == "RGBA" else sizes[0] < 0.5 * sizes[1]


def test_a_small_file_loses_nothing(tmp_path):
    figure = nearest_neighbours(some_pictures(1, 3, 80, 80), some_pictures(1, 3, 80, 80)[None], [0], [[0]], ["ant"])
    save_figure(figure, tmp_path / "sheet.png")
    figure.savefig(tmp_path / "plain.png")
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_maps_of_numbers_keep_all_their_shades(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 1000)
    maps = {"conv": np.linspace(-1, 1, 3 * 40 * 40).reshape(1, 3, 40, 40)}
    figure = activation_maps(maps, some_pictures(1, H=40, W=30)[0])
    save_figure(figure, tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGBA")), figure.canvas.buffer_rgba())


def test_what_cannot_be_written(tmp_path):
    for name in ("curves", "curves.doc"):
        with pytest.raises(ValueError, match=r"expected a suffix out of .*png.*, got"):
            save_figure(Figure(), tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        save_figure(Figure(), tmp_path / "file" / "k.png")


def test_threads_draw_at_once_and_nothing_global_is_touched(tmp_path):
    weight = np.random.default_rng(0).normal(size=(8, 3, 5, 5))
    save_figure(first_layer_kernels(weight), tmp_path / "alone.png")

    def draw(name):
        save_figure(first_layer_kernels(weight), tmp_path / name)

    threads = [threading.Thread(target=draw, args=[f"{i}.png"]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pictures = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(pictures) == ["0.png", "1.png", "2.png", "3.png", "alone.png"]
    assert len(set(pictures.values())) == 1
    assert not _pylab_helpers.Gcf.figs
