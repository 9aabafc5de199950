"""What every generator asks of what it is given."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe.errors import OccframeError


def check_batch(images: Tensor, seeds: Tensor) -> None:
    """Before drawing. Raises OccframeError where these are no images, or not one int64 seed for each."""
    _check_images(images)
    if seeds.shape != images.shape[:1] or seeds.dtype != torch.int64:
        raise OccframeError(f"[{len(images)}] int64 seeds expected, got {list(seeds.shape)} {seeds.dtype}")


def check_params(images: Tensor, drawn: Tensor) -> None:
    """Before painting. drawn: any parameter. Raises OccframeError where these are no images, or not as many."""
    _check_images(images)
    if len(drawn) != len(images):
        raise OccframeError(f"parameters of {len(drawn)} images for {len(images)} images")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise OccframeError(f"[B, 3, H, W] images, uint8 or float, expected; got {list(images.shape)} {images.dtype}")
