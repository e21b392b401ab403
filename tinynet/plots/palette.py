"""A page of photographs in 256 colours: a third of the bytes, and no difference that one would see."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

COLOURS = 256  # of a PNG with a palette
OF_PAGE, EXACT = 64, 8  # of these for text, bars and frames, so that letters keep their edges


def few_colours(page: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> Image.Image:
    """`page`, (H, W, 3) uint8, as a picture with a palette. With up to 256 colours nothing is lost. Of more, what
    stands outside of the photographs keeps its 8 most frequent colours, and for the rest takes the nearest of up to 64.
    The photographs have the rest of the palette, by Floyd and Steinberg's error diffusion.

    boxes: (left, top, right, bottom) of each photograph, at least one, pixels.
    """
    packed = page.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, codes = np.unique(packed, return_inverse=True)
    codes = codes.reshape(packed.shape)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)
    if len(colours) <= COLOURS:
        return _with_palette(codes.astype(np.uint8), rgb)
    outside = np.ones(packed.shape, bool)
    for left, top, right, bottom in boxes:
        outside[top:bottom, left:right] = False
    counts = np.bincount(codes[outside], minlength=len(colours))
    used = np.flatnonzero(counts)
    kept, nearest = _apart(rgb[used], counts[used])
    inside = Image.fromarray(page[~outside][None])
    learned = inside.quantize(COLOURS - len(kept), Image.Quantize.FASTOCTREE).getpalette("RGB")
    palette = np.vstack([kept, np.array(learned, np.uint8).reshape(-1, 3)])[:COLOURS]
    code_of = np.zeros(len(colours), np.uint8)
    code_of[used] = nearest
    result = code_of[codes]
    shared = _with_palette(np.zeros((1, 1), np.uint8), palette)
    for left, top, right, bottom in boxes:
        photograph = Image.fromarray(page[top:bottom, left:right])
        drawn = photograph.quantize(palette=shared, dither=Image.Dither.FLOYDSTEINBERG)
        result[top:bottom, left:right] = np.asarray(drawn)
    return _with_palette(result, palette)


def _apart(rgb: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kept, nearest): up to 64 of the colours `rgb`, the most frequent ones and then each time the one farthest from
    all so far, so that none is far from a kept one; and for each of `rgb` the index of the nearest of them."""
    frequent = np.argsort(-counts, kind="stable")[:EXACT]
    kept: list[int] = []
    nearest = np.zeros(len(rgb), np.uint8)
    distance = np.full(len(rgb), np.inf)
    while len(kept) < OF_PAGE and distance.max(initial=0) > 0:
        chosen = int(frequent[len(kept)] if len(kept) < len(frequent) else distance.argmax())
        to_chosen = ((rgb - rgb[chosen].astype(float)) ** 2).sum(axis=1)
        nearest[to_chosen < distance] = len(kept)
        distance = np.minimum(distance, to_chosen)
        kept.append(chosen)
    return rgb[kept], nearest


def _with_palette(codes: np.ndarray, palette: np.ndarray) -> Image.Image:
    picture = Image.fromarray(codes)
    picture.putpalette(palette.tobytes())
    return picture
