"""What stands behind the feature map and behind the mask: embedding head and pattern predictor."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class NormedLinear(nn.Sequential):
    """Anything [B, …] -> [B, out]: flatten, batch norm, dropout, linear, batch norm.

    With a bias the reference network's embedding head, without one its pattern predictor. Modules 0, 2 and 3 carry the
    names that the authors' ``fc`` and ``regress`` have. eps: of the batch norms.
    """

    def __init__(self, *, features: int, out: int, bias: bool, dropout: float = 0.5, eps: float = 1e-5) -> None:
        layers = [nn.BatchNorm1d(features, eps), nn.Dropout(dropout), nn.Linear(features, out, bias=bias)]
        super().__init__(*layers, nn.BatchNorm1d(out, eps))

    def forward(self, x: Tensor) -> Tensor:
        # bf16 keeps three digits of a cosine; these layers are a thousandth of the work.
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(torch.flatten(x, 1).to(cast(nn.Linear, self[2]).weight.dtype))


class CornerPredictor(nn.Module):
    """Mask [B, …] -> corners [B, 4]: left, top, right, bottom as fractions of the image, in 0..1."""

    def __init__(self, *, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        # Closed by a batch norm: thousands of mask values rise and fall together, and one step on all of their weights
        # would drive the sigmoid to where it has no gradient.
        self.layers = NormedLinear(features=features, out=4, bias=False, eps=eps)

    def forward(self, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(mask))
