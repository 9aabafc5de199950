"""What plain occlusions show: a colour, the picture's own mean, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from occframe.random import derive_seed, uniform
from occframe_occlusions.draws import Draws

NAMES = ("black", "white", "mean", "noise", "colour")
NOISE = NAMES.index("noise")
SIDE = 512


def choose_fill(draws: Draws, fills: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """``fill``: [B], a place in ``NAMES``. ``colour``: [B, 3] uint8, of fills that have one. ``texture``: [B, 2], where
    noise is cut from."""
    fill = draws.named(fills, NAMES)
    any_colour = torch.stack([draws.unit(), draws.unit(), draws.unit()], dim=1) * 256
    colour = torch.stack(
        [torch.zeros_like(any_colour), torch.full_like(any_colour, 255), mean_colour(images), any_colour, any_colour]
    )
    rows = torch.arange(len(fill), device=fill.device)
    texture = torch.stack([draws.whole(SIDE), draws.whole(SIDE)], dim=1)
    return {"fill": fill, "colour": colour[fill, rows].to(torch.uint8), "texture": texture}


def mean_colour(images: Tensor) -> Tensor:
    """[B, 3] float 0..255: of every fourth pixel each way, summed as whole numbers and so the same in any order."""
    some = images[:, :, ::4, ::4]
    if some.dtype != torch.uint8:
        some = (some.float().nan_to_num(0, 1, 0).clamp(0, 1) * 255).round().to(torch.uint8)
    total = some.flatten(2).sum(2, dtype=torch.int64)
    return (total // (some.shape[2] * some.shape[3])).float()


@lru_cache(maxsize=8)
def noise(device: torch.device) -> Tensor:
    """[SIDE, SIDE, 3] uint8, every value by itself."""
    with torch.inference_mode(False):  # or it would be of no use outside it
        seeds = torch.arange(SIDE, dtype=torch.int64) + derive_seed("occlusion noise") % 2**40
        return (uniform(seeds, 0, SIDE * 3) * 256).to(torch.uint8).view(SIDE, SIDE, 3).to(device)
