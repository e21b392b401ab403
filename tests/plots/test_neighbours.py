import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plots.layout import assert_all_in_place, class_names, images, places, words
from plots.pictures import as_drawn, some_pictures
from tinynet.plots import nearest_neighbours
from tinynet.plots.page import axes_of_page

QUERIES, FOUND = some_pictures(2), some_pictures(6, stream="found").reshape(2, 3, 3, 5, 7)


def test_each_row_is_the_query_and_then_its_neighbours():
    figure = nearest_neighbours(QUERIES, FOUND, [1, 0], [[1, 0, 2], [0, 0, 1]], ("ant", "bee", "cat"))
    drawn = [QUERIES[0], *FOUND[0], QUERIES[1], *FOUND[1]]
    for image, picture in zip(images(figure), drawn, strict=True):
        np.testing.assert_array_equal(image, as_drawn(picture))
    assert words(figure)[3:] == ["bee", "bee", "✗ ant", "✗ cat", "ant", "ant", "ant", "✗ bee"]
    boxes = places(figure)
    frames = [patch.get_bbox().bounds for patch in axes_of_page(figure).patches]
    np.testing.assert_allclose(frames, [boxes[2], boxes[3], boxes[7]])  # around the pictures of another class
    lefts, tops = np.array(boxes)[:, 0].reshape(2, 4), np.array(boxes)[:, 1].reshape(2, 4)
    assert (np.diff(lefts) > boxes[0][2]).all()
    assert (lefts[0] == lefts[1]).all()
    assert (np.diff(tops) == 0).all()
    assert tops[1, 0] > tops[0, 0] + boxes[0][3]
    assert_all_in_place(figure)


@settings(max_examples=8)
@given(st.lists(class_names, min_size=1, max_size=7), st.integers(1, 2), st.integers(1, 4))
def test_any_names_stand_in_their_places(classes, Q, k):
    labels = np.arange(Q * k).reshape(Q, k) % len(classes)
    found = some_pictures(Q * k, 1, 9, 4).reshape(Q, k, 1, 9, 4)
    assert_all_in_place(nearest_neighbours(some_pictures(Q), found, labels[:, 0], labels, classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": QUERIES / 2}, r"expected queries as uint8 \(Q, C, H, W\)"),
        ({"neighbours": FOUND[0]}, r"expected neighbours as uint8 \(Q, k, C, H, W\).*got uint8 \(3, 3, 5, 7\)"),
        ({"neighbours": FOUND[:1], "neighbour_labels": [[0, 1, 1]]}, "neighbours of 2 queries, got those of 1"),
        ({"query_labels": [0, 2]}, r"expected query_labels in \[0, 2\)"),
        ({"neighbour_labels": [0, 1]}, r"expected neighbour_labels as whole numbers of shape \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fitting = {"queries": QUERIES, "neighbours": FOUND, "query_labels": [0, 1], "neighbour_labels": [[0, 1, 1]] * 2}
    with pytest.raises(ValueError, match=f"nearest_neighbours: .*{message}"):
        nearest_neighbours(**(fitting | change), classes=("ant", "bee"))
