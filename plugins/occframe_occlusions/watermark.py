"""Text laid over a picture, again and again, as agencies mark their previews."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, per_image
from occframe_occlusions.stroke_font import HEIGHT, text_atlas, text_width
from occframe_occlusions.suite_configs import WatermarkConfig


class Watermark(Painted):
    """Severity: how opaque and how large the text is."""

    name = "watermark"
    everywhere = True
    parts: ClassVar[tuple[str, ...]] = ()
    config: WatermarkConfig

    def __init__(self, config: WatermarkConfig) -> None:
        super().__init__(config)
        self._texts = tuple(text.upper() for text in config.texts)
        self._widths = [text_width(text) for text in self._texts]

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        severity, side = params["severity"], min(images.shape[2:])
        text = draws.whole(len(self._texts))
        return {
            "text": text,
            "width": draws.row([(width,) for width in self._widths], text)[:, 0],
            "shift": torch.stack([draws.unit(), draws.unit()], dim=1),
            # Pixels a unit of the font, whose capitals are 6 units high.
            "letter": draws.between(0.012, 0.02) * (0.7 + 0.9 * severity) * side,
            "turned": draws.between(-0.35, 0.1),
            "gap": draws.between(3, 12),
            "bold": draws.between(0.35, 0.75),
            "opacity": draws.between(0.25, 0.6) * (0.4 + 1.2 * severity),
            "ink": draws.row([(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.35, 0.35, 0.35)], draws.whole(4)),
        }

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        t, letter = p["turned"], p["letter"]
        cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        along, down = (canvas.x * cosine + canvas.y * sine) / letter, (canvas.y * cosine - canvas.x * sine) / letter
        shift_x, shift_y = (per_image(value) for value in params["shift"].unbind(1))
        line = down / (HEIGHT + p["gap"]) + shift_y
        row = line.floor()
        # Every other line starts half a text later.
        place = along / (p["width"] + p["gap"]) + shift_x + (row - 2 * (row * 0.5).floor()) * 0.5
        within_x = (place - place.floor()) * (p["width"] + p["gap"])
        within_y = (line - row) * (HEIGHT + p["gap"])
        distance = text_atlas(self._texts).lookup(params["text"], within_x - p["gap"] * 0.5, within_y - p["gap"] * 0.5)
        canvas.grain = 0.0  # it was put in by a computer
        alpha = coverage(distance - p["bold"], letter) * p["opacity"].clamp(0, 1)
        canvas.over(None, alpha, params["ink"][:, :, None, None].expand_as(canvas.light))


def build(config: WatermarkConfig, context: BuildContext) -> Watermark:
    return Watermark(config)
