"""Paint pictures: a picture is a pile of layers, each one figure with a pose, a texture and two colours.

A figure is its signed distance: negative inside, zero on the edge, positive outside, in units of the figure's radius.
The distance in pixels says how much of a pixel the figure covers, so edges come out smooth at every size. There is only
+ - * /, sqrt and floor in it, which round alike on all machines. The array code here runs in plain mode; the compiled
loops (`tinynet.ops.drawing`), which otherwise run in its place, give the same bits.
"""

import math

import numpy as np

from tinynet.mode import is_plain

FIGURES = ("disc", "ring", "square", "triangle", "star", "cross", "crescent", "heart", "arrow", "hourglass")
FRAGMENTS = ("line", "blob", "shard", "arc")  # clutter: no class, and `thickness` tells how slim
GROUND = -1  # the figure that covers everything
TEXTURES = ("plain", "stripes", "checks", "spots", "noise")

LAYER = np.dtype(
    [
        ("figure", np.int64),  # index into FIGURES + FRAGMENTS, or GROUND
        ("x", np.float64),  # the centre, from the upper left corner; the picture's side is 1
        ("y", np.float64),
        ("radius", np.float64),  # 0: the layer is not there
        ("cos", np.float64),  # of the angle by which the figure is turned
        ("sin", np.float64),
        ("thickness", np.float64),  # of a fragment, in radii
        ("texture", np.int64),  # index into TEXTURES
        ("wave_x", np.float64),  # the texture's direction and frequency: periods per picture
        ("wave_y", np.float64),
        ("phase", np.float64),
        ("colours", np.float64, (2, 3)),  # the texture blends from one RGB colour in [0, 1] to the other
    ]
)

REACH = 1.15  # radii: no figure goes farther from its centre
# a five-pointed star is the set of points inside at least four of these five lines; they look where the tips point
STAR = tuple((math.cos(math.radians(90 + 72 * k)), math.sin(math.radians(90 + 72 * k))) for k in range(5))


