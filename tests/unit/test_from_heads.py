"""Predictors learn from masks as they are: thousands of values that rise and fall together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occframe_from.heads import CornerPredictor
from occframe_from.network import initialise


def masks(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Masks [n, 128, 7, 7] that are low in a rectangle, and its corners [n, 4] as fractions."""
    first = torch.randint(0, 6, (count, 2), generator=generator)
    last = (first + torch.randint(1, 5, (count, 2), generator=generator)).clamp(max=7)
    made = torch.ones(count, 128, 7, 7)
    for mask, (left, top), (right, bottom) in zip(made, first.tolist(), last.tolist(), strict=True):
        mask[:, top:bottom, left:right] = 0.2
    return made + 0.05 * torch.randn(made.shape, generator=generator), torch.cat([first, last], 1) / 7


def test_corners_are_learnt_at_the_rate_of_a_whole_network() -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor: nn.Module = CornerPredictor(features=128 * 49, eps=0.1).apply(initialise)
        optimiser = torch.optim.SGD(predictor.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for _ in range(80):
            mask, corners = masks(32, generator)
            loss = F.smooth_l1_loss(predictor(mask), corners, beta=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[0] > 0.2
    assert sum(losses[-10:]) / 10 < 0.08
