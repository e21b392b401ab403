"""One picture file of any kind to RGB pixels, and to a square of fixed size, by Pillow.

A file may come from anywhere, so nothing in it is believed: whatever is wrong with it ends as one kind of error, and
a header that promises more pixels than any photograph has is refused before a pixel is decoded.
"""

import contextlib
import errno
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 89_000_000  # just below the number from which Pillow itself speaks of a decompression bomb
SMALLEST_SIDE = 8  # pixels; a smaller picture shows nothing
MANY_PIXELS = 16_000_000  # pictures above are decoded one at a time, so that threads do not multiply their memory
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")  # 8 bits or fewer
MODES_OF_16_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow gives some 16-bit files the 32-bit mode I
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation: what makes the picture upright again
ORIENTATION = 0x0112  # the EXIF tag
WHITE_IS_ZERO, BITS = 262, 258  # TIFF tags: PhotometricInterpretation, which is 0 then, and BitsPerSample
# formats that are not pixels: Pillow has Ghostscript run EPS and Windows draw WMF, and IPTC may hold any of them
NO_PICTURES = ("EPS", "IPTC", "WMF")
POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
# what libraries set in an OSError for damaged bytes; every other errno says that the disk or the network failed
DAMAGED = (None, errno.EINVAL, errno.EOVERFLOW)

_one_large = threading.Lock()
_one_opened = threading.Lock()  # Pillow cannot read one image in two threads, and somebody may give it twice


class PictureError(ValueError):
    """A file that gives no picture. `path` names it, `reason` says why; `lasting` is False if the same bytes may well
    be read another time: the file could not be opened, or memory ran out."""

    def __init__(self, path: str | os.PathLike, reason: str, lasting: bool = True):
        # a file's name may hold bytes that are no text, which nobody could print
        name = os.fspath(path).encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{name}: {reason}")
        self.path, self.reason, self.lasting = Path(path), reason, lasting


def read_picture(path: str | os.PathLike, shorter_side: int | None = None) -> Image.Image:
    """The picture in the file as a Pillow image of mode RGB, upright: EXIF orientation is applied, if it can be read.

    Grey is spread over R, G and B; grey of 16 bits becomes 8 by value / 257, rounded (of 12 bits, value * 255 / 4095),
    while of 16 bits in colour, or of grey beside transparency, Pillow keeps the upper 8, value // 256; CMYK and others
    are converted; transparent pictures lie on white; of an animation it is the first frame. What the name ends in does
    not matter.

    With shorter_side, large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, which is faster, so long as their
    shorter side stays at least twice shorter_side.

    Raises PictureError, a ValueError, naming the file and the reason: it is missing, no plain file, empty, no picture,
    damaged or cut short; it has more than MAX_PIXELS pixels; its values have no known scale (floats, or whole numbers
    beyond 16 bits); it is PostScript, or of another format in NO_PICTURES, for which Pillow would run other programs.
    Pillow's warnings are not shown; of a damaged TIFF the library libtiff may print a line on stderr, which nothing in
    Python can keep back.
    """
    try:
        # an open file, not its name: Pillow would map some files into memory, where one cut short meanwhile is fatal
        with _quiet_pillow(), _open(path) as file, Image.open(file, formats=readable_formats()) as image:
            W, H = image.size
            if W * H > MAX_PIXELS:
                raise PictureError(path, f"{W} x {H} pixels, more than {MAX_PIXELS:,}: a decompression bomb?")
            if shorter_side is not None:
                image.draft(None, (2 * shorter_side, 2 * shorter_side))
            if not image.info.get("progressive"):  # those are held whole, in coefficients, to be decoded small
                W, H = image.size
            with _one_large if W * H > MANY_PIXELS else contextlib.nullcontext():
                return _upright(_rgb(image, path), _orientation(image))
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(path, _what_it_is(path)) from error
    except MemoryError as error:
        raise PictureError(path, "the memory does not suffice to decode it", lasting=False) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(path, f"a decompression bomb? {error}") from error
    except Exception as error:  # damaged bytes make Pillow raise nearly anything
        text = " ".join(str(error).split())[:200]  # one line
        lasting = getattr(error, "errno", None) in DAMAGED
        raise PictureError(path, f"damaged or cut short ({type(error).__name__}: {text})", lasting) from error


def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.preinit()  # the common ones first
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NO_PICTURES)


