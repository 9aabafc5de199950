"""Glasses as nobody wears them, to learn from: colours, lenses and places drawn over all their range.

What is trained on glasses that look alike removes those alone. Domain randomisation (Tobin et al., IROS 2017, arXiv
1703.06907) gives up looking real for variety, so that real glasses are one kind more.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe_occlusions.draws import Draws
from occframe_occlusions.eyewear import Eyewear
from occframe_occlusions.painted import Params
from occframe_occlusions.suite_configs import RandomEyewearConfig


class RandomEyewear(Eyewear):
    name = "random-eyewear"
    version = 1
    half_width: ClassVar[tuple[float, float]] = (0.52, 1.0)
    aspect: ClassVar[tuple[float, float]] = (0.65, 1.4)
    gap: ClassVar[tuple[float, float]] = (0.1, 0.42)
    slide: ClassVar[tuple[float, float]] = (-0.12, 0.4)
    bold_bridge: ClassVar[tuple[float, float]] = (0.8, 2.6)
    config: RandomEyewearConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        own = super().choose(draws, params, images)
        # Of half of the frames the colour is anything.
        own["paint"] = torch.where(draws.chance(0.5)[:, None] > 0, _colour(draws), own["paint"])
        wild = draws.chance(self.config.wild)
        drawn = {
            "through_top": _passed(draws),
            "through_low": _passed(draws),
            "glare": draws.chance(0.5) * draws.between(0.02, 0.6),
            "mirror": draws.chance(0.3) * draws.between(0.05, 0.7),
            "mirror_tint": _colour(draws),
            "scene": draws.chance(0.7) * _squared(draws) * 0.5 + 0.001,
            "scene_tint": _unit_colour(draws),
            "busy": draws.between(0.1, 2.5),
            "cheek": draws.chance(0.5) * _squared(draws) * 0.2,
            "lamp_light": draws.chance(0.4) * draws.unit() * 1.2,
        }
        same = draws.chance(0.5)[:, None] > 0
        drawn["through_low"] = torch.where(same, drawn["through_top"], drawn["through_low"])
        for name, value in drawn.items():
            own[name] = torch.where(wild[:, None] > 0 if value.ndim == 2 else wild > 0, value, own[name])
        return own


# Products and no powers: these are the same to the bit in every batch and on every device.
def _squared(draws: Draws) -> Tensor:
    unit = draws.unit()
    return unit * unit


def _unit_colour(draws: Draws) -> Tensor:
    return torch.stack([draws.unit() for _ in range(3)], dim=1)


def _colour(draws: Draws) -> Tensor:
    """[B, 3] linear reflectances, about as many dark ones as bright ones to the eye."""
    root = _unit_colour(draws)
    return root * root


def _passed(draws: Draws) -> Tensor:
    """[B, 3], what a lens lets through: black to clear, more or less coloured, more often dark."""
    depth, coloured = _squared(draws), draws.unit()
    return depth[:, None] * (1 + coloured[:, None] * (_unit_colour(draws) - 1))


def build(config: RandomEyewearConfig, context: BuildContext) -> RandomEyewear:
    return RandomEyewear(config)
