import itertools

import numpy as np
import pytest

from plots.layout import assert_all_in_place, words
from plots.pictures import as_drawn, some_pictures
from tinynet import random
from tinynet.plots import activation_maps

PICTURE = some_pictures(1)[0]


def output(*shape):
    return random.normal(shape, 0, "output").astype(np.float32)


def rows(figure):
    """[(values of each image, colour map, range)] below the picture."""
    return [
        [(np.asarray(image.get_array()), image.get_cmap().name, image.get_clim()) for image in axes.images]
        for axes in figure.axes[1:]
    ]


def test_each_layer_is_a_row_of_its_first_maps_on_one_scale():
    signed, positive = output(1, 11, 4, 3), abs(output(1, 2, 3, 5))
    figure = activation_maps({"conv1": signed, "relu1": positive}, PICTURE)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), as_drawn(PICTURE))
    first, second = rows(figure)
    assert len(first) == 8
    most = abs(signed).max()
    for c, (values, colours, limits) in enumerate(first):
        np.testing.assert_array_equal(values, signed[0, c])
        assert (colours, limits) == ("PuOr", (-most, most))
    assert len(second) == 2
    for c, (values, colours, limits) in enumerate(second):
        np.testing.assert_array_equal(values, positive[0, c])
        assert (colours, limits) == ("gray", (0, positive.max()))
    low, high = f"{signed.min():.3g}".replace("-", "−"), f"{signed.max():.3g}"
    assert words(figure)[5:8] == ["conv1", "11 × 4 × 3", f"{low} to {high}"]
    assert words(figure)[8:10] == ["relu1", "2 × 3 × 5"]
    assert_all_in_place(figure)


def test_maps_keep_their_shape_and_do_not_touch():
    figure = activation_maps({"conv": output(1, 3, 4, 2)}, PICTURE, maps=3)
    axes = figure.axes[1]
    figure.canvas.draw()
    boxes = [image.get_window_extent() for image in axes.images]
    for box in boxes:
        assert box.height / box.width == pytest.approx(2)
        assert axes.get_window_extent().height >= box.height
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_vector_is_a_strip_of_all_its_values():
    short, long = output(1, 10), output(1, 600)
    figure = activation_maps({"fc8": short, "fc7": long}, PICTURE)
    ((strip, _, _),), ((lines, _, _),) = rows(figure)
    np.testing.assert_array_equal(strip, short.astype(float))
    assert lines.shape == (3, 256)
    filled = np.ma.filled(lines, np.nan).ravel()
    np.testing.assert_array_equal(filled[:600], long[0].astype(float))
    assert np.isnan(filled[600:]).all()
    assert "600" in words(figure)


def test_zeros_are_black():
    (((values, colours, limits),),) = rows(activation_maps({"relu": np.zeros((1, 1, 2, 3))}, PICTURE))
    assert (values.max(), colours, limits) == (0, "gray", (0, 1))


def test_many_layers_stand_in_two_columns_and_long_names_in_their_places():
    layers = {f"features.block_{i}.$_a_long_name_{i}": output(1, 2, 3, 3) for i in range(25)}
    figure = activation_maps(layers, PICTURE)
    lefts = [round(axes.get_position().x0, 6) for axes in figure.axes[1:]]
    assert lefts == [lefts[0]] * 13 + [lefts[13]] * 12
    assert figure.get_size_inches()[0] * figure.dpi <= 1600
    assert_all_in_place(figure)


@pytest.mark.parametrize(
    ("layers", "maps", "message"),
    [
        ({}, 8, "expected a layer and maps of at least 1, got 0, maps=8"),
        ({"fc": output(1, 3)}, 0, "maps=0"),
        ({"fc": output(2, 3)}, 8, r"the output of 'fc' for one picture.*got \(2, 3\)"),
        ({"fc": output(1, 2, 3)}, 8, r"got \(1, 2, 3\)"),
        ({"fc": np.array([[np.inf]])}, 8, "NaN or infinity in the output of 'fc'"),
    ],
)
def test_what_does_not_fit_is_refused(layers, maps, message):
    with pytest.raises(ValueError, match=f"activation_maps: .*{message}"):
        activation_maps(layers, PICTURE, maps)


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"activation_maps: expected picture as uint8 \(C, H, W\)"):
        activation_maps({"fc": output(1, 3)}, PICTURE[None])
