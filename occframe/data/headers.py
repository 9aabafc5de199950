"""What a picture says of itself in its first bytes: its format and size, known before anything is decoded.

A few kilobytes can claim 65,000 x 65,000 pixels. Only formats whose size can be read here are decoded at all.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from occframe.errors import OccframeError


class BadImage(OccframeError):
    """A picture that cannot be read right. reason: fixed words, to count by; detail: what is wrong with this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Header(NamedTuple):
    """width, height: pixels as stored, before any rotation. alpha: there may be transparent pixels.

    maximum: the value of full brightness, where the format lets a file choose it. grey: a JPEG of one component.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    maximum: int = 255
    grey: bool = False


def read_header(data: bytes) -> Header:
    """Format and size of an encoded picture. Raises BadImage where it is none of ours, or cut within its header."""
    if data[:3] == b"\xff\xd8\xff":  # nearly all of them, and the only one worth hurrying for
        return _jpeg(data)
    if not data:
        raise BadImage("empty file")
    for magic, (name, parse) in _FORMATS.items():
        if data.startswith(magic):
            try:
                return parse(data)
            except (IndexError, struct.error):
                raise BadImage(f"truncated {name}", f"{len(data)} bytes end within the header") from None
    known = next((name for name, pattern in _OTHERS.items() if pattern.match(data)), None)
    what = f"a {known} file" if known else f"starts with {data[:8]!r}"
    raise BadImage("not a picture that is read", f"{what}; JPEG, PNG, WebP, BMP, TIFF and PGM/PPM are")


# Frame headers SOF0..SOF15, less DHT, JPG and DAC, which share their range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])


def _jpeg(data: bytes) -> Header:
    at = 2
    try:
        while True:
            if data[at] != 0xFF:  # stray bytes between segments are skipped, as libjpeg does
                at = data.index(b"\xff", at)
            marker = data[at + 1]
            if marker in _START_OF_FRAME:
                height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
                grey = data[at + 9] == 1
                break
            if marker == 0xFF:
                at += 1
            elif marker in _WITHOUT_LENGTH:
                at += 2
            elif marker in (0xD9, 0xDA):
                raise BadImage("corrupt JPEG", "no frame header before the image data")
            else:
                at += 2 + (data[at + 2] << 8 | data[at + 3])
    except (IndexError, ValueError):
        raise BadImage("truncated JPEG", f"{len(data)} bytes end within the header") from None
    # Entropy-coded data cannot contain the end marker, so that after the frame header it is the image's own;
    # cameras append things to it. Decoders fill what is missing with grey and may not say so.
    if not data.endswith(b"\xff\xd9") and data.find(b"\xff\xd9", at) < 0:
        raise BadImage("truncated JPEG", f"{len(data)} bytes without an end-of-image marker")
    return Header("JPEG", width, height, grey=grey)


def _png(data: bytes) -> Header:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    alpha = colour in (4, 6) or data.find(b"tRNS", 33, data.find(b"IDAT")) > 0
    return Header("PNG", width, height, alpha)


def _webp(data: bytes) -> Header:
    kind = data[12:16] if data[8:12] == b"WEBP" else data[8:12]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return Header("WebP", width, height, bool(data[20] & 0x10))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return Header("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise BadImage("corrupt WebP", f"unknown chunk {kind!r}")


def _bmp(data: bytes) -> Header:
    layout = "<HH" if struct.unpack_from("<I", data, 14)[0] == 12 else "<ii"
    width, height = struct.unpack_from(layout, data, 18)
    return Header("BMP", abs(width), abs(height))


_TIFF_SIZES = {256: "width", 257: "height", 322: "tile width", 323: "tile height"}


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", data, 4)[0]
    sizes = dict.fromkeys(_TIFF_SIZES.values(), 0)
    for entry in range(struct.unpack_from(order + "H", data, first)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, first + 2 + 12 * entry)
        if tag in _TIFF_SIZES:
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, first + 10 + 12 * entry)
            sizes[_TIFF_SIZES[tag]] = value
    # A tile is decoded whole, however little of it the image uses.
    return Header("TIFF", max(sizes["width"], sizes["tile width"]), max(sizes["height"], sizes["tile height"]))


def _pnm(data: bytes) -> Header:
    words = re.sub(rb"#[^\n]*", b"", data[:4096]).split(maxsplit=4)[1:4]
    if not all(word.isdigit() and len(word) < 10 for word in words[:2]) or len(words) < 3:
        raise BadImage("corrupt PNM", "its header does not give width and height")
    width, height = int(words[0]), int(words[1])
    if data[1:2] in b"14":  # black and white has no maximum
        return Header("PNM", width, height)
    if not words[2].isdigit() or not 0 < int(words[2][:9]) < 65536:
        raise BadImage("corrupt PNM", "its brightest value is not within 1..65535")
    return Header("PNM", width, height, maximum=int(words[2]))


_FORMATS: Mapping[bytes, tuple[str, Callable[[bytes], Header]]] = {
    b"\x89PNG\r\n\x1a\n": ("PNG", _png),
    b"RIFF": ("WebP", _webp),
    b"BM": ("BMP", _bmp),
    b"II*\0": ("TIFF", _tiff),
    b"MM\0*": ("TIFF", _tiff),
} | {b"P%d" % number: ("PNM", _pnm) for number in range(1, 7)}

_OTHERS = {
    "GIF": re.compile(rb"GIF8"),
    "HEIF or AVIF": re.compile(rb"....ftyp(hei|mif|msf|avi|hev)", re.DOTALL),
    "JPEG 2000": re.compile(rb"....jP|\xff\x4f\xff\x51", re.DOTALL),
    "JPEG XL": re.compile(rb"....JXL |\xff\x0a", re.DOTALL),
    "Photoshop": re.compile(rb"8BPS"),
    "OpenEXR": re.compile(rb"\x76\x2f\x31\x01"),
    "BigTIFF": re.compile(rb"II\x2b\0|MM\0\x2b"),
    "PDF": re.compile(rb"%PDF"),
    "web page": re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE),
    "ZIP": re.compile(rb"PK\x03\x04"),
}