def fit(image: Image.Image, size: int) -> np.ndarray:
    """uint8 (3, size, size): the RGB image scaled so that its shorter side is `size`, and of that the central square.

    Scaling averages over the area that a new pixel covers (a triangle filter), so nothing aliases. The square begins at
    a whole pixel, of an odd excess the one left of or above the middle, so a picture whose shorter side is `size`
    already keeps its pixels. (Krizhevsky et al. 2012, section 2, with size = 256.)
    """
    W, H = image.size
    side = min(W, H)
    left, top = (W - side) // 2, (H - side) // 2
    square = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def read_square(path: str | os.PathLike, size: int) -> np.ndarray:
    """uint8 (3, size, size): `fit` of the picture in the file. This is what training, evaluation and prediction see of
    a photograph. Raises PictureError as `read_picture` does, and if a side is shorter than SMALLEST_SIDE."""
    return _large_enough_square(read_picture(path, shorter_side=size), path, size)


def square_of(image: Image.Image, size: int) -> np.ndarray:
    """The same of a picture that Pillow has opened or made: EXIF orientation applied, transparency on white, and so on.
    (A large JPEG is decoded whole here, where `read_square` decodes it smaller: that may change pixels by a little.)
    Raises PictureError, which names the file if Pillow knows it."""
    name = getattr(image, "filename", "") or "the image"
    try:
        with _quiet_pillow():
            with _one_opened:
                upright = _upright(_rgb(image, name), _orientation(image))
            return _large_enough_square(upright, name, size)
    except PictureError:
        raise
    except Exception as error:  # Pillow reads the file only now, and damaged bytes make it raise nearly anything
        text = " ".join(str(error).split())[:200]
        raise PictureError(name, f"damaged or cut short ({type(error).__name__}: {text})") from error


def _large_enough_square(image: Image.Image, path: str | os.PathLike, size: int) -> np.ndarray:
    if min(image.size) < SMALLEST_SIDE:
        raise PictureError(path, f"{image.width} x {image.height} pixels; each side must have {SMALLEST_SIDE}")
    return fit(image, size)


def _open(path):
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a named pipe would wait for ever
            raise PictureError(path, "not a plain file")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PictureError(path, f"cannot be opened: {reason}", lasting=False) from error


def _what_it_is(path: str | os.PathLike) -> str:
    with _open(path) as file:
        head = file.read(12)
    if head.startswith(POSTSCRIPT):
        return "PostScript, which is a program and not read; save it as PNG or JPEG"
    return f"no picture that Pillow can read; it begins with {head!r}" if head else "an empty file, 0 bytes"


def _rgb(image: Image.Image, path: str | os.PathLike) -> Image.Image:
    if image.mode in MODES_OF_16_BITS:
        return _from_16_bits(image, path)
    if image.mode not in MODES:
        raise PictureError(path, f"pixels of mode {image.mode}, whose scale is not known; save it with 8 or 16 bits")
    if image.has_transparency_data:
        _scale_transparent_colour(image)
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image, path: str | os.PathLike) -> Image.Image:
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    low, high, bits = int(values.min()), int(values.max()), tags.get(BITS, (16,))[0]
    most, inverted = 4095 if bits == 12 else 65535, tags.get(WHITE_IS_ZERO) == 0
    if low < 0 or high > most:
        raise PictureError(path, f"values from {low} to {high}, whose scale is not known; save it with 8 or 16 bits")
    light = (most - values if inverted else values).astype(np.uint32)
    grey = ((light * 255 + most // 2) // most).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _scale_transparent_colour(image: Image.Image) -> None:
    """A PNG names its transparent colour in its own depth, from 2 bits to 16, while Pillow's pixels have 8."""
    key, tile = image.info.get("transparency"), getattr(image, "tile", None)
    depth = tile[0][3] if tile else None
    if depth in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}[depth]
    elif depth == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)  # after loading: Pillow has turned a TIFF already, and says 1
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


class _Silence:
    """Keeps Pillow's warnings and log lines back while any thread is inside.

    Python's filters belong to the whole process: the first thread in sets them, the last one out puts them back.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.undo = threading.Lock(), 0, contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.inside:
                self._begin()
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.undo.close()

    def _begin(self) -> None:
        self.undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # of a picture within the file, too
        # a logger without any handler prints on stderr
        nobody, logger = logging.NullHandler(), logging.getLogger("PIL")
        logger.addHandler(nobody)
        self.undo.callback(logger.removeHandler, nobody)


_quiet_pillow = _Silence()
