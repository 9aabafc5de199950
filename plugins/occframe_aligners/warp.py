"""Resampling a picture under a similarity transform, without aliasing."""

from __future__ import annotations

import cv2
import numpy as np


def warp_similarity(image: np.ndarray, transform: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture seen through ``transform``; black where it has no pixels.

    image: [H, W, 3] uint8. transform: [2, 3], source pixel -> output pixel. Returns [height, width, 3] uint8.
    Bilinear, as the training sets of common recognisers were made. A bilinear sample sees 2 x 2 pixels: below half size
    it would skip pixels, so the part of the picture that is needed is first averaged down to between 1 and 2 times
    the size wanted.
    """
    scale = np.hypot(transform[0, 0], transform[1, 0])
    if scale < 0.5:
        image, transform = _shrink(image, transform, height, width, factor=int(1 / scale))
    return cv2.warpAffine(image, transform, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _shrink(
    image: np.ndarray, transform: np.ndarray, height: int, width: int, *, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The region ``transform`` looks at, averaged over ``factor`` x ``factor`` pixels, and the transform from there."""
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    seen = (corners - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T / factor
    # Blocks are counted from the picture's origin, so that a pixel's value does not depend on the size of the output.
    blocks = -(-np.array(image.shape[1::-1]) // factor)
    low = np.clip(np.floor(seen.min(0)).astype(int) - 1, 0, blocks - 1)
    high = np.clip(np.ceil(seen.max(0)).astype(int) + 2, low + 1, blocks)
    region = image[low[1] * factor : high[1] * factor, low[0] * factor : high[0] * factor]
    missing = (high - low) * factor - region.shape[1::-1]
    if missing.any():
        region = cv2.copyMakeBorder(region, 0, int(missing[1]), 0, int(missing[0]), cv2.BORDER_REPLICATE)
    small = cv2.resize(region, (high - low).tolist(), interpolation=cv2.INTER_AREA)
    # Pixel centres: x = factor * (x_small + low) + (factor - 1) / 2.
    linear = transform[:, :2] * factor
    shift = transform[:, :2] @ (low * factor + (factor - 1) / 2) + transform[:, 2]
    return small, np.column_stack([linear, shift])
