"""What all generators that paste the user's own pictures have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from occframe_occlusions.canvas import Canvas
from occframe_occlusions.painted import Painted
from occframe_occlusions.sprite_pictures import SpritePictures
from occframe_occlusions.suite_configs import PicturesConfig


class Pasted(Painted):
    parts: ClassVar[tuple[str, ...]] = ()
    square: ClassVar[bool] = False  # whether its pictures have to be

    def __init__(self, config: PicturesConfig) -> None:
        super().__init__(config)
        self.pictures = SpritePictures(config, square=self.square)
        # The pictures are part of what the generator is, wherever they lie.
        self.version = f"1 with sprites {self.pictures.digest}"
        self.recipe = config.model_dump(mode="json", exclude={"url", "image"}) | {"sprites": self.pictures.digest}

    def paste(self, canvas: Canvas, sprite: Tensor, grid: Tensor, longer: Tensor) -> None:
        """What ``SpritePictures.show`` shows of these, over the photograph."""
        light, alpha = self.pictures.show(sprite, grid, longer)
        canvas.grain = float(self.config.match_light)
        canvas.over(None, alpha, canvas.lit(light) if self.config.match_light else light)
