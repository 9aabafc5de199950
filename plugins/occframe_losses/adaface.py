"""AdaFace's margin: harder for faces of good quality, gentler for bad ones, quality told by the embedding's length.

Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, equations 13 to 15:

    ẑ = clip((|z| - μ) / (σ / h), -1, 1),   g_angle = -m ẑ,   g_add = m ẑ + m,   ψ = cos(θ + g_angle) - g_add
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Where acos turns too steep to be differentiated.
_EDGE = 1e-3


class AdaFaceMargin(nn.Module):
    """(cosine [B], norms [B]) -> ψ [B]. μ and σ of the norms are running means, learnt in training and saved.

    concentration: h. momentum: weight of a batch's μ and σ in their running means.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, margin: float, concentration: float, momentum: float) -> None:
        super().__init__()
        self.margin = margin
        self.concentration = concentration
        self.momentum = momentum
        # As in the authors' code: where norms of a face network begin, roughly.
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def forward(self, cosine: Tensor, norms: Tensor) -> Tensor:
        quality = self._quality(norms.detach()).to(cosine.dtype)
        angle = torch.acos(cosine.clamp(-1 + _EDGE, 1 - _EDGE))
        shifted = (angle - self.margin * quality).clamp(_EDGE, math.pi - _EDGE)
        return torch.cos(shifted) - (self.margin * quality + self.margin)

    @torch.no_grad()
    def _quality(self, norms: Tensor) -> Tensor:
        """ẑ, -1..1."""
        norms = norms.float().clamp(1e-3, 100)
        if self.training and len(norms) > 1:
            self.mean.lerp_(norms.mean(), self.momentum)
            self.deviation.lerp_(norms.std(), self.momentum)
        return ((norms - self.mean) / (self.deviation + 1e-3) * self.concentration).clamp(-1, 1)
