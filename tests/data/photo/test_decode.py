"""Picture files of every kind: right pixels, or one kind of error."""

import contextlib
import csv
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from tinynet import random
from tinynet.data.photo import decode
from tinynet.data.photo.decode import PictureError, fit, read_picture


def noise(H, W, C=3, seed=1):
    return (random.uniform((H, W, C), seed, "test picture", high=256)).astype(np.uint8)


def smooth(H, W, seed=2):
    """A picture that JPEG and scaling change little."""
    y, x, phase = np.arange(H)[:, None, None] / H, np.arange(W)[:, None] / W, random.uniform(3, seed, "test phase")
    return (127.5 + 120 * np.sin(3 * x + 5 * y * (1 + np.arange(3)) + 6 * phase)).astype(np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def pixels(path, **options):
    image = read_picture(path, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def png(path, bits, colour_type, row, transparent=b"", W=4):
    """A PNG of one row, of any depth, which Pillow itself cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", W, 1, bits, colour_type, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    body = chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + key + body)
    return path


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_rgb_comes_back_exactly(tmp_path, kind):
    picture = noise(5, 9)
    assert np.array_equal(pixels(saved(tmp_path / "Bild für alle", Image.fromarray(picture), format=kind)), picture)


def test_grey_is_spread_over_the_channels(tmp_path):
    grey = noise(5, 9)[..., 0]
    assert np.array_equal(pixels(saved(tmp_path / "a.png", Image.fromarray(grey))), np.stack([grey] * 3, 2))
    bits = grey > 127
    found = pixels(saved(tmp_path / "b.png", Image.fromarray(bits)))
    assert np.array_equal(found, np.stack([255 * bits] * 3, 2))


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_and_rounded_not_clipped(tmp_path, kind):
    values = np.array([[0, 128, 129, 257, 385], [386, 32767, 32768, 65535 - 129, 65535]], np.uint16)
    path = saved(tmp_path / f"a.{kind}", Image.fromarray(values))
    expected = np.round(values / 257)
    assert expected.max() == 255
    assert np.array_equal(pixels(path), np.stack([expected] * 3, 2))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_in_both_byte_orders(tmp_path, order):
    values = np.array([[1000, 60000, 255]], np.uint16)
    info = TiffImagePlugin.ImageFileDirectory_v2(prefix={"<": b"II", ">": b"MM"}[order])
    path = tmp_path / "a.tif"
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (3, 1), values.astype(order + "u2").tobytes())
    image.save(path, tiffinfo=info)
    assert pixels(path)[..., 0].tolist() == [[4, 233, 1]]


def grey_tiff(path, bits, photometric, data, W, H=1):
    """A TIFF of one strip of grey values, which Pillow cannot write in all these kinds."""
    tags = {
        256: W,
        257: H,
        258: bits,
        259: 1,
        262: photometric,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: H,
        279: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)
    return path


@pytest.mark.parametrize(
    ("bits", "data", "expected"),
    [
        (8, bytes([0, 3, 255]), [0, 3, 255]),
        (12, bytes([0x00, 0x08, 0x01, 0xFF, 0xF0]), [0, 128, 255]),  # 0, 0x801, 0xfff
        (16, struct.pack("<3H", 0, 1000, 65535), [0, 4, 255]),
    ],
)
def test_grey_tiffs_of_any_depth_with_black_or_white_as_zero(tmp_path, bits, data, expected):
    found = [pixels(grey_tiff(tmp_path / "a.tif", bits, 1, data, 3))[0, :, 0].tolist()]
    if bits != 12:  # Pillow has no 12 bits with white as zero
        found.append([255 - v for v in pixels(grey_tiff(tmp_path / "b.tif", bits, 0, data, 3))[0, :, 0].tolist()])
    assert all(values == expected for values in found)


def test_32_bit_values_within_16_bits_are_scaled_too(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0, 257, 65535]], np.int32)))
    assert pixels(path)[..., 1].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    "values", [np.array([[0, 70000]], np.int32), np.array([[-1, 7]], np.int32), np.ones((2, 3), "f4")]
)
def test_values_of_unknown_scale_are_refused(tmp_path, values):
    with pytest.raises(PictureError, match=r"a\.tif: .* scale is not known; save it with 8 or 16 bits"):
        read_picture(saved(tmp_path / "a.tif", Image.fromarray(values)))


def test_cmyk(tmp_path):
    ink = np.array([[[0, 255, 255, 0], [0, 0, 0, 128]]], np.uint8)
    found = pixels(saved(tmp_path / "a.tif", Image.fromarray(ink, "CMYK")))
    assert np.abs(found.astype(int) - [[[255, 0, 0], [127, 127, 127]]]).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pictures_lie_on_white(tmp_path, mode):
    values = noise(4, 7, 4)
    values[..., 3] = [0, 1, 64, 128, 200, 254, 255]
    if mode == "LA":
        values[..., 1:3] = values[..., :1]
    image = Image.fromarray(values).convert(mode)
    alpha = values[..., 3:] / 255
    expected = alpha * values[..., :3] + (1 - alpha) * 255
    assert np.abs(pixels(saved(tmp_path / "a.png", image)) - expected).max() <= 1
    assert (pixels(tmp_path / "a.png")[:, 0] == 255).all()


@pytest.mark.parametrize("transparency", [2, b"\xff\x80\x00"])
def test_transparent_palette_entries_are_white(tmp_path, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([200, 0, 0, 0, 100, 0, 0, 0, 90])
    half = [127, 177, 127] if isinstance(transparency, bytes) else [0, 100, 0]
    found = pixels(saved(tmp_path / "a.png", image, transparency=transparency))
    assert np.abs(found.astype(int) - [[[200, 0, 0], half, [255, 255, 255]]]).max() <= 1


@pytest.mark.parametrize(
    ("bits", "colour_type", "row", "key", "expected"),
    [
        (1, 0, b"\x50", struct.pack(">H", 0), [255, 255, 255, 255]),
        (2, 0, b"\x1b", struct.pack(">H", 1), [0, 255, 170, 255]),
        (4, 0, b"\x03\x7f", struct.pack(">H", 3), [0, 255, 119, 255]),
        (8, 0, bytes([0, 3, 119, 9]), struct.pack(">H", 3), [0, 255, 119, 9]),
        (16, 0, struct.pack(">4H", 0, 300, 301, 65535), struct.pack(">H", 300), [0, 255, 1, 255]),
        (8, 2, bytes([0, 0, 0, 3, 4, 5, 3, 4, 6, 9, 9, 9]), struct.pack(">3H", 3, 4, 5), [0, 255, 3, 9]),
        (16, 2, struct.pack(">12H", *[0] * 3, *[4096, 512, 768] * 2, *[2304] * 3), struct.pack(">3H", 4096, 512, 768),
         [0, 255, 255, 9]),
    ],
)  # fmt: skip
def test_a_png_names_its_transparent_colour_in_its_own_depth(tmp_path, bits, colour_type, row, key, expected):
    assert pixels(png(tmp_path / "a.png", bits, colour_type, row, key))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, kind):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16, 0] = upright[8:, :16, 1] = 255
    upright[:8, 16:] = 128
    stored = {  # how a camera that is held so stores the picture
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{kind}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    found = pixels(path)
    assert found.shape == upright.shape
    assert np.abs(found[2::4, 2::4].astype(int) - upright[2::4, 2::4]).max() < 30


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0broken",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01x\0\0\0",
    ],
)
def test_a_broken_exif_block_does_no_harm(tmp_path, exif):
    plain = saved(tmp_path / "a.jpg", Image.fromarray(smooth(16, 24)))
    broken = saved(tmp_path / "b.jpg", Image.fromarray(smooth(16, 24)), exif=exif)
    assert np.array_equal(pixels(broken), pixels(plain))


def test_an_exif_block_that_pillow_cannot_read_at_all(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n3\nno hex")
    path = saved(tmp_path / "a.png", Image.fromarray(noise(3, 4)), pnginfo=text)
    with Image.open(path) as image, pytest.raises(ValueError, match="fromhex"):
        image.getexif()
    assert np.array_equal(pixels(path), noise(3, 4))


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((4, 6), grey, np.uint8)) for grey in (10, 90, 200)]
    for kind in ("gif", "png", "tif"):
        path = saved(tmp_path / f"a.{kind}", frames[0], save_all=True, append_images=frames[1:])
        assert (pixels(path) == 10).all(), kind


def test_the_ending_of_the_name_does_not_matter(tmp_path):
    assert np.array_equal(pixels(saved(tmp_path / "a.jpg", Image.fromarray(noise(3, 4)), format="PNG")), noise(3, 4))


def test_what_is_no_picture_is_refused_and_named(tmp_path):
    for name, data, reason in (
        ("empty.jpg", b"", "an empty file, 0 bytes"),
        ("notes.txt", b"Dear reader,\n", "no picture that Pillow can read; it begins with b'Dear reader,'"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\nshowpage\n", "PostScript"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError, match=f"{name}: {reason}") as error:
            read_picture(tmp_path / name)
        assert error.value.path == tmp_path / name
        assert error.value.lasting


def iptc(inner, W=30, H=20):
    """An IPTC file around another one, which it says is a picture of W x H."""

    def field(kind, number, value):
        return bytes([0x1C, kind, number]) + struct.pack(">H", len(value)) + value

    head = field(3, 60, b"\1\0") + field(3, 20, struct.pack(">H", W)) + field(3, 30, struct.pack(">H", H))
    return head + field(3, 120, b"\5") + field(8, 10, inner) + bytes(5)


@pytest.mark.skipif(os.name == "nt", reason="a program in place of Ghostscript: a shell script, which Windows has not")
def test_no_file_makes_pillow_run_ghostscript(tmp_path, monkeypatch):
    ran, gs = tmp_path / "it ran", tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # not looked for yet
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\nshowpage\n%%EOF\n"
    dos = b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(eps)) + bytes(18) + eps
    for raw, reason in ((eps, "PostScript"), (dos, "PostScript"), (iptc(eps), "no picture"), (iptc(iptc(eps)), "no ")):
        (tmp_path / "cat.jpg").write_bytes(raw)
        with pytest.raises(PictureError, match=rf"cat\.jpg: {reason}"):
            read_picture(tmp_path / "cat.jpg")
        assert not ran.exists()


def test_a_picture_inside_of_another_is_not_larger_than_the_header_says(tmp_path):
    raw = io.BytesIO()
    Image.new("L", (300, 200), 9).save(raw, "PNG")
    (tmp_path / "a.jpg").write_bytes(iptc(raw.getvalue()))
    with pytest.raises(PictureError, match="no picture that Pillow can read"):
        read_picture(tmp_path / "a.jpg")


def test_metafiles_are_not_drawn(tmp_path):
    emf = bytearray(200)
    emf[:4], emf[40:44] = b"\1\0\0\0", b" EMF"
    emf[8:24], emf[24:40] = struct.pack("<4i", 0, 0, 30, 20), struct.pack("<4i", 0, 0, 3000, 2000)
    (tmp_path / "a.jpg").write_bytes(emf)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "WMF"
    with pytest.raises(PictureError, match="no picture that Pillow can read"):
        read_picture(tmp_path / "a.jpg")


def test_files_that_cannot_be_opened_are_refused_for_now_only(tmp_path):
    for path, reason in ((tmp_path / "none.jpg", "cannot be opened"), (tmp_path, "not a plain file"), ("\0", "cannot")):
        with pytest.raises(PictureError, match=reason) as error:
            read_picture(path)
        assert error.value.lasting == (path == tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes: this system has none")
def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PictureError, match="not a plain file"):
        read_picture(tmp_path / "pipe.jpg")


def test_a_name_that_is_no_text_can_be_printed():
    with pytest.raises(PictureError) as error:
        read_picture("caf\udce9.jpg")
    assert "caf\\udce9.jpg: cannot be opened" in str(error.value).encode("utf-8").decode()


@pytest.mark.parametrize("failure", [MemoryError(), OSError(5, "Input/output error")])
def test_a_failure_of_the_machine_is_not_lasting(tmp_path, monkeypatch, failure):
    path = saved(tmp_path / "a.png", Image.fromarray(noise(3, 4)))

    def fail(*args):
        raise failure

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(PictureError, match=r"memory|Input/output") as error:
        read_picture(path)
    assert not error.value.lasting


def test_damaged_bytes_that_cause_an_errno_are_damaged_for_good(tmp_path):
    # a PCX file whose palette would lie before its beginning, to where no file can be wound
    head = struct.pack("<4B6H", 10, 5, 1, 8, 0, 0, 23, 19, 100, 100) + bytes(48) + struct.pack("<BBHH", 0, 1, 24, 1)
    (tmp_path / "a.jpg").write_bytes(head + bytes(24))
    with pytest.raises(PictureError, match=r"a\.jpg: damaged or cut short \(OSError: .*Invalid argument") as error:
        read_picture(tmp_path / "a.jpg")
    assert error.value.lasting


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "webp"])
def test_a_file_cut_short_is_refused(tmp_path, kind):
    path = saved(tmp_path / f"a.{kind}", Image.fromarray(noise(40, 50)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=f"a.{kind}: (damaged or cut short|no picture)"):
        read_picture(path)


def bomb(path, W, H):
    """A small file whose header promises W x H pixels."""
    data = bytearray(png(path, 1, 0, b"\0").read_bytes())
    data[16:24] = struct.pack(">II", W, H)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("W", "H"), [(9434, 9434), (10_000, 9_500), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, monkeypatch, W, H):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("pixels were decoded"))
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(PictureError, match=r"a\.png: .*decompression bomb"):
        read_picture(bomb(tmp_path / "a.png", W, H))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # Pillow's own guard taken away
    with pytest.raises(PictureError, match=r"a\.png: .*(decompression bomb|damaged)"):
        read_picture(tmp_path / "a.png")
    monkeypatch.undo()
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_large_pictures_are_decoded_too(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("1", (4001, 4000), 1))
    assert decode.MANY_PIXELS < 4001 * 4000
    assert read_picture(path).size == (4001, 4000)
    assert not decode._one_large.locked()


def most_at_once(monkeypatch, kind, path, shorter_side):
    """Of two threads that read the picture, how many decode at the same time."""
    inside, most, pair, counting, real = 0, 0, threading.Barrier(2), threading.Lock(), kind.load

    def load(image):
        nonlocal inside, most
        with counting:
            inside += 1
            most = max(most, inside)
        with contextlib.suppress(threading.BrokenBarrierError):
            pair.wait(0.3)  # for the other thread, should it be let in meanwhile
        answer = real(image)
        with counting:
            inside -= 1
        return answer

    monkeypatch.setattr(kind, "load", load)
    threads = [threading.Thread(target=read_picture, args=(path, shorter_side)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("shorter_side", [None, 30])
def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch, progressive, shorter_side):
    """A progressive JPEG also where it is decoded small: its coefficients are held at full size."""
    path = saved(tmp_path / "a.jpg", Image.fromarray(smooth(480, 640)), progressive=progressive)
    monkeypatch.setattr(decode, "MANY_PIXELS", 480 * 640 - 1)
    most = most_at_once(monkeypatch, JpegImagePlugin.JpegImageFile, path, shorter_side)
    assert most == (1 if shorter_side is None or progressive else 2)


def warner(monkeypatch):
    def warn(image):
        exec(compile("import warnings; warnings.warn('from Pillow')", "PIL", "exec"), {"__name__": "PIL.Image"})
        logging.getLogger("PIL.Image").error("a line from Pillow")
        return {}

    monkeypatch.setattr(Image.Image, "getexif", warn)


def test_pillows_warnings_are_not_shown_and_ours_are(tmp_path, monkeypatch, capfd):
    path = saved(tmp_path / "a.png", Image.fromarray(noise(3, 4)))
    warner(monkeypatch)
    logger = logging.getLogger("PIL")
    monkeypatch.setattr(logger, "propagate", False)  # as without pytest's handlers: the last resort is stderr
    filters, handlers = list(warnings.filters), list(logger.handlers)
    with warnings.catch_warnings(record=True) as seen:
        read_picture(path)
    assert not seen
    assert capfd.readouterr() == ("", "")
    assert (list(warnings.filters), list(logger.handlers)) == (filters, handlers)
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_silence_holds_until_the_last_thread_is_out(monkeypatch):
    quiet, filters = decode._Silence(), list(warnings.filters)
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    seen = []

    def first():
        with quiet():
            first_is_in.set()
            second_is_in.wait()
        first_is_out.set()

    def second():
        first_is_in.wait()
        with quiet():
            second_is_in.set()
            first_is_out.wait()
            seen.append(warnings.filters[1][3].pattern)

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [r"PIL\."]
    assert list(warnings.filters) == filters


@pytest.mark.parametrize(("H", "W"), [(30, 50), (50, 30), (41, 40), (8, 100)])
@pytest.mark.parametrize("size", [8, 13, 40, 64])
def test_fit_scales_the_shorter_side_and_takes_the_centre(H, W, size):
    picture = smooth(H, W)
    found = fit(Image.fromarray(picture), size)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((3, size, size), np.uint8, True)
    # the plain way: all of it to the new size, then cut
    scale = size / min(H, W)
    whole = Image.fromarray(picture).resize((round(W * scale), round(H * scale)), Image.Resampling.BILINEAR)
    top, left = (whole.height - size) // 2, (whole.width - size) // 2
    expected = np.asarray(whole)[top : top + size, left : left + size].transpose(2, 0, 1)
    step = max(np.abs(np.diff(expected.astype(int), axis=axis)).max() for axis in (1, 2))
    assert np.abs(found.astype(int) - expected).max() <= step + 2  # the plain cut may be half a pixel off


@pytest.mark.parametrize(("H", "W"), [(11, 17), (11, 12), (16, 11), (256, 257)])
def test_fit_keeps_a_square_of_that_size_as_it_is(H, W):
    size, picture = min(H, W), noise(H, W)
    top, left = (H - size) // 2, (W - size) // 2
    expected = picture[top : top + size, left : left + size].transpose(2, 0, 1)
    assert np.array_equal(fit(Image.fromarray(picture), size), expected)


def test_fit_averages_what_becomes_one_pixel():
    board = np.indices((64, 64)).sum(0) % 2 * 255  # one pixel in four of it would be all black or all white
    found = fit(Image.fromarray(np.stack([board] * 3, 2).astype(np.uint8)), 16)
    assert np.abs(found.astype(int) - 127.5).max() < 4


@pytest.mark.parametrize("size", [20, 33, 64])
def test_a_jpeg_decoded_small_gives_nearly_the_same_picture(tmp_path, size):
    path = saved(tmp_path / "a.jpg", Image.fromarray(smooth(300, 420)), quality=95)
    small = read_picture(path, shorter_side=size)
    assert 2 * size <= min(small.size) < 300
    difference = fit(small, size).astype(float) - fit(read_picture(path), size)
    assert np.abs(difference).mean() < 1
    assert np.abs(difference).max() < 8
    assert read_picture(path, shorter_side=200).size == (420, 300)


@pytest.fixture(scope="module")
def small_files():
    """A small picture in every format that Pillow writes and reads here."""
    Image.init()
    files = []
    for kind in sorted(set(Image.SAVE) - {"PDF", "PALM", "EPS"}):
        for mode in ("L", "RGB", "RGBA", "1"):
            raw, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = 6
            options = {"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "MPO") else {}
            # each format has modes of its own, and the stubs (BUFR and others) have no writer
            with warnings.catch_warnings(), contextlib.suppress(OSError, ValueError, KeyError):
                warnings.simplefilter("ignore")  # Pillow means to give some formats up
                Image.fromarray(noise(9, 14)).convert(mode).save(raw, format=kind, **options)
                files.append(raw.getvalue())
    assert len(files) > 40
    for options in ({"compression": "tiff_lzw"}, {"compression": "jpeg"}):
        raw = io.BytesIO()
        Image.fromarray(noise(9, 14)).save(raw, format="TIFF", **options)
        files.append(raw.getvalue())
    return files


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_a_picture_error(small_files, tmp_path, capfd, data):
    raw = bytearray(data.draw(st.sampled_from(small_files)))
    for _ in range(data.draw(st.integers(0, 4))):
        bit = data.draw(st.integers(0, 8 * len(raw) - 1))
        raw[bit // 8] ^= 1 << bit % 8
    how = data.draw(st.sampled_from(["flipped", "cut", "replaced"]))
    if how == "cut":
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    elif how == "replaced":
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + 8] = data.draw(st.binary(max_size=30))
    path = tmp_path / "a.jpg"
    path.write_bytes(raw)
    with contextlib.suppress(PictureError):
        image = read_picture(path, shorter_side=4)
        assert image.mode == "RGB"
        assert fit(image, 5).shape == (3, 5, 5)
    out, err = capfd.readouterr()
    assert not out
    assert not err or raw[:2] in (b"II", b"MM")  # libtiff prints from C


@given(raw=st.binary(max_size=200))
def test_random_bytes_are_no_picture(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "random bytes"
    path.write_bytes(raw)
    with pytest.raises(PictureError):
        read_picture(path)


def oddities(shared_data):
    with open(shared_data / "oddities" / "manifest.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_all_oddities(shared_data):
    rows = oddities(shared_data)
    assert len(rows) == 42
    for name, row in rows.items():
        path = shared_data / "oddities" / name
        if row["decodes_with_pillow_13"] == "no":
            with pytest.raises(PictureError, match=name.replace(".", r"\.") + ": "):
                read_picture(path)
            continue
        H, W = int(row["height"]), int(row["width"])
        if row["exif_orientation"] in ("5", "6", "7", "8"):
            H, W = W, H
        found = pixels(path)
        assert found.shape == (H, W, 3), name
        if row["mode"] in ("1", "L", "LA", "I;16"):
            assert (found == found[..., :1]).all(), name
        assert found.std() > 5 or name == "orientation_rectangle.jpg", name


def small(path, size=16):
    return fit(read_picture(path), size).astype(float)


def test_the_pixels_of_oddities(shared_data):
    folder: Path = shared_data / "oddities"
    hopper = small(folder / "hopper.png")
    assert np.array_equal(pixels(folder / "png_named_as_jpg.jpg"), pixels(folder / "hopper.png"))
    for name in ["hopper.jpg", *(f"hopper_orientation_{turn}.jpg" for turn in range(2, 9))]:
        assert np.abs(small(folder / name) - hopper).mean() < 2, name
        assert np.abs(small(folder / name)[:, ::-1] - hopper).mean() > 20, name
    grey = np.tensordot([0.299, 0.587, 0.114], hopper, 1)
    assert np.abs(small(folder / "hopper_gray.jpg") - grey).mean() < 2
    landscape = small(folder / "Landscape_1.jpg")
    for turn in (6, 8):
        assert np.abs(small(folder / f"Landscape_{turn}.jpg") - landscape).mean() < 3
    # photographed with the camera upright: what lies on the left when stored is at the top
    with Image.open(folder / "n02951585_can_opener.JPEG") as stored:
        lying = np.asarray(stored.convert("RGB"))
    assert np.array_equal(pixels(folder / "n02951585_can_opener.JPEG"), np.rot90(lying, -1))
    # one picture in two kinds of file, with the same transparent places
    assert np.abs(small(folder / "pil123p.png") - small(folder / "pil123rgba.png")).mean() < 3
    assert np.array_equal(pixels(folder / "p_trns_single.png"), pixels(folder / "rgb_trns.png"))
    # 16 bits in which nothing is above 255: nearly black, but for the transparent colour
    assert np.unique(pixels(folder / "i_trns.png")).tolist() == [0, 1, 255]
    assert pixels(folder / "l_trns.png").max() == 255
    assert pixels(folder / "orientation_rectangle.jpg").shape == (2, 1, 3)
    # the CMYK sample is black in the lower right corner and red in the upper left one
    corners = pixels(folder / "pil_sample_cmyk.jpg")[[0, -1], [0, -1]].astype(int)
    assert corners[0, 0] > 150 > 50 > corners[0, 1:].max()
    assert corners[1].max() < 30


def test_jpegs_decoded_small_on_real_photographs(shared_data):
    for path in sorted((shared_data / "photos-varied" / "cats").glob("*.jpg"))[:6]:
        difference = small(path, 72) - fit(read_picture(path, shorter_side=72), 72)
        assert np.abs(difference).mean() < 3  # other photographs in one class differ by 60 and more
        assert abs(difference.mean()) < 0.5
