import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from plots.layout import assert_nothing_is_clipped
from tinynet.plots import learning_curves

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
            "train_loss": 2.2 - epoch / 3,
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


def test_the_curves_are_the_records():
    loss, error = learning_curves(RECORDS).axes
    np.testing.assert_allclose(lines(loss)["training"], [(1, 2.49), (50, 2), (100, 1.5), (150, 1)])
    np.testing.assert_allclose(
        lines(loss)["training, mean over the epoch"], [(60, 2.2 - 1 / 3), (120, 2.2 - 2 / 3), (180, 1.2)]
    )
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


@pytest.mark.parametrize(("num_classes", "drawn"), [(5, False), (6, True)])
def test_top_5_of_five_classes_is_not_drawn(num_classes, drawn):
    _, error = learning_curves([{"event": "start", "num_classes": num_classes}, *RECORDS[1:]]).axes
    assert ("validation, top-5" in lines(error)) is drawn
    assert "validation, top-1" in lines(error)


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


def test_huge_losses_do_not_press_the_others_flat():
    """Of a run that blew up; the highest is told in words."""
    huge = [{**record} for record in RECORDS]
    huge[4]["train_loss"], huge[-3]["val_loss"] = 4e7, 3.21e30
    figure = learning_curves(huge)
    loss, _ = figure.axes
    assert loss.get_ylim()[1] == pytest.approx(1.05 * 5 * math.log(10))
    assert loss.get_title() == "loss; 2 of 10 values lie above, up to 3.21e+30"
    assert_nothing_is_clipped(figure)
    usual, _ = learning_curves(RECORDS).axes
    assert usual.get_title() == "loss"
    assert 2.49 < usual.get_ylim()[1] < 5
