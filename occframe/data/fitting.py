"""Pictures of any size to the one size of a batch: scaled to cover it, then cut at the centre.

An aligned 112 x 112 crop becomes the 112 x 96 one (height x width) by the cut alone, its pixels untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class _Cover(NamedTuple):
    """The scaled size, and the corner of the cut in it."""

    height: int
    width: int
    top: int
    left: int


def _cover(source: tuple[int, int], height: int, width: int) -> _Cover:
    scale = max(height / source[0], width / source[1])
    scaled = max(height, round(source[0] * scale)), max(width, round(source[1] * scale))
    return _Cover(*scaled, (scaled[0] - height) // 2, (scaled[1] - width) // 2)


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """image: array [H, W, 3] uint8. Returns array [height, width, 3], a view where no scaling is needed."""
    if image.shape[:2] == (height, width):
        return image
    cover = _cover(image.shape[:2], height, width)
    if (cover.height, cover.width) != image.shape[:2]:
        shrinks = cover.height < image.shape[0]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (cover.width, cover.height), interpolation=interpolation)
    return image[cover.top : cover.top + height, cover.left : cover.left + width]


def fit_batch(images: Tensor, height: int, width: int) -> Tensor:
    """The same for images on any device: Tensor [B, 3, H, W] float -> [B, 3, height, width]; gradients flow through."""
    from torch.nn import functional

    source = (images.shape[2], images.shape[3])
    cover = _cover(source, height, width)
    if (cover.height, cover.width) != source:
        size = (cover.height, cover.width)
        images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return images[:, :, cover.top : cover.top + height, cover.left : cover.left + width]


def fit_points(points: np.ndarray, source: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Where ``fit`` moves points. points: array [..., 2], (x, y) pixels of an image of (height, width) ``source``."""
    cover = _cover(source, height, width)
    factors = np.array([cover.width / source[1], cover.height / source[0]], points.dtype)
    # Integer coordinates are pixel centres.
    moved: np.ndarray = (points + 0.5) * factors - 0.5 - np.array([cover.left, cover.top], points.dtype)
    return moved
