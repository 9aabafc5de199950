"""How much of a face an occlusion hides: of the whole face, and of its eyes, nose and mouth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from occframe.constants import constant
from occframe.face_frame import face_frame

#: Ellipses in face coordinates (see ``face_frame``): centre u, v and half-axes. A region is the union of its ellipses.
#: From the landmarks' spread and the proportions of the ArcFace template; the face ends below the hairline.
REGIONS: Mapping[str, tuple[tuple[float, float, float, float], ...]] = {
    "face": ((0.0, 1.05, 2.05, 2.95),),
    "eyes": ((-1.0, 0.0, 0.72, 0.42), (1.0, 0.0, 0.72, 0.42)),
    "nose": ((0.0, 0.85, 0.55, 0.75),),
    "mouth": ((0.0, 2.31, 1.0, 0.5),),
}


def region_masks(landmarks: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """Bool masks [B, H, W] of ``REGIONS`` in pictures of faces with landmarks [B, 5, 2]; clipped at the border."""
    frame = face_frame(landmarks, height, width)
    x = torch.arange(width, dtype=torch.float32, device=landmarks.device)[None, None, :]
    y = torch.arange(height, dtype=torch.float32, device=landmarks.device)[None, :, None]
    u, v = frame.to_face(x, y)
    return {name: within(name, u, v) for name in REGIONS}


def within(region: str, u: Tensor, v: Tensor) -> Tensor:
    """Which places u, v of the face lie in one of ``REGIONS``: bool, of their shape."""
    inside = torch.zeros_like(u, dtype=torch.bool)
    for ellipse in REGIONS[region]:
        # By tensors: CUDA divides by a plain number otherwise than a CPU.
        centre_u, centre_v, half_u, half_v = constant(ellipse, u.device).unbind()
        across, down = (u - centre_u) / half_u, (v - centre_v) / half_v
        inside |= across * across + down * down <= 1
    return inside


def hidden_fractions(mask: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
    """The share of each region that is hidden, shadows and what glass reflects included, as they are in the mask.

    mask: [B, 1, H, W] float, alpha 0..1, as ``Occluded.mask``. landmarks: [B, 5, 2] pixels; rows that cannot be used
    stand for an aligned crop. Returns ``face``, ``eyes``, ``nose``, ``mouth``: [B] float32 in 0..1, the mean alpha over
    the region's pixels within the picture; NaN where none of them is.
    """
    if mask.ndim != 4 or mask.shape[1] != 1 or landmarks.shape != (mask.shape[0], 5, 2):
        raise ValueError(f"mask [B, 1, H, W] and landmarks [B, 5, 2] expected, got {mask.shape} and {landmarks.shape}")
    alpha = mask[:, 0].float()
    fractions = {}
    for name, inside in region_masks(landmarks.to(mask.device), *mask.shape[2:]).items():
        fractions[name] = (alpha * inside).sum((1, 2)) / inside.sum((1, 2))
    return fractions
