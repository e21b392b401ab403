import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plots.layout import assert_all_in_place, class_names, words
from tinynet import random
from tinynet.plots import confusion_matrix, count_confusion


def answers(N, K):
    return tuple((random.bits(N, 0, stream) % K).astype(np.int64) for stream in ("labels", "predicted"))


@given(st.integers(1, 6).flatmap(lambda K: st.tuples(st.just(K), st.lists(st.tuples(*[st.integers(0, K - 1)] * 2)))))
def test_counts(case):
    K, pairs = case
    labels, predicted = (np.array([pair[i] for pair in pairs], np.uint8) for i in (0, 1))
    counts = count_confusion(labels, predicted, K)
    expected = [[pairs.count((i, j)) for j in range(K)] for i in range(K)]
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64


def test_each_cell_says_its_count_and_its_share_of_the_row():
    labels, predicted = [0] * 8 + [1] * 3, [0] * 7 + [1] + [0, 1, 1]
    figure = confusion_matrix(labels, predicted, ("ant", "bee", "cat"))
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[7 / 8, 1 / 8, 0], [1 / 3, 2 / 3, 0], [0, 0, 0]])
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "7\n88 %", (1, 0): "1\n12 %", (0, 1): "1\n33 %", (1, 1): "2\n67 %"}
    assert {"9 of 11 pictures right", "ant (8)", "bee (3)", "cat (0)", "ant", "bee", "cat"} <= set(words(figure))
    assert_all_in_place(figure)


def test_rows_and_columns_have_their_names():
    figure = confusion_matrix([0, 1], [1, 1], ("ant", "bee"))
    place = {text.get_text(): text.get_position() for text in figure.texts}
    assert place["ant (1)"][1] > place["bee (1)"][1]  # row 0 is on top
    assert place["ant"][0] < place["bee"][0]
    box = figure.axes[0].get_position()
    for name, share in (("ant", 0.25), ("bee", 0.75)):
        assert place[name][0] == pytest.approx(box.x0 + share * box.width)
        assert place[f"{name} (1)"][1] == pytest.approx(box.y1 - share * box.height)


@pytest.mark.parametrize("K", [1, 2, 7, 20, 21, 100, 200])
def test_from_one_class_to_two_hundred(K):
    labels, predicted = answers(3 * K, K)
    classes = [f"class with the number {k}" for k in range(K)]
    figure = confusion_matrix(labels, predicted, classes)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array().sum(axis=1), np.isin(np.arange(K), labels))
    assert (len(figure.axes[0].texts) > 0) == (K <= 20)
    assert {"true class (pictures)", "the net's answer"} <= set(words(figure))
    if K >= 100:
        names = [word for word in words(figure) if word.startswith("class wi") and "(" not in word]
        assert 10 < len(names) < 80
        pixels = figure.axes[0].get_window_extent()
        assert min(pixels.width, pixels.height) >= 3 * K
    assert figure.get_size_inches()[0] * figure.dpi <= 1600
    assert_all_in_place(figure)


