"""Encoded pictures from anywhere to RGB arrays, or a reason why not."""

from __future__ import annotations

import os

# A damaged picture gets a reason and a place in the quarantine; OpenCV's own lines on stderr would bury the progress.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2
import numpy as np

from occframe.data.headers import BadImage, Header, read_header

__all__ = ["MAX_PIXELS", "BadImage", "decode"]

#: 8192 x 8192: a little above what telephones store by default; 201 MB once decoded.
MAX_PIXELS = 1 << 26


def decode(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A picture as array [H, W, 3] uint8 RGB, upright as its EXIF orientation says.

    encoded: JPEG (grey, RGB, CMYK), PNG, WebP, BMP, TIFF, PGM or PPM; the first picture where a file holds several.
    Grey becomes three equal channels, 16 bits become 8 by their scale, what is transparent in a PNG or WebP becomes
    black. Raises BadImage for anything else, for what is truncated or corrupt, and, without decoding it, for a picture
    of more than ``max_pixels``. Damage inside compressed data that leaves its structure whole cannot be seen.
    """
    header = read_header(encoded)
    if header.width * header.height > max_pixels:
        raise BadImage("too many pixels", f"{header.width} x {header.height}, at most {max_pixels} are decoded")
    if header.alpha or header.maximum != 255:
        return _decode_unusual(encoded, header)
    if header.grey:  # a tenth faster than to have the decoder triple it
        return cv2.cvtColor(_imdecode(encoded, header, cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)
    return _imdecode(encoded, header, cv2.IMREAD_COLOR_RGB)


def _imdecode(encoded: bytes, header: Header, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise BadImage(f"corrupt {header.format}", error.err) from None
    if image is None:
        raise BadImage(f"corrupt {header.format}", f"{len(encoded)} bytes that its decoder does not read")
    return image


def _decode_unusual(encoded: bytes, header: Header) -> np.ndarray:
    stored = _imdecode(encoded, header, cv2.IMREAD_UNCHANGED)
    if header.format == "PNM":
        # OpenCV scales the text variants to 0..255 but leaves the binary ones at their own maximum.
        if encoded[1:2] in b"23":
            return _imdecode(encoded, header, cv2.IMREAD_COLOR_RGB)
        scaled = np.rint(stored * (255 / header.maximum)).clip(0, 255).astype(np.uint8)
        return (
            np.ascontiguousarray(scaled[:, :, ::-1]) if scaled.ndim == 3 else np.repeat(scaled[:, :, None], 3, axis=2)
        )
    colour = _imdecode(encoded, header, cv2.IMREAD_COLOR_RGB)
    if stored.ndim < 3 or stored.shape[2] < 4:
        return colour
    opacity = stored[:, :, 3:] / np.float32(np.iinfo(stored.dtype).max)
    if opacity.min() == 1:
        return colour
    if b"eXIf" in encoded or b"EXIF" in encoded:
        # Only the colours were turned upright.
        raise BadImage("transparent and rotated", "a picture with both transparency and EXIF data")
    return np.rint(colour * opacity).astype(np.uint8)
