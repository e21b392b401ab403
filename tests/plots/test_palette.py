import numpy as np

from tinynet import random
from tinynet.plots.palette import EXACT, OF_PAGE, few_colours

BOX = (12, 5, 76, 45)  # left, top, right, bottom


def a_page(inks):
    """(50, 90, 3): a photograph of thousands of colours, and around it `inks`, each in as many pixels as it stands."""
    page = np.empty((50, 90, 3), np.uint8)
    page[:] = np.resize(np.array(inks, np.uint8), (50 * 90, 3)).reshape(page.shape)
    left, top, right, bottom = BOX
    y, x = np.mgrid[: bottom - top, : right - left]
    noise = random.bits((bottom - top, right - left), 0, "noise") % 9
    page[top:bottom, left:right] = np.stack([3 * x, 6 * y, 120 + x - y], axis=-1) + noise[..., None]
    return page


def inside(page):
    left, top, right, bottom = BOX
    return page[top:bottom, left:right].astype(float)


def outside(page):
    left, top, right, bottom = BOX
    return np.delete(
        page.reshape(-1, 3), np.ravel_multi_index(np.mgrid[top:bottom, left:right], page.shape[:2]), axis=0
    )


def blurred(picture):
    H, W, C = picture.shape
    return picture.reshape(H // 4, 4, W // 4, 4, C).mean(axis=(1, 3))


def drawn(page):
    picture = few_colours(page, [BOX])
    assert picture.mode == "P"
    return np.asarray(picture.convert("RGB"))


def test_up_to_256_colours_nothing_is_lost():
    colours = random.bits((256, 3), 0, "colours") % 256
    page = colours[random.permutation(7 * 300, 0, "places") % 256].reshape(7, 300, 3).astype(np.uint8)
    np.testing.assert_array_equal(drawn(page), page)


def test_the_page_is_exact_and_the_photograph_looks_the_same():
    inks = [(255, 255, 255), (0, 0, 0), (254, 255, 255), (213, 94, 0), *((k, k, k) for k in range(7, 250, 5))]
    page = a_page(inks)
    assert len(np.unique(inside(page).reshape(-1, 3), axis=0)) > 2000
    result = drawn(page)
    assert len(np.unique(result.reshape(-1, 3), axis=0)) <= 256
    np.testing.assert_array_equal(outside(result), outside(page))
    seen = abs(blurred(inside(result)) - blurred(inside(page)))  # as the eye does, from a distance
    assert seen.max() < 15
    assert seen.mean() < 1  # without error diffusion: 1.3
    assert abs(inside(result) - inside(page)).mean() < 10


def test_of_many_inks_the_frequent_ones_are_exact_and_the_others_near():
    frequent = [(k, 0, 90) for k in range(EXACT)]
    rare = [(k, k, k) for k in range(256)] + [(255, 255 - k // 2, 255 - k) for k in range(1, 256)]
    page = a_page([ink for ink in frequent for _ in range(30)] + rare)
    before, after = outside(page).astype(int), outside(drawn(page)).astype(int)
    often = (before[:, 2] == 90) & (before[:, 1] == 0)
    np.testing.assert_array_equal(after[often], before[often])
    error = np.sqrt(((after - before) ** 2).sum(axis=1))
    assert error.max() < 12  # lines of 442 and 285 units in all, on which 56 stand
    used = np.unique(after, axis=0)
    assert EXACT < len(used) <= OF_PAGE
    assert {tuple(colour) for colour in used} <= {tuple(colour) for colour in before}
    every = np.sqrt(((before[:, None] - used) ** 2).sum(axis=2))
    np.testing.assert_allclose(error, every.min(axis=1))


def test_a_page_without_text():
    page = a_page([(255, 255, 255)])[BOX[1] : BOX[3], BOX[0] : BOX[2]]
    picture = few_colours(page, [(0, 0, 64, 40)])
    assert abs(np.asarray(picture.convert("RGB"), float) - page).mean() < 10
