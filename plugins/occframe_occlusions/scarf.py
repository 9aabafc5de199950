"""A scarf wound over chin and mouth."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.fabrics import PATTERNS, pattern, two_dyes
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, fade, per_image
from occframe_occlusions.suite_configs import ScarfConfig


class Scarf(Painted):
    name = "scarf"
    parts: ClassVar[tuple[str, ...]] = ("scarf", "shadow")

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        first, second = two_dyes(draws)
        return {
            "top": 2.75 - 2.1 * params["severity"] + draws.signed(0.15),
            "slant": draws.signed(0.14),
            "sag": draws.between(0.0, 0.12),
            "wavy": draws.between(0.05, 0.2),
            "wide": draws.between(2.05, 2.35),
            "paint": first,
            "second": second,
            "pattern": draws.whole(len(PATTERNS)),
            "pattern_size": draws.between(0.2, 0.8),
            "folds": draws.between(0.25, 0.6),
            "knit": draws.between(0.0, 0.25),
        }

    def extent(self, params: Params) -> Tensor:
        top = params["top"]
        far = torch.full_like(top, 5.0)
        return torch.stack([-far, top - 1.4, far, top + 8], dim=1)

    def grouping(self, params: Params) -> Tensor:
        return params["pattern"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = canvas.face
        u = u - per_image(canvas.frame.turn) * 0.3
        wave = canvas.texture("waves", u * 9, v * 0 + 7)
        top = p["top"] + p["slant"] * u + p["sag"] * (2 - u * u) + wave * p["wavy"]
        below = v - top
        # Round the neck it is as wide as the jaw, then it lies on the shoulders.
        side = u.abs() - p["wide"] - 0.16 * below.clamp(min=0) - wave * 0.06
        outside = torch.maximum(-below, side)

        skin = constant((0.34, 0.24, 0.2), u.device).expand(u.shape[0], 3)
        canvas.shade("shadow", fade(outside, 0.0, 0.3) * 0.45, skin)
        # Folds run across and gather towards the sides.
        fold = canvas.texture("waves", u * 7 + below * 12, below * 34 - u * u * 3) * p["folds"]
        fold = fold + canvas.texture("clouds", u * 16, below * 40) * p["folds"] * 0.6
        row = below * 11 + (u * 11 - (u * 11).floor() - 0.5).abs()
        knit = (
            ((row - row.floor() - 0.5).abs() - 0.25)
            * p["knit"]
            * fade(canvas.scale * 0 + 11, canvas.scale * 0.6, canvas.scale * 0.3)
        )
        light = 1.08 - 0.09 * u * u + fold + knit + fade(below.abs(), 0.0, 0.12) * 0.12
        light = light - fade((below - 0.75 - wave * 0.2).abs(), 0.0, 0.16) * 0.3
        shown = pattern(canvas, params["pattern"], u, below + fold * 0.2, params["pattern_size"])
        first, second = params["paint"][:, :, None, None], params["second"][:, :, None, None]
        cloth = canvas.lit(first + (second - first) * shown[:, None])
        canvas.over("scarf", coverage(outside, canvas.sharpness * 0.8), cloth * light.clamp(0.2, 1.6)[:, None])


def build(config: ScarfConfig, context: BuildContext) -> Scarf:
    return Scarf(config)
