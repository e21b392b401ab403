import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plots.layout import assert_all_in_place, class_names, images, words
from plots.pictures import CLASSES, as_drawn, some_pictures, some_probabilities
from tinynet.plots import most_wrong


def test_the_lowest_probability_of_the_own_class_comes_first():
    pictures, probabilities = some_pictures(40), some_probabilities(40, 7)
    labels = np.arange(40) % 7
    figure = most_wrong(pictures, probabilities, labels, CLASSES, count=8)
    own = [probabilities[n, labels[n]] for n in range(40)]
    wrong = [n for n in range(40) if max(probabilities[n]) > own[n]]
    worst = sorted(wrong, key=lambda n: own[n])[:8]
    for image, n in zip(images(figure), worst, strict=True):
        np.testing.assert_array_equal(image, as_drawn(pictures[n]))
    said = [f"said {CLASSES[probabilities[n].argmax()]}" for n in worst]
    assert [word for word in words(figure) if word.startswith("said ")] == said
    assert [word for word in words(figure) if word.startswith("true ")] == [f"true {CLASSES[labels[n]]}" for n in worst]
    assert f"{len(wrong)} of 40 pictures wrong" in words(figure)
    assert_all_in_place(figure)


def test_both_percentages_stand_beside_their_classes():
    figure = most_wrong(some_pictures(1), [[0.02, 0.9, 0.08]], [0], ("ant", "bee", "cat"))
    assert words(figure)[2:] == ["said bee", "90 %", "true ant", "2.0 %"]


def test_right_answers_are_not_shown_even_if_unsure_and_a_tie_goes_to_the_lower_class():
    probabilities = [[0.4, 0.3, 0.3], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    figure = most_wrong(some_pictures(3), probabilities, [0, 0, 1], ("ant", "bee", "cat"))
    (image,) = images(figure)
    np.testing.assert_array_equal(image, as_drawn(some_pictures(3)[2]))


def test_of_equals_the_earlier_comes_first():
    figure = most_wrong(some_pictures(4), [[0.9, 0.1]] * 4, [1] * 4, ("ant", "bee"), count=2)
    for image, picture in zip(images(figure), some_pictures(4)[:2], strict=True):
        np.testing.assert_array_equal(image, as_drawn(picture))


def test_a_net_that_is_never_wrong():
    figure = most_wrong(some_pictures(2), np.eye(2), [0, 1], ("ant", "bee"))
    assert words(figure) == ["0 of 2 pictures wrong"]
    assert_all_in_place(figure)


@settings(max_examples=8)
@given(st.lists(class_names, min_size=2, max_size=7), st.integers(1, 8))
def test_any_names_stand_in_their_places(classes, N):
    K = len(classes)
    probabilities = some_probabilities(N, K)
    assert_all_in_place(most_wrong(some_pictures(N, 1, 3, 8), probabilities, probabilities.argmin(axis=1), classes))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="most_wrong: expected count to be at least 1, got 0"):
        most_wrong(some_pictures(1), [[0.5, 0.5]], [0], ("ant", "bee"), count=0)
    with pytest.raises(ValueError, match=r"most_wrong: expected probabilities of shape \(1, 2\)"):
        most_wrong(some_pictures(1), [[0.5, 0.25, 0.25]], [0], ("ant", "bee"))
