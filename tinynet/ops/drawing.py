"""Paint pictures of the built-in data set: compiled loops that give the bits of `tinynet.data.drawing`'s array code.

numba's cache on disk does not notice a change of the constants that stand there: after one, remove __pycache__. There
is only + - * /, sqrt and floor in here, which round alike on all machines.
"""

import math

import numpy as np

from tinynet.backend.threads import kernel, parallel_for
from tinynet.data.drawing import FIGURES, GROUND, REACH, STAR


@kernel
def _clip(value, low, high):
    return min(max(value, low), high)


@kernel
def _figure(figure, u, v):
    """Signed distance from (u, v), v upwards, to the edge of a class's figure of radius 1."""
    a, b, r = abs(u), abs(v), math.sqrt(u * u + v * v)
    if figure == 0:  # disc
        return r - 0.85
    if figure == 1:  # ring
        return abs(r - 0.69) - 0.23
    if figure == 2:  # square
        return max(a, b) - 0.77
    if figure == 3:  # triangle: inside three lines
        return max(-v, 0.866 * a + 0.5 * v) - 0.52
    if figure == 4:  # star: outside at most one of five lines, so inside the second farthest
        farthest, second = -2.0, -2.0
        for k in range(5):
            line = u * STAR[k][0] + v * STAR[k][1] - 0.34
            farthest, second = max(farthest, line), max(second, min(farthest, line))
        return second
    if figure == 5:  # cross: two boxes
        return min(max(a - 0.88, b - 0.29), max(a - 0.29, b - 0.88))
    if figure == 6:  # crescent: a disc that another one covers
        return max(r - 0.92, 0.74 - math.sqrt((u - 0.4) * (u - 0.4) + v * v))
    if figure == 7:  # heart: two discs, and a kite below that touches them
        disc = math.sqrt((a - 0.43) * (a - 0.43) + (v - 0.3) * (v - 0.3)) - 0.47
        return min(disc, max(0.78 * a - 0.62 * v - 0.619, 0.517 * a + 0.856 * v - 0.42))
    if figure == 8:  # arrow: head and shaft
        head = max(-v, 0.785 * a + 0.62 * v - 0.589)
        return min(head, max(a - 0.24, abs(v + 0.45) - 0.5))
    return max(b - 0.82, 0.8 * a - 0.6 * b - 0.06)  # hourglass


@kernel
def _fragment(fragment, u, v, thickness):
    """Signed distance from (u, v) to the edge of a fragment of radius 1 and the given thickness."""
    r = math.sqrt(u * u + v * v)
    if fragment == 0:  # line with round ends
        beyond = max(abs(u) + thickness - 1, 0.0)
        return math.sqrt(beyond * beyond + v * v) - thickness
    if fragment == 1:  # blob: an ellipse
        return math.sqrt(thickness * thickness * u * u + v * v) - thickness
    if fragment == 2:  # shard: a slim wedge
        return max(-u - 0.9, abs(v) - 0.5 * thickness * (1 - u))
    return max(abs(r - 0.8) - 0.4 * thickness, 0.3 - v)  # arc: less than half a thin ring


@kernel
def _wave(s):
    """A triangle wave of period 1 with its tips cut off, in [-1, 1]."""
    return _clip(8 * abs(s - math.floor(s) - 0.5) - 2, -1.0, 1.0)


@kernel
def _texture(texture, s, t, grain):
    """The blend in [0, 1] between a layer's two colours at the point (s, t), in periods."""
    if texture == 0:  # plain
        return 0.0
    if texture == 1:  # stripes
        return 0.5 + 0.5 * _wave(s)
    if texture == 2:  # checks
        return 0.5 + 0.5 * _wave(s) * _wave(t)
    row, column = math.floor(s), math.floor(t)
    s, t = s - row, t - column
    if texture == 3:  # spots
        return _clip(2.2 - 20 * ((s - 0.5) * (s - 0.5) + (t - 0.5) * (t - 0.5)), 0.0, 1.0)
    i, j, last = int(row), int(column), grain.shape[0] - 1  # noise: between four numbers of the table
    upper = (1 - t) * grain[i & last, j & last] + t * grain[i & last, (j + 1) & last]
    lower = (1 - t) * grain[(i + 1) & last, j & last] + t * grain[(i + 1) & last, (j + 1) & last]
    return (1 - s) * upper + s * lower


@kernel
def _paint_layer(layer, grain, canvas):
    size = canvas.shape[0]
    x, y, radius, colours = layer["x"], layer["y"], layer["radius"], layer["colours"]
    everything = layer["figure"] == GROUND
    reach = 2.0 if everything else REACH * radius
    for row in range(max(0, int((y - reach) * size)), min(size, int((y + reach) * size) + 1)):
        for column in range(max(0, int((x - reach) * size)), min(size, int((x + reach) * size) + 1)):
            dx, dy = (column + 0.5) / size - x, (row + 0.5) / size - y
            cover = 1.0
            if not everything:
                u = (dx * layer["cos"] - dy * layer["sin"]) / radius
                v = -(dx * layer["sin"] + dy * layer["cos"]) / radius
                if layer["figure"] < len(FIGURES):
                    distance = _figure(layer["figure"], u, v)
                else:
                    distance = _fragment(layer["figure"] - len(FIGURES), u, v, layer["thickness"])
                cover = _clip(0.5 - distance * radius * size, 0.0, 1.0)
            if cover > 0:
                s = dx * layer["wave_x"] + dy * layer["wave_y"] + layer["phase"]
                t = dy * layer["wave_x"] - dx * layer["wave_y"] + layer["phase"]
                blend = _texture(layer["texture"], s, t, grain)
                for k in range(3):
                    colour = colours[0, k] + blend * (colours[1, k] - colours[0, k])
                    canvas[row, column, k] += cover * (colour - canvas[row, column, k])


@kernel
def _paint(layers, light, grain, images, start, stop):
    size, last = images.shape[2], grain.shape[0] - 1
    canvas = np.zeros((size, size, 3))
    for n in range(start, stop):
        for index in range(layers.shape[1]):
            if layers[n, index]["radius"] > 0:
                _paint_layer(layers[n, index], grain, canvas)
        gain, slope_x, slope_y, noise = light[n, 0], light[n, 1], light[n, 2], light[n, 3]
        shift = int(light[n, 4])  # another part of the table for each picture and colour
        for row in range(size):
            for column in range(size):
                lit = gain * (1 + slope_x * ((column + 0.5) / size - 0.5) + slope_y * ((row + 0.5) / size - 0.5))
                for k in range(3):
                    speck = grain[(row + shift) & last, (column + 7 * shift + 5 * k) & last] - 0.5
                    value = lit * canvas[row, column, k] + noise * speck
                    images[n, k, row, column] = np.uint8(255 * _clip(value, 0.0, 1.0) + 0.5)


def paint(layers: np.ndarray, light: np.ndarray, grain: np.ndarray, images: np.ndarray) -> None:
    """What `tinynet.data.drawing.paint` does. Pictures go to all threads."""
    parallel_for(_paint, len(images), layers, light, grain, images)
