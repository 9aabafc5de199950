"""Occluders from the user's own pictures with transparency."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import constant
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import per_image
from occframe_occlusions.sprite_pictures import SpritePictures
from occframe_occlusions.suite_configs import SpritesConfig


class Sprites(Painted):
    name = "sprites"
    fades = False
    parts: ClassVar[tuple[str, ...]] = ()
    config: SpritesConfig

    def __init__(self, config: SpritesConfig) -> None:
        super().__init__(config)
        self._pictures = SpritePictures(config)
        # The pictures are part of what the generator is, wherever they lie.
        self.version = f"1 with sprites {self._pictures.digest}"
        self.recipe = config.model_dump(mode="json", exclude={"url", "image"}) | {"sprites": self._pictures.digest}

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        height, width = images.shape[2:]
        sprite = draws.whole(self._pictures.count)
        scale = draws.row([(value,) for value in self.config.scales], draws.whole(len(self.config.scales)))[:, 0]
        longer = scale * (self.config.unit * min(height, width)) * params["severity"] * 2
        shape = self._pictures.shapes(images.device)[sprite]
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
        light, alpha = self._pictures.show(params["sprite"], grid, params["half"].amax(1) * 2)
        canvas.grain = float(self.config.match_light)
        canvas.over(None, alpha, canvas.lit(light) if self.config.match_light else light)


def build(config: SpritesConfig, context: BuildContext) -> Sprites:
    return Sprites(config)
