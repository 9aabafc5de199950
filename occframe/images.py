"""From stored pixels to what a model was trained to see. Runs on the device, after the transfer of uint8."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from occframe.errors import OccframeError

if TYPE_CHECKING:
    from torch import Tensor

    from occframe.types import ImageSpec


def to_model_input(images: Tensor, spec: ImageSpec) -> Tensor:
    """``(x / 255 - mean) / std`` in the colour order of ``spec``.

    images: [B, 3, H, W] RGB, uint8 0..255 or float 0..1 (gradients flow through). Returns float32 [B, 3, H, W].
    Raises OccframeError where H x W is not the spec's: resizing is the loader's business and never silent.
    """
    if images.shape[1:] != (3, spec.height, spec.width):
        raise OccframeError(
            f"the model takes [B, 3, {spec.height}, {spec.width}] images, these are {list(images.shape)}",
            remedy="load them with the model's ImageSpec, or align them to its size",
        )
    if spec.colour == "BGR":
        images = images.flip(1)
    as_bytes = images.dtype == torch.uint8
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    mean, std = _mean_and_std(spec, 255.0 if as_bytes else 1.0, images.device, channels_last)
    if as_bytes:  # the float copy is ours to overwrite; fresh memory for each step would take three times as long
        return images.float().sub_(mean).div_(std)
    return (images.float() - mean) / std


# Kept on the device: sending six numbers there makes the host wait for it in every step.
@lru_cache(maxsize=64)
def _mean_and_std(spec: ImageSpec, scale: float, device: torch.device, channels_last: bool) -> tuple[Tensor, Tensor]:
    # Embedding asks in inference mode, whose tensors training could not use afterwards.
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * scale for values in (spec.mean, spec.std))
        if channels_last:
            # A whole row of pixels, or a CPU works on three numbers at a time: 1.3 ms a batch of 64 instead of 5.
            rows = (item.view(1, 1, 1, 3).expand(1, 1, spec.width, 3).contiguous() for item in (mean, std))
            mean, std = (row.permute(0, 3, 1, 2) for row in rows)
    return mean, std
