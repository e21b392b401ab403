import math
import os
import threading

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from tinynet.plots import GAP, SHEET, first_layer_kernels, learning_curves, save_figure

RECORDS = [
    {"event": "start", "num_classes": 10, "epochs": 3},
    *(
        {"event": "step", "step": step, "train_loss": 2.5 - step / 100, "train_error": 0.8}
        for step in (1, 50, 100, 150)
    ),
    *(
        {
            "event": "epoch",
            "epoch": epoch,
            "step": 60 * epoch,
            "train_error": 0.9 - epoch / 5,
            "val_loss": 2 - epoch / 3,
            "val_top1_error": 0.8 - epoch / 5,
            "val_top5_error": 0.4 - epoch / 10,
        }
        for epoch in (1, 2, 3)
    ),
    {"event": "some later kind"},
    {"event": "final", "val_top1_error": 0.2},
]


def lines(axes):
    return {line.get_label(): np.array(line.get_xydata()) for line in axes.get_lines()}


def sheets(figure):
    return [axes.images[0].get_array() for axes in figure.axes]


def assert_nothing_is_clipped(figure):
    """All that is drawn lies inside of the picture, and no panel's labels run into the other panel."""
    figure.canvas.draw()
    drawn = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert 0 <= drawn.x0 < drawn.x1 <= width
    assert 0 <= drawn.y0 < drawn.y1 <= height
    first, second = (axes.get_tightbbox() for axes in figure.axes)
    assert not first.overlaps(second)


# learning curves


def test_the_curves_are_the_records():
    loss, error = learning_curves(RECORDS).axes
    np.testing.assert_allclose(lines(loss)["training"], [(1, 2.49), (50, 2), (100, 1.5), (150, 1)])
    np.testing.assert_allclose(lines(loss)["validation"], [(60, 5 / 3), (120, 4 / 3), (180, 1)])
    np.testing.assert_allclose(lines(error)["training, top-1"], [(1, 0.7), (2, 0.5), (3, 0.3)])
    np.testing.assert_allclose(lines(error)["validation, top-1"], [(1, 0.6), (2, 0.4), (3, 0.2)])
    np.testing.assert_allclose(lines(error)["validation, top-5"], [(1, 0.3), (2, 0.2), (3, 0.1)])


def test_chance_is_dotted():
    loss, error = learning_curves(RECORDS).axes
    for axes, label, level in ((loss, "chance, ln 10", math.log(10)), (error, "chance, top-1: 1 - 1/10", 0.9)):
        (line,) = (line for line in axes.get_lines() if line.get_label() == label)
        assert line.get_linestyle() == ":"
        assert list(line.get_ydata()) == [level, level]


def test_without_the_number_of_classes_no_chance_is_claimed():
    for axes in learning_curves(RECORDS[1:]).axes:
        assert not [label for label in lines(axes) if "chance" in label]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, len(RECORDS)])
def test_a_run_that_has_just_begun_is_legible(count):
    figure = learning_curves(RECORDS[:count])
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert_nothing_is_clipped(figure)


def test_one_epoch_has_whole_numbers_on_its_axis():
    _, error = learning_curves(RECORDS[:6]).axes
    low, high = error.get_xlim()
    assert [tick for tick in error.get_xticks() if low <= tick <= high] == [1]


def test_lines_differ_in_colour_and_in_style():
    for axes in learning_curves(RECORDS).axes:
        drawn = axes.get_lines()
        assert len({to_rgb(line.get_color()) for line in drawn}) == len(drawn)
        assert len({line.get_linestyle() for line in drawn}) == len(drawn)


# kernels


@pytest.mark.parametrize("channels", [1, 3])
def test_each_kernel_fills_the_range_and_stands_in_its_tower(channels):
    weight = np.random.default_rng(0).normal(5, 2, (20, channels, 3, 4)).astype(np.float32)  # H ≠ W
    figure = first_layer_kernels(weight)
    assert [axes.get_title() for axes in figure.axes] == ["tower 1: kernels 1 to 10", "tower 2: kernels 11 to 20"]
    for tower, sheet in enumerate(sheets(figure)):
        assert sheet.shape == (2 * (3 + GAP) + GAP, 8 * (4 + GAP) + GAP, 3)
        for i in range(10):
            kernel = weight[10 * tower + i]
            scaled = (kernel - kernel.min()) / (kernel.max() - kernel.min())
            top, left = GAP + i // 8 * (3 + GAP), GAP + i % 8 * (4 + GAP)
            drawn = sheet[top : top + 3, left : left + 4]
            np.testing.assert_allclose(drawn, np.broadcast_to(scaled.transpose(1, 2, 0), (3, 4, 3)), atol=1e-6)
        np.testing.assert_array_equal(sheet[0], np.tile(SHEET, (len(sheet[0]), 1)))  # the gaps
        np.testing.assert_array_equal(sheet[-3, -2], SHEET)  # the places left over
    assert_nothing_is_clipped(figure)


def test_a_constant_kernel_is_grey_and_the_weight_unchanged():
    weight = np.zeros((2, 3, 5, 5), np.float32)
    weight[1, :, 2, 2] = -1e-30
    before = weight.copy()
    first, second = sheets(first_layer_kernels(weight))
    assert (first[GAP:-GAP, GAP:-GAP] == 0.5).all()
    assert (second[GAP:-GAP, GAP:-GAP].min(), second[GAP:-GAP, GAP:-GAP].max()) == (0, 1)
    np.testing.assert_array_equal(weight, before)


def test_the_papers_96_kernels_are_two_blocks_of_three_rows():
    figure = first_layer_kernels(np.random.default_rng(0).normal(size=(96, 3, 11, 11)))
    assert [sheet.shape for sheet in sheets(figure)] == [(3 * 12 + 1, 16 * 12 + 1, 3)] * 2
    assert_nothing_is_clipped(figure)


def test_a_single_tower():
    figure = first_layer_kernels(np.random.default_rng(0).normal(size=(5, 1, 3, 3)), towers=1)
    assert [axes.get_title() for axes in figure.axes] == ["kernels 1 to 5"]


@pytest.mark.parametrize(
    ("shape", "towers", "message"),
    [
        ((8, 2, 3, 3), 2, r"C = 1 \(grey\) or 3 \(RGB\), got \(8, 2, 3, 3\)"),
        ((8, 3, 3), 2, r"expected weight of shape \(O, C, KH, KW\).*, got \(8, 3, 3\)"),
        ((0, 3, 3, 3), 2, r"got \(0, 3, 3, 3\)"),
        ((7, 3, 3, 3), 2, "expected towers to divide 7 kernels, got towers=2"),
        ((8, 3, 3, 3), 0, "got towers=0"),
    ],
)
def test_what_cannot_be_drawn(shape, towers, message):
    with pytest.raises(ValueError, match=message):
        first_layer_kernels(np.ones(shape), towers)


def test_weights_that_are_not_finite_cannot_be_drawn():
    with pytest.raises(ValueError, match="expected finite weights"):
        first_layer_kernels(np.full((2, 1, 3, 3), np.nan))


# files


def test_a_figure_is_written_whole_under_any_name(tmp_path):
    figure = learning_curves(RECORDS)
    path = tmp_path / "Kurven, 走る.png"
    save_figure(figure, path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (1260, 504))
    first = path.read_bytes()
    save_figure(learning_curves(RECORDS), path)
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
