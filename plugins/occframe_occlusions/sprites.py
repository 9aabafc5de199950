"""Occluders from the user's own pictures with transparency."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Params
from occframe_occlusions.pasted import Pasted
from occframe_occlusions.shapes import per_image
from occframe_occlusions.suite_configs import SpritesConfig


class Sprites(Pasted):
    name = "sprites"
    fades = False
    config: SpritesConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        height, width = images.shape[2:]
        sprite = draws.whole(self.pictures.count)
        scale = draws.row([(value,) for value in self.config.scales], draws.whole(len(self.config.scales)))[:, 0]
        longer = scale * (self.config.unit * min(height, width)) * params["severity"] * 2
        shape = self.pictures.shapes(images.device)[sprite]
        centre = torch.stack([(draws.unit() * width).floor(), (draws.unit() * height).floor()], dim=1)
        return {"sprite": sprite, "centre": centre, "half": shape * longer[:, None] * 0.5}

    def boxes(self, params: Params, height: int, width: int) -> Tensor:
        low, high = params["centre"] - params["half"] - 1, params["centre"] + params["half"] + 2
        size = constant((width, height), low.device)
        low, high = low.floor().clamp(min=0).minimum(size), high.ceil().clamp(min=0).minimum(size)
        return torch.cat([low.flip(1), high.flip(1)], dim=1).long() * (params["severity"] > 0)[:, None]

    def paint(self, canvas: Canvas, params: Params) -> None:
        half_x, half_y = (per_image(value).clamp(min=0.25) for value in params["half"].unbind(1))
        centre_x, centre_y = (per_image(value) for value in params["centre"].unbind(1))
        x, y = (canvas.x - centre_x) / half_x, (canvas.y - centre_y) / half_y
        grid = torch.stack([x + y * 0, y + x * 0], dim=3)
        self.paste(canvas, params["sprite"], grid, params["half"].amax(1) * 2)


def build(config: SpritesConfig, context: BuildContext) -> Sprites:
    return Sprites(config)
