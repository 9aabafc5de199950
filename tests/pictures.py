"""Small pictures in the encodings that people really have, written by hand: OpenCV writes few of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np


def encode(image: np.ndarray, suffix: str, *options: int) -> bytes:
    """image: [H, W, 3] uint8 RGB or [H, W] grey."""
    stored = image[:, :, ::-1] if image.ndim == 3 else image
    return cv2.imencode(suffix, np.ascontiguousarray(stored), list(options))[1].tobytes()


def noise(height: int = 112, width: int = 112, seed: int = 0) -> np.ndarray:
    """A smooth random picture [H, W, 3] uint8, so that JPEG neither fails nor becomes trivial."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


# --- PNG --------------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: Sequence[bytes], *extra: bytes) -> bytes:
    """colour: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA. rows: packed samples. extra: chunks before the data."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + png_chunk(b"IEND", b"")


# --- JPEG -------------------------------------------------------------------------------------------------------------


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def flat_jpeg(components: Sequence[int], *, blocks: tuple[int, int] = (1, 1), adobe: int | None = None) -> bytes:
    """A baseline JPEG of one colour; ``components`` are stored as they are (1 grey, 3 YCbCr or RGB, 4 CMYK or YCCK).

    blocks: height and width in blocks of 8 pixels. adobe: the colour transform of an Adobe segment.
    """
    count = len(components)
    bits = []
    for block in range(blocks[0] * blocks[1]):
        for value in components:
            # Quantisation 1: the DC term of a flat block is 8 times its level; later blocks differ from it by 0.
            level = (value - 128) * 8 if block == 0 else 0
            size = abs(level).bit_length()
            bits.append(f"{size:04b}")  # the table below gives category n the 4-bit code n
            if size:
                bits.append(f"{level if level > 0 else level + (1 << size) - 1:0{size}b}")
            bits.append("0")  # end of block
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB", 8, blocks[0] * 8, blocks[1] * 8, count)
    frame += b"".join(bytes([number + 1, 0x11, 0]) for number in range(count))
    selectors = b"".join(bytes([number + 1, 0]) for number in range(count))
    return b"".join(
        [
            b"\xff\xd8",
            b"" if adobe is None else segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)),
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(0xC0, frame),
            segment(0xC4, b"\x00" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))),
            segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
            segment(0xDA, bytes([count]) + selectors + b"\0\x3f\0"),
            scan,
            b"\xff\xd9",
        ]
    )


# --- TIFF and EXIF ----------------------------------------------------------------------------------------------------


def ifd(tags: dict[int, tuple[int, int]], order: str = "<", first: int = 8) -> bytes:
    """A TIFF header and directory. tags: number -> (type 3 SHORT or 4 LONG, value)."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(
        struct.pack(order + ("HHIHH" if kind == 3 else "HHII"), tag, kind, 1, value, *([0] if kind == 3 else []))
        for tag, (kind, value) in sorted(tags.items())
    )
    return magic + struct.pack(order + "IH", first, len(tags)) + entries + struct.pack(order + "I", 0)


def tiff(width: int, height: int, depth: int, samples: bytes, *, order: str = "<", **more: int) -> bytes:
    """A grey TIFF of one strip. more: ``orientation``, ``sample_format``."""
    names = {"orientation": 274, "sample_format": 339}
    tags = {256: width, 257: height, 258: depth, 259: 1, 262: 1, 277: 1, 278: height, 279: len(samples)}
    tags |= {names[name]: value for name, value in more.items()}
    offset = 8 + 2 + 12 * (len(tags) + 1) + 4
    return ifd({tag: (3, value) for tag, value in tags.items()} | {273: (4, offset)}, order) + samples


def exif(orientation: int, order: str = "<") -> bytes:
    return ifd({274: (3, orientation)}, order)


def jpeg_with_exif(jpeg: bytes, orientation: int, order: str = "<") -> bytes:
    return jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif(orientation, order)) + jpeg[2:]