def figure_distance(figure: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance from the points (u, v), v upwards, to the edge of a class's figure of radius 1."""
    a, b, r = abs(u), abs(v), np.sqrt(u * u + v * v)
    match FIGURES[figure]:
        case "disc":
            return r - 0.85
        case "ring":
            return abs(r - 0.69) - 0.23
        case "square":
            return np.maximum(a, b) - 0.77
        case "triangle":  # inside three lines
            return np.maximum(-v, 0.866 * a + 0.5 * v) - 0.52
        case "star":  # outside at most one of five lines, so inside the second farthest
            lines = np.sort([u * x + v * y - 0.34 for x, y in STAR], axis=0)
            return lines[-2]
        case "cross":  # two boxes
            return np.minimum(np.maximum(a - 0.88, b - 0.29), np.maximum(a - 0.29, b - 0.88))
        case "crescent":  # a disc that another one covers
            return np.maximum(r - 0.92, 0.74 - np.sqrt((u - 0.4) * (u - 0.4) + v * v))
        case "heart":  # two discs, and a kite below that touches them
            disc = np.sqrt((a - 0.43) * (a - 0.43) + (v - 0.3) * (v - 0.3)) - 0.47
            kite = np.maximum(0.78 * a - 0.62 * v - 0.619, 0.517 * a + 0.856 * v - 0.42)
            return np.minimum(disc, kite)
        case "arrow":  # head and shaft
            head = np.maximum(-v, 0.785 * a + 0.62 * v - 0.589)
            return np.minimum(head, np.maximum(a - 0.24, abs(v + 0.45) - 0.5))
    return np.maximum(b - 0.82, 0.8 * a - 0.6 * b - 0.06)  # hourglass


def fragment_distance(fragment: int, u: np.ndarray, v: np.ndarray, thickness: float) -> np.ndarray:
    """Signed distance from the points (u, v) to the edge of a fragment of radius 1 and the given thickness."""
    match FRAGMENTS[fragment]:
        case "line":  # with round ends
            beyond = np.maximum(abs(u) + thickness - 1, 0.0)
            return np.sqrt(beyond * beyond + v * v) - thickness
        case "blob":  # an ellipse
            return np.sqrt(thickness * thickness * u * u + v * v) - thickness
        case "shard":  # a slim wedge
            return np.maximum(-u - 0.9, abs(v) - 0.5 * thickness * (1 - u))
    r = np.sqrt(u * u + v * v)
    return np.maximum(abs(r - 0.8) - 0.4 * thickness, 0.3 - v)  # arc: less than half a thin ring


def wave(s: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1 with its tips cut off, in [-1, 1]."""
    return np.clip(8 * abs(s - np.floor(s) - 0.5) - 2, -1.0, 1.0)


def texture_blend(texture: int, s: np.ndarray, t: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """The blend in [0, 1] between a layer's two colours at the points (s, t), in periods."""
    match TEXTURES[texture]:
        case "plain":
            return np.zeros(s.shape)
        case "stripes":
            return 0.5 + 0.5 * wave(s)
        case "checks":
            return 0.5 + 0.5 * wave(s) * wave(t)
    row, column = np.floor(s), np.floor(t)
    s, t = s - row, t - column
    if TEXTURES[texture] == "spots":
        return np.clip(2.2 - 20 * ((s - 0.5) * (s - 0.5) + (t - 0.5) * (t - 0.5)), 0.0, 1.0)
    i, j, last = row.astype(int), column.astype(int), len(grain) - 1  # noise: between four numbers of the table
    upper = (1 - t) * grain[i & last, j & last] + t * grain[i & last, (j + 1) & last]
    lower = (1 - t) * grain[(i + 1) & last, j & last] + t * grain[(i + 1) & last, (j + 1) & last]
    return (1 - s) * upper + s * lower


def paint_layer(layer: np.void, grain: np.ndarray, canvas: np.ndarray) -> None:
    """Paint one layer over the canvas (S, S, 3): of the pixels near it, each gets its share of the layer's colour."""
    size = len(canvas)
    x, y, radius, (first, second) = layer["x"], layer["y"], layer["radius"], layer["colours"]
    reach = 2.0 if layer["figure"] == GROUND else REACH * radius
    top, left = max(0, int((y - reach) * size)), max(0, int((x - reach) * size))
    bottom, right = max(0, int((y + reach) * size) + 1), max(0, int((x + reach) * size) + 1)
    near = canvas[top:bottom, left:right]
    rows, columns = np.arange(top, top + near.shape[0])[:, None], np.arange(left, left + near.shape[1])
    dx, dy = (columns + 0.5) / size - x, (rows + 0.5) / size - y

    cover: np.ndarray | float = 1.0
    if layer["figure"] != GROUND:
        u = (dx * layer["cos"] - dy * layer["sin"]) / radius
        v = -(dx * layer["sin"] + dy * layer["cos"]) / radius
        if layer["figure"] < len(FIGURES):
            distance = figure_distance(layer["figure"], u, v)
        else:
            distance = fragment_distance(layer["figure"] - len(FIGURES), u, v, layer["thickness"])
        cover = np.clip(0.5 - distance * radius * size, 0.0, 1.0)[:, :, None]

    s = dx * layer["wave_x"] + dy * layer["wave_y"] + layer["phase"]
    t = dy * layer["wave_x"] - dx * layer["wave_y"] + layer["phase"]
    colour = first + texture_blend(layer["texture"], s, t, grain)[:, :, None] * (second - first)
    near += cover * (colour - near)


def paint_picture(layers: np.ndarray, light: np.ndarray, grain: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    """(3, S, S) uint8: the layers (L,) on the canvas (S, S, 3), in the light (5,), with noise."""
    for layer in layers:
        if layer["radius"] > 0:
            paint_layer(layer, grain, canvas)
    size, last = len(canvas), len(grain) - 1
    gain, slope_x, slope_y, noise, shift = *light[:4], int(light[4])  # another part of the table for each picture
    rows, columns, colours = np.ogrid[:size, :size, :3]
    lit = gain * (1 + slope_x * ((columns + 0.5) / size - 0.5) + slope_y * ((rows + 0.5) / size - 0.5))
    speck = grain[(rows + shift) & last, (columns + 7 * shift + 5 * colours) & last] - 0.5
    value = np.clip(lit * canvas + noise * speck, 0.0, 1.0)
    return (255 * value + 0.5).astype(np.uint8).transpose(2, 0, 1)


def paint(layers: np.ndarray, light: np.ndarray, grain: np.ndarray, images: np.ndarray) -> None:
    """Paint `images` (N, 3, S, S) uint8 from `layers` (N, L) of dtype LAYER, the rearmost first: a GROUND.

    light (N, 5): the gain, its slopes in x and y over the picture, the noise's strength, and where in `grain` the noise
    begins. grain: a square table of random numbers in [0, 1), its side a power of two.
    """
    if not is_plain():
        from tinynet.ops.drawing import paint as compiled_paint

        compiled_paint(layers, light, grain, images)
        return
    canvas = np.zeros((*images.shape[2:], 3))  # of all pictures in turn: the ground covers the one before
    for n in range(len(images)):
        images[n] = paint_picture(layers[n], light[n], grain, canvas)
