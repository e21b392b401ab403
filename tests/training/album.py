"""Pictures of every kind, drawn by the tests: what a camera, a scanner, a phone and a drawing program leave."""

import numpy as np
from PIL import Image

from tinynet import random

CLASSES = ("cats", "dogs")
ORIENTATION = 0x0112  # the EXIF tag


def scene(H, W, seed):
    """uint8 (H, W, 3): large shapes, so that a turned picture is another one."""
    y, x, phase = np.arange(H)[:, None, None] / H, np.arange(W)[:, None] / W, random.uniform(3, seed, "test scene")
    waves = np.sin(3 * x + 5 * y * (1 + np.arange(3)) + 6 * phase)
    return (127.5 + 90 * waves + 37 * (x > 0.6) * (y < 0.3)).astype(np.uint8)


def turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=92)


def draw_album(folder):
    """Fourteen pictures of two classes in folder/CLASS, and two files that are none."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    cats, dogs = folder / "cats", folder / "dogs"
    for orientation in (2, 3, 5, 6, 8):
        turned(cats / f"turned {orientation}.jpg", scene(90 + orientation, 140, orientation), orientation)
    turned(dogs / "large and turned.jpg", scene(700, 1000, 11), 6)  # decoded at a part of its size
    Image.fromarray(scene(80, 61, 12)).convert("L").save(cats / "grey.png")
    Image.fromarray(scene(64, 200, 13)).convert("CMYK").save(cats / "inks.jpg")
    Image.fromarray(scene(75, 75, 14)).quantize(16).save(dogs / "palette.png")
    Image.fromarray((scene(50, 70, 15)[:, :, 0].astype(np.uint16) << 8) + 77).save(dogs / "sixteen bits.png")
    layers = np.dstack([scene(66, 66, 16), scene(66, 66, 17)[:, :, :1]])
    Image.fromarray(layers).save(dogs / "transparent.png")
    Image.fromarray(scene(9, 300, 18)).save(dogs / "a strip.png")
    Image.fromarray(scene(37, 37, 19)).save(dogs / "stored size.bmp")
    Image.fromarray(scene(120, 90, 20)).convert("L").save(dogs / "grey turned.jpg", exif=exif_of(8))
    (cats / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (dogs / "notes.txt").write_text("buy a lead")
    return folder


def exif_of(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif
