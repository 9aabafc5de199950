from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.data.decoding import decode
from occframe.data.headers import BadImage, read_header
from tests.pictures import encode, flat_jpeg, ifd, jpeg_with_exif, noise, png, png_chunk, segment, tiff
from tests.pictures import exif as exif_block

PICTURE = noise()
JPEG = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
PROGRESSIVE = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
PALETTE = png_chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
WEBP = encode(PICTURE, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)

#: name -> (bytes, the RGB of its first and last pixel, tolerance)
READ_RIGHT = {
    "grey JPEG": (flat_jpeg([90]), (90, 90, 90), (90, 90, 90), 1),
    "YCbCr JPEG": (flat_jpeg([129, 107, 173]), (192, 104, 92), (192, 104, 92), 3),
    "RGB JPEG": (flat_jpeg([200, 100, 50], adobe=0), (200, 100, 50), (200, 100, 50), 1),
    "CMYK JPEG as Adobe writes it": (flat_jpeg([200, 100, 50, 255], adobe=0), (200, 100, 50), (200, 100, 50), 2),
    "CMYK JPEG, half black": (flat_jpeg([200, 100, 50, 128], adobe=0), (100, 50, 25), (100, 50, 25), 2),
    "YCCK JPEG": (flat_jpeg([129, 107, 173, 255], adobe=2), (63, 151, 163), (63, 151, 163), 3),
    "RGB PNG": (png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])]), (1, 2, 3), (4, 5, 6), 0),
    "grey PNG": (png(2, 1, 8, 0, [bytes([7, 9])]), (7, 7, 7), (9, 9, 9), 0),
    "bilevel PNG": (png(2, 1, 1, 0, [b"\x40"]), (0, 0, 0), (255, 255, 255), 0),
    "16-bit grey PNG": (png(2, 1, 16, 0, [struct.pack(">HH", 0x80FF, 0xFFFF)]), (128,) * 3, (255,) * 3, 1),
    "16-bit RGB PNG": (png(1, 1, 16, 2, [struct.pack(">HHH", 0xFF00, 0x8000, 0)]), (255, 128, 0), (255, 128, 0), 1),
    "palette PNG": (png(2, 1, 8, 3, [b"\0\1"], PALETTE), (10, 20, 30), (200, 100, 50), 0),
    "palette PNG, opaque tRNS": (
        png(2, 1, 8, 3, [b"\0\1"], PALETTE, png_chunk(b"tRNS", b"\xff\xff")),
        (10, 20, 30),
        (200, 100, 50),
        0,
    ),
    "palette PNG, transparent entry": (
        png(2, 1, 8, 3, [b"\0\1"], PALETTE, png_chunk(b"tRNS", b"\0\xff")),
        (0, 0, 0),
        (200, 100, 50),
        0,
    ),
    "RGBA PNG": (png(2, 1, 8, 6, [bytes([90, 90, 90, 0, 200, 100, 50, 255])]), (0, 0, 0), (200, 100, 50), 0),
    "RGBA PNG, half transparent": (png(1, 1, 8, 6, [bytes([200, 100, 50, 128])]), (100, 50, 25), (100, 50, 25), 1),
    "16-bit RGBA PNG": (
        png(1, 1, 16, 6, [struct.pack(">HHHH", 0xFFFF, 0x8000, 0, 0x8000)]),
        (128, 64, 0),
        (128, 64, 0),
        1,
    ),
    "grey PNG with alpha": (png(2, 1, 8, 4, [bytes([90, 0, 200, 255])]), (0, 0, 0), (200, 200, 200), 0),
    "8-bit TIFF": (tiff(2, 1, 8, bytes([7, 200])), (7, 7, 7), (200, 200, 200), 0),
    "16-bit TIFF": (tiff(2, 1, 16, struct.pack("<HH", 0x8000, 0xFFFF)), (128,) * 3, (255,) * 3, 1),
    "16-bit TIFF of the other order": (
        tiff(2, 1, 16, struct.pack(">HH", 0x8000, 0xFFFF), order=">"),
        (128,) * 3,
        (255,) * 3,
        1,
    ),
    "PGM": (b"P5\n# made by hand\n2 1\n255\n\x07\xc8", (7, 7, 7), (200, 200, 200), 0),
    "4-bit PGM": (b"P5 2 1 15 \x05\x0f", (85, 85, 85), (255, 255, 255), 0),
    "10-bit PGM": (b"P5\n2 1\n1023\n" + struct.pack(">HH", 512, 1023), (128,) * 3, (255,) * 3, 1),
    "16-bit PGM": (b"P5\n2 1\n65535\n" + struct.pack(">HH", 0x8000, 0xFFFF), (128,) * 3, (255,) * 3, 1),
    "text PGM": (b"P2\n2 1\n15\n5 15\n", (85, 85, 85), (255, 255, 255), 1),
    "PPM": (b"P6\n1 1\n255\n\x01\x02\x03", (1, 2, 3), (1, 2, 3), 0),
    "PPM of 100 levels": (b"P6\n1 1\n100\n\x64\x32\x00", (255, 128, 0), (255, 128, 0), 1),
    "PBM": (b"P1\n2 1\n0 1\n", (255, 255, 255), (0, 0, 0), 0),
}


