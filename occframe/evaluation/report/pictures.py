"""Faces as small JPEGs inside the page, and the outline of what covers them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from occframe.types import FaceBatch

_LARGEST_SIDE = 160
_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """uri: a data URI. width, height: pixels of the picture."""

    id: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class OccludedSample:
    """A face before and after. outline: an SVG path in pixels of the picture. coverage: share of it that is covered."""

    clean: Picture
    occluded: Picture
    outline: str
    coverage: float


def pictures(ids: list[str], images: Tensor) -> list[Picture]:
    """images: Tensor [B, 3, H, W] RGB, uint8 0..255 or float 0..1, one an id."""
    return [_picture(name, image) for name, image in zip(ids, _as_arrays(images), strict=True)]


def occluded_samples(ids: list[str], batch: FaceBatch) -> list[OccludedSample]:
    """batch: with ``clean`` and ``mask``."""
    if batch.clean is None or batch.mask is None:
        raise ValueError("a batch without clean images or mask shows no occlusion")
    masks = batch.mask[:, 0].cpu().numpy()
    return [
        OccludedSample(before, after, _outline(mask, after), float(mask.mean()))
        for before, after, mask in zip(pictures(ids, batch.clean), pictures(ids, batch.images), masks, strict=True)
    ]


def _as_arrays(images: Tensor) -> np.ndarray:
    if images.is_floating_point():
        images = (images * 255).round().clamp(0, 255)
    return images.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)


def _picture(name: str, image: np.ndarray) -> Picture:
    scale = min(1.0, _LARGEST_SIDE / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Picture(name, f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}", width, height)


def _outline(mask: np.ndarray, shown: Picture) -> str:
    scale = shown.width / mask.shape[1]
    contours, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return " ".join(
        "M" + "L".join(f"{(x + 0.5) * scale:.4g} {(y + 0.5) * scale:.4g}" for x, y in contour[:, 0]) + "Z"
        for contour in contours
    )