@pytest.mark.parametrize(("K", "block", "rows"), [(201, 2, 101), (400, 2, 200), (1000, 5, 200), (1003, 6, 168)])
def test_more_classes_are_summed_into_blocks(K, block, rows):
    labels, predicted = answers(2 * K, K)
    predicted[::3] = labels[::3]
    predicted[1::3] = labels[1::3] ^ 1  # mostly in the same block, and wrong
    predicted = np.minimum(predicted, K - 1)
    figure = confusion_matrix(labels, predicted, [f"class {k}" for k in range(K)])
    counts = np.zeros((rows, rows))
    for label, answer in zip(labels, predicted, strict=True):
        counts[label // block, answer // block] += 1
    of_row = counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), counts / np.maximum(of_row, 1))
    right = int((labels == predicted).sum())
    assert right < np.trace(counts)
    said = words(figure)
    assert f"{right:,} of {2 * K:,} pictures right" in said
    assert f"true class (pictures): {block} classes a row, named by the first" in said
    assert f"the net's answer: {block} classes a column, named by the first" in said
    number = {k: f"class {k}" for k in range(K)}
    shown = sorted(k for k, name in number.items() if name in said)
    assert len(shown) > 10
    assert {k % block for k in shown} == {0}
    box = figure.axes[0].get_position()
    place = {text.get_text(): text.get_position() for text in figure.texts}
    for k in shown:
        assert place[number[k]][0] == pytest.approx(box.x0 + (k // block + 0.5) / rows * box.width)
        assert f"{number[k]} ({int(of_row[k // block, 0])})" in said
    assert_all_in_place(figure)


def test_no_row_or_column_is_left_out_of_the_drawing():
    K = 3000
    for flip in (False, True):  # every answer is class 1500, which had vanished; then every picture is of class 1500
        pair = np.arange(K), np.full(K, 1500)
        figure = confusion_matrix(*(pair[::-1] if flip else pair), [str(k) for k in range(K)])
        figure.canvas.draw()
        page = np.asarray(figure.canvas.buffer_rgba())[..., 0].astype(int)
        box = figure.axes[0].get_window_extent()
        cells = page[len(page) - int(box.y1) + 2 : len(page) - int(box.y0) - 2, int(box.x0) + 2 : int(box.x1) - 2]
        middle = cells.shape[1] // 2
        if flip:  # 1/200 of the row in each cell
            assert (cells[middle - 2 : middle + 5].min(axis=0) < 245).all()
        else:
            assert (cells[:, middle - 2 : middle + 5].min(axis=1) < 60).all()
        assert (cells > 246).mean() > 0.98


def test_memory_does_not_grow_with_the_square_of_the_classes():
    K = 5000  # K * K counts: 200 MB
    labels, predicted = answers(2000, K)
    tracemalloc.start()
    confusion_matrix(labels, predicted, ["ant"] * K).canvas.draw()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_labels_of_a_narrow_type_and_classes_beyond_it():
    figure = confusion_matrix(
        np.array([255, 3], np.uint8), np.array([255, 7], np.uint8), [str(k) for k in range(90_000)]
    )
    shares = figure.axes[0].images[0].get_array()
    assert (shares.shape, shares[0, 0], shares.sum()) == ((200, 200), 1, 1)


def test_long_names_do_not_make_the_page_larger():
    labels = np.arange(20)
    figure = confusion_matrix(labels, labels, ["m" * 100] * 20)
    assert (figure.get_size_inches() * figure.dpi <= 1600).all()
    assert_all_in_place(figure)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1"), (12_345, "12,345"), (99_999, "99,999"), (123_456, "123 k"), (1_000_000, "1 M")]
)
def test_large_counts_fit_into_their_cells(count, shown):
    labels = np.zeros(count, np.int64)
    figure = confusion_matrix(labels, labels, [str(k) for k in range(20)])
    assert figure.axes[0].texts[0].get_text() == f"{shown}\n100 %"
    assert f"0 ({shown})" in words(figure)


def test_dark_cells_have_white_numbers():
    figure = confusion_matrix([0] * 10 + [1] * 2, [0] * 9 + [1] + [0, 1], ("ant", "bee"))
    colours = [text.get_color() for text in figure.axes[0].texts]
    assert colours == ["white", "black", "black", "black"]


@settings(max_examples=8)
@given(st.lists(class_names, min_size=1, max_size=24))
def test_any_names_stand_in_their_places(classes):
    assert_all_in_place(confusion_matrix(*answers(400, len(classes)), classes))


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"confusion_matrix: expected labels in \[0, 2\), for 2 classes; got from 0 to 2"
    ):
        confusion_matrix([0, 2], [0, 1], ("a", "b"))
    with pytest.raises(ValueError, match=r"expected predicted as whole numbers of shape \(2,\), got int64 \(3,\)"):
        count_confusion([0, 1], [0, 1, 1], 2)
    with pytest.raises(ValueError, match="expected labels as whole numbers"):
        count_confusion([[0, 1]], [[0, 1]], 2)
    assert count_confusion([0, 999], [999, 999], 1000)[:, 999].nonzero()[0].tolist() == [0, 999]
    with pytest.raises(
        ValueError, match=r"count_confusion: expected at most 1,000 classes.*got 2,001; .* labels // 3 "
    ):
        count_confusion([0], [0], 2001)
    with pytest.raises(ValueError, match="expected at least one picture, got none"):
        confusion_matrix(np.zeros(0, int), np.zeros(0, int), ("a", "b"))
