import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from plots.layout import assert_all_in_place, class_names, images, places, words
from plots.pictures import CLASSES, as_drawn, some_pictures, some_probabilities
from tinynet.plots import predictions
from tinynet.plots.page import BLUE, ORANGE


def bars(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("C", [1, 3])
def test_bars_are_the_five_largest_and_the_true_one_is_marked(C):
    pictures, probabilities, labels = some_pictures(6, C), some_probabilities(6, 7), np.arange(6)
    figure = predictions(pictures, probabilities, labels, CLASSES)
    for n, (picture, chart) in enumerate(zip(images(figure), figure.axes[1:], strict=True)):
        np.testing.assert_array_equal(picture, as_drawn(pictures[n]))
        likely = sorted(range(7), key=lambda k: -probabilities[n, k])[:5]
        drawn = sorted(bars(chart), key=lambda bar: bar.get_y())
        np.testing.assert_allclose([bar.get_width() for bar in drawn], probabilities[n, likely])
        assert [bar.get_hatch() is not None for bar in drawn] == [k == labels[n] for k in likely]
        assert [to_hex(bar.get_facecolor()).upper() for bar in drawn] == [
            ORANGE if k == labels[n] else BLUE for k in likely
        ]
        assert chart.get_xlim() == (0, 1)
        low, high = sorted(chart.get_ylim())
        assert low < drawn[0].get_y()
        assert drawn[-1].get_y() + drawn[-1].get_height() < high
        assert chart.yaxis_inverted()  # the likeliest on top
    assert_all_in_place(figure)


def test_names_and_percentages_stand_beside_their_bars():
    figure = predictions(some_pictures(1), np.array([[0.05, 0.25, 0.7]]), [1], ("ant", "bee", "cat"))
    assert words(figure)[1:] == ["bee", "cat", "70 %", "bee", "25 %", "ant", "5.0 %"]
    caption, *rows = list(figure.texts[1:])
    assert [text.get_fontweight() == "bold" for text in (caption, *rows)] == [
        True,
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    heights = [text.get_position()[1] for text in rows]
    assert heights[0] == heights[1] > heights[2] == heights[3] > heights[4] == heights[5]
    chart = figure.axes[1].get_position()
    assert heights[2] == pytest.approx((chart.y0 + chart.y1) / 2)  # the second of three


def test_two_classes_have_two_bars_and_of_equals_the_lower_comes_first():
    figure = predictions(some_pictures(1), [[0.5, 0.5]], [1], ("ant", "bee"))
    first, second = sorted(bars(figure.axes[1]), key=lambda bar: bar.get_y())
    assert (first.get_hatch(), second.get_hatch() is None) == (None, False)
    assert_all_in_place(figure)


@settings(max_examples=8)
@given(st.lists(class_names, min_size=2, max_size=7), st.integers(1, 5), st.sampled_from([(5, 7), (40, 3), (1, 9)]))
def test_any_names_and_shapes_stand_in_their_places(classes, N, size):
    K = len(classes)
    labels = np.arange(N) % K
    assert_all_in_place(predictions(some_pictures(N, 1, *size), some_probabilities(N, K), labels, classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": some_pictures(2).astype(float)}, r"expected pictures as uint8 \(N, C, H, W\).*got float64"),
        ({"pictures": some_pictures(2, 2)}, r"C = 1 \(grey\) or 3 \(RGB\), no size 0; got uint8 \(2, 2, 5, 7\)"),
        ({"pictures": some_pictures(2)[0]}, r"got uint8 \(3, 5, 7\)"),
        ({"pictures": some_pictures(0)}, r"got uint8 \(0, 3, 5, 7\)"),
        ({"probabilities": some_probabilities(2, 4)}, r"expected probabilities of shape \(2, 3\).*got \(2, 4\)"),
        ({"probabilities": np.full((2, 3), 0.5)}, "each row with the sum 1"),
        ({"probabilities": np.array([[-0.5, 1.5, 0], [0, 0, 1]])}, "in \\[0, 1\\]"),
        ({"probabilities": np.full((2, 3), np.nan)}, "take softmax of logits"),
        ({"labels": [0, 3]}, r"expected labels in \[0, 3\), for 3 classes; got from 0 to 3"),
        ({"labels": [-1, 2]}, "got from -1 to 2"),
        ({"labels": [0.0, 1.0]}, "expected labels as whole numbers of shape"),
        ({"labels": [0]}, r"of shape \(2,\), got int64 \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fitting = {"pictures": some_pictures(2), "probabilities": some_probabilities(2, 3), "labels": np.array([0, 2])}
    with pytest.raises(ValueError, match=f"predictions: .*{message}"):
        predictions(**(fitting | change), classes=("a", "b", "c"))


def test_the_arguments_are_unchanged():
    pictures, probabilities, labels = some_pictures(2), some_probabilities(2, 3), np.array([0, 2])
    copies = [array.copy() for array in (pictures, probabilities, labels)]
    predictions(pictures, probabilities, labels, ("a", "b", "c"))
    for array, copy in zip((pictures, probabilities, labels), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(("H", "W"), [(4, 40), (40, 3)])
def test_a_picture_is_not_distorted_and_stands_above_its_caption(H, W):
    figure = predictions(some_pictures(1, 3, H, W), [[1.0]], [0], ("a",))
    ((left, top, width, height),) = places(figure)
    assert width / height == pytest.approx(W / H)
    caption = figure.texts[1].get_position()
    page_width, page_height = figure.get_size_inches()
    assert left + width / 2 == pytest.approx(caption[0] * page_width)
    assert 0 < (1 - caption[1]) * page_height - (top + height) < 0.1


def test_the_cells_do_not_overlap():
    figure = predictions(some_pictures(6), some_probabilities(6, 7), np.arange(6), CLASSES)
    boxes = [axes.get_position() for axes in figure.axes[1:]]
    assert len({(round(box.x0, 6), round(box.y0, 6)) for box in boxes}) == 6
    page_height = figure.get_size_inches()[1]
    for (_, top, _, height), box in zip(places(figure), boxes, strict=True):
        assert top + height < (1 - box.y1) * page_height
