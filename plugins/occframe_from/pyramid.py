"""The part of a feature pyramid that reaches the mask: Lin et al., "Feature Pyramid Networks", CVPR 2017, figure 3.

The released code of FROM also smooths two coarser levels and adds two more, 2,950,144 parameters whose results nothing
reads; they are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Three maps, finest first, each half the size of the one before -> [B, width, H, W] of the finest's size."""

    def __init__(self, *, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        merged = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            merged = lateral(finer) + F.interpolate(merged, size=finer.shape[-2:], mode="nearest")
        return self.smooth(merged)
