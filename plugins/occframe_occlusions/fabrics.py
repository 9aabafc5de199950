"""Colours and patterns of cloth and card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from occframe_occlusions.devices import may_look
from occframe_occlusions.draws import Draws
from occframe_occlusions.shapes import per_image

if TYPE_CHECKING:
    from occframe_occlusions.canvas import Canvas

#: Linear reflectances of dyed cloth.
DYES = (
    (0.015, 0.015, 0.017), (0.03, 0.035, 0.05), (0.12, 0.12, 0.13), (0.42, 0.42, 0.42), (0.72, 0.70, 0.66),
    (0.35, 0.02, 0.03), (0.02, 0.06, 0.25), (0.02, 0.14, 0.07), (0.30, 0.17, 0.07), (0.45, 0.30, 0.03),
    (0.22, 0.05, 0.20), (0.55, 0.38, 0.30), (0.10, 0.22, 0.35), (0.05, 0.03, 0.02),
)  # fmt: skip
PATTERNS = ("plain", "stripes", "checks", "dots", "camouflage")


def two_dyes(draws: Draws) -> tuple[Tensor, Tensor]:
    """Two colours [B, 3] of one piece of cloth."""
    first = draws.row(DYES, draws.whole(len(DYES)))
    second = draws.row(DYES, draws.whole(len(DYES)))
    return first, second


def pattern(canvas: Canvas, kind: Tensor, u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """How much of the second colour shows, [b, h, w] in 0..1. kind: [b], a place in ``PATTERNS``. size: [b], units."""
    width = 1 / per_image(size)
    # Lines finer than the photograph resolves fade into an even mixture, as they do in a camera.
    soft = (canvas.scale * per_image(size) * 0.5).clamp(0.3, 6)
    x, y = u * width, v * width
    wave_x, wave_y = (x - x.floor() - 0.5).abs() * 4 - 1, (y - y.floor() - 0.5).abs() * 4 - 1
    wanted = set(kind.tolist() if may_look(kind) else range(len(PATTERNS)))
    shown = torch.zeros_like(x)
    for number, name in enumerate(PATTERNS):
        if number in wanted and name != "plain":
            shown = shown + _DRAWN[name](canvas, x, y, wave_x, wave_y, soft) * per_image((kind == number).float())
    return shown


def _stripes(canvas: Canvas, x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor, soft: Tensor) -> Tensor:
    return (wave_y * soft + 0.5).clamp(0, 1)


def _checks(canvas: Canvas, x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor, soft: Tensor) -> Tensor:
    return ((wave_y * soft + 0.5).clamp(0, 1) + (wave_x * soft + 0.5).clamp(0, 1)) * 0.5


def _dots(canvas: Canvas, x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor, soft: Tensor) -> Tensor:
    return ((0.36 - (1 + wave_x) * (1 + wave_x) - (1 + wave_y) * (1 + wave_y)) * soft + 0.5).clamp(0, 1)


def _camouflage(canvas: Canvas, x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor, soft: Tensor) -> Tensor:
    return (canvas.texture("clouds", x * 22, y * 22) * 6 + 0.5).clamp(0, 1)


_DRAWN = {"stripes": _stripes, "checks": _checks, "dots": _dots, "camouflage": _camouflage}