@pytest.mark.parametrize("name", READ_RIGHT)
def test_read_right(name):
    encoded, first, last, tolerance = READ_RIGHT[name]
    image = decode(encoded)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.flags.c_contiguous
    assert np.abs(image[0, 0].astype(int) - first).max() <= tolerance
    assert np.abs(image[-1, -1].astype(int) - last).max() <= tolerance


def encode_rgba(rgba):
    bgra = rgba[:, :, [2, 1, 0, 3]]
    return cv2.imencode(".webp", np.ascontiguousarray(bgra), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_formats_keep_every_pixel(suffix):
    assert np.array_equal(decode(encode(PICTURE, suffix)), PICTURE)


@pytest.mark.parametrize("encoded", [JPEG, PROGRESSIVE, WEBP], ids=["JPEG", "progressive JPEG", "WebP"])
def test_lossy_formats_come_close(encoded):
    assert np.abs(decode(encoded).astype(int) - PICTURE).mean() < 6


def test_transparent_webp_becomes_black():
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[:, :50, 3] = 0
    image = decode(encode_rgba(rgba))
    assert not image[:, :50].any()
    assert np.array_equal(image[:, 50:], PICTURE[:, 50:])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation, order):
    """The stored picture has its bright corner where the tag says; upright it is at the top left."""
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8, :16] = 250
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    image = decode(jpeg_with_exif(encode(stored, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100), orientation, order))
    assert np.abs(image.astype(int) - upright).max() < 20


def test_rotated_and_transparent_is_refused_rather_than_misread():
    rows = [bytes([200, 100, 50, 0, 200, 100, 50, 255])]
    encoded = png(2, 1, 8, 6, rows, png_chunk(b"eXIf", exif_block(6)))
    with pytest.raises(BadImage, match="transparent and rotated"):
        decode(encoded)


