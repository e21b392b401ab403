import os
import threading

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from PIL import Image

from tinynet.plots import first_layer_kernels, learning_curves, save_figure


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
