"""From the pyramid's map to the mask: which features of a face are corrupted (EP4099217A4's occlusion indication)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MaskDecoder(nn.Sequential):
    """[B, width, H, W] -> mask logits [B, channels, H/4, W/4], a mask for every channel and place ("3d")."""

    def __init__(self, *, width: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.PReLU(width),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
        )


class FlatMaskDecoder(nn.Sequential):
    """[B, width, H, W] -> mask logits [B, 1, H/4, W/4], one for every place ("2d")."""

    def __init__(self, *, width: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.PReLU(width),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
            nn.PReLU(channels),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 1, 3, padding=1),
        )


class EmbeddingMaskDecoder(nn.Sequential):
    """[B, width, 4h, 4w] -> mask logits [B, embedding_dim]. size: (h, w) of the trunk's deepest map."""

    def __init__(self, *, width: int, size: tuple[int, int], embedding_dim: int) -> None:
        narrow = max(width // 4, 1)
        places = narrow * size[0] * size[1]
        super().__init__(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.PReLU(width),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, narrow, 3, stride=2, padding=1, bias=False),
            nn.PReLU(narrow),
            nn.BatchNorm2d(narrow),
            nn.Flatten(),
            nn.BatchNorm1d(places),
            nn.Linear(places, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )


class Gate(nn.Module):
    """Mask logits z -> mask M of the same shape.

    open_bias: None gives the published sigmoid(z); b gives sigmoid(z + b) / sigmoid(b), which is 1 at z = 0. It is
    fmap + fmap (M - 1), a residual that can take everything away but add no more than a factor of 1 / sigmoid(b).
    """

    def __init__(self, open_bias: float | None) -> None:
        super().__init__()
        self.bias = open_bias or 0.0
        self.top = 1.0 if open_bias is None else 1.0 + math.exp(-open_bias)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits + self.bias) * self.top


class MeanFill(nn.Module):
    """What stands in the place of masked features: their mean over the faces of training, visible ones counted alone.

    Zero is no "nothing" to a head that was trained on features after an activation: it is as far from the mean as
    features get. Map f and mask M, both [B, C, h, w] (M also [B, 1, h, w]) -> f M + mean (1 - M).
    """

    mean: Tensor
    batches: Tensor

    def __init__(self, *, channels: int, size: tuple[int, int], momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels, *size))
        self.register_buffer("batches", torch.tensor(0.0))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        if self.training:
            self._learn(features.detach().float(), mask.detach().float())
        mean = self.mean.to(features.dtype)
        return mean + (features - mean) * mask

    @torch.no_grad()
    def _learn(self, features: Tensor, mask: Tensor) -> None:
        weights = mask.expand_as(features).sum(0)
        seen = (features * mask).sum(0) / weights.clamp(min=1e-3)
        self.batches += 1
        # The mean of all batches at first, then a running one; a place that was masked in all of them stays.
        share = torch.clamp(1 / self.batches, min=self.momentum) * (weights > 0.1)
        self.mean += (seen - self.mean) * share