REFUSED = {
    "zero bytes": (b"", "empty file"),
    "text": (b"hello, I am a picture", "not a picture that is read"),
    "an error page": (b"<!DOCTYPE html><html>404</html>", "a web page file"),
    "GIF": (b"GIF89a" + bytes(20), "a GIF file"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(20), "a HEIF or AVIF file"),
    "magic alone": (b"\xff\xd8\xff", "truncated JPEG"),
    "JPEG cut in its header": (JPEG[:100], "truncated JPEG"),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "truncated JPEG: .* without an end-of-image marker"),
    "JPEG without its last byte": (JPEG[:-1], "truncated JPEG"),
    "progressive JPEG cut": (PROGRESSIVE[: len(PROGRESSIVE) * 2 // 3], "truncated JPEG"),
    "JPEG without frame": (b"\xff\xd8" + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\xff\xd9", "corrupt JPEG"),
    "12-bit JPEG": (flat_jpeg([90]).replace(b"\x08\x00\x08\x00\x08", b"\x0c\x00\x08\x00\x08"), "corrupt JPEG"),
    "PNG cut": (encode(PICTURE, ".png")[:5000], "corrupt PNG"),
    "PNG cut in its header": (encode(PICTURE, ".png")[:20], "truncated PNG"),
    "PNG with a flipped bit": (encode(PICTURE, ".png").replace(b"IDAT", b"IDAT\x01", 1), "corrupt PNG"),
    "WebP cut": (WEBP[: len(WEBP) // 2], "corrupt WebP"),
    "WebP cut in its header": (WEBP[:18], "truncated WebP"),
    "a WAV file": (b"RIFF\x10\0\0\0WAVEfmt " + bytes(20), "corrupt WebP"),
    "BMP cut": (encode(PICTURE, ".bmp")[:9000], "corrupt BMP"),
    "TIFF cut": (encode(PICTURE, ".tiff")[:9000], "TIFF"),
    "floating-point TIFF": (tiff(1, 1, 32, struct.pack("<f", 0.5), sample_format=3), "corrupt TIFF"),
    "PGM cut": (b"P5\n20 10\n255\nabc", "corrupt PNM"),
    "PGM without size": (b"P5\nwide high\n255\n", "corrupt PNM"),
    "PGM without maximum": (b"P5\n2 1\n0\nab", "corrupt PNM"),
    "no pixels": (png(0, 0, 8, 2, []), "corrupt PNG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    encoded, reason = REFUSED[name]
    with pytest.raises(BadImage, match=reason):
        decode(encoded)


@pytest.mark.parametrize("extra", [bytes(300), b"trailer" * 9, JPEG[:900]])
def test_what_cameras_append_to_a_jpeg_does_no_harm(extra):
    assert np.array_equal(decode(JPEG + extra), decode(JPEG))


def test_stray_bytes_between_jpeg_segments_do_no_harm():
    assert np.array_equal(decode(JPEG[:2] + segment(0xFE, b"note") + b"\0\0\xff" + JPEG[2:]), decode(JPEG))


BOMBS = {
    "JPEG": flat_jpeg([90]).replace(b"\x08\x00\x08\x00\x08", b"\x08\xff\xdc\xff\xdc"),
    "PNG": png(50_000, 50_000, 1, 0, [b"\0"]),
    "WebP": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\x4f\xc3\0\x4f\xc3\0" + bytes(8),
    "BMP": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 40_000, -40_000, 1, 24) + bytes(28),
    "TIFF": ifd({256: (4, 60_000), 257: (4, 60_000)}),
    "TIFF of huge tiles": ifd({256: (3, 8), 257: (3, 8), 322: (4, 60_000), 323: (4, 60_000)}, ">"),
    "PNM": b"P5\n90000 90000\n255\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(BadImage, match=r"too many pixels: \d+ x \d+, at most 67108864"):
        decode(BOMBS[name])


def test_the_limit_is_the_callers():
    assert decode(JPEG, max_pixels=112 * 112).shape == (112, 112, 3)
    with pytest.raises(BadImage, match="112 x 112, at most 12543"):
        decode(JPEG, max_pixels=112 * 112 - 1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm", ".pgm"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (112, 96), (300, 17)])
def test_headers_tell_the_size_that_is_decoded(suffix, size):
    image = noise(*size)
    encoded = encode(image[:, :, 0] if suffix == ".pgm" else image, suffix)
    header = read_header(encoded)
    assert (header.height, header.width) == size == decode(encoded).shape[:2]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([JPEG, PROGRESSIVE, WEBP, *(entry[0] for entry in READ_RIGHT.values())]), st.data())
def test_damaged_pictures_decode_or_say_why(encoded, data):
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        image = decode(damaged, max_pixels=1 << 20)
    except BadImage:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(JPEG) - 1))
def test_no_truncated_jpeg_passes(length):
    with pytest.raises(BadImage):
        decode(JPEG[:length])
