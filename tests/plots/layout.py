"""What holds for every page: nothing lies outside of it, and no two texts run into each other."""

import numpy as np
from hypothesis import strategies as st
from matplotlib.image import AxesImage
from matplotlib.text import Text

from tinynet.plots.page import axes_of_page

UGLY = (
    "a very long name of a class indeed, which does not end before the page does",
    r"$\frac{a}{b}$_x^2",
    "$",
    "100 %_{",
    "走る犬",
    "",
    " \t\n",
    "two\nlines",
    "naïve café",
    "שלום",
    "\ud800\x00\x1b[1m",
    "e" + 40 * "\u0301",
    "m" * 500,
    "\u202eabc\u200b",
)
class_names = st.one_of(st.sampled_from(UGLY), st.text(st.characters(exclude_categories=()), max_size=40))


def shown_texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def words(figure):
    return [text.get_text() for text in shown_texts(figure)]


def assert_all_in_place(figure):
    """All texts lie inside of the page, do not overlap by more than a pixel, and can be drawn; to be called last."""
    for image in figure.findobj(AxesImage):
        image.set_visible(False)  # they take most of the time
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in shown_texts(figure)]
    boxes = np.array([(box.x0, box.y0, box.x1, box.y1) for box in extents])
    width, height = figure.get_size_inches() * figure.dpi
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    assert [text for text, out in zip(words(figure), outside, strict=True) if out] == []
    low, high = boxes[:, None, :2] + 1, boxes[None, :, 2:]
    overlaps = (low < high).all(axis=2)
    overlaps &= overlaps.T
    np.fill_diagonal(overlaps, False)
    pairs = [(words(figure)[i], words(figure)[j]) for i, j in np.argwhere(overlaps) if i < j]
    assert pairs == []


def images(figure):
    """The pictures, in the order of drawing."""
    return [np.asarray(image.get_array()) for image in axes_of_page(figure).images]


def places(figure):
    """(left, top, width, height) of each picture, inches from the page's upper left corner."""
    extents = [image.get_extent() for image in axes_of_page(figure).images]
    return [(left, top, right - left, bottom - top) for left, right, bottom, top in extents]


def assert_nothing_is_clipped(figure):
    """All that is drawn lies inside of the picture, and no panel's labels run into the other panel."""
    figure.canvas.draw()
    drawn = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert 0 <= drawn.x0 < drawn.x1 <= width
    assert 0 <= drawn.y0 < drawn.y1 <= height
    first, second = (axes.get_tightbbox() for axes in figure.axes)
    assert not first.overlaps(second)
