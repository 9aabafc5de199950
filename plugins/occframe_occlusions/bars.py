"""Bars over eyes or mouth and hidden halves of the face: what a photograph is made unrecognisable with."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.face_frame import MOUTH
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.fills import NOISE, choose_fill
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, per_image
from occframe_occlusions.suite_configs import BarConfig, HalfFaceConfig

_FAR = 12.0  # face units: beyond any crop
_SIDES = ("left", "right", "upper", "lower")
# The face as ``hidden.REGIONS`` has it: u within 2.05 of 0, v from -1.9 to 4.
_FACE = (-2.05, -1.9, 2.05, 4.0)


class Bar(Painted):
    """Hides a box of the face, ``box`` [B, 4]: u0, v0, u1, v1."""

    parts: ClassVar[tuple[str, ...]] = ()
    fades = False

    def box(self, draws: Draws, severity: Tensor) -> Tensor:
        raise NotImplementedError

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        box = self.box(draws, params["severity"])
        fill = choose_fill(draws, self.config.fills, images)
        return {"box": box, "fill": fill["fill"], "colour_bar": fill["colour"]}

    def extent(self, params: Params) -> Tensor:
        return params["box"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        u, v = canvas.face
        u0, v0, u1, v1 = (per_image(value) for value in params["box"].unbind(1))
        outside = torch.maximum(
            (u - (u0 + u1) * 0.5).abs() - (u1 - u0) * 0.5, (v - (v0 + v1) * 0.5).abs() - (v1 - v0) * 0.5
        )
        grey = (canvas.texture("grain", canvas.x, canvas.y) * 0.2 + 0.5).clamp(0, 1)[:, None]
        values = params["colour_bar"][:, :, None, None] / 255
        values = torch.where((params["fill"] == NOISE)[:, None, None, None], grey, values)
        canvas.grain = 0.0
        canvas.over(None, coverage(outside, canvas.scale), values * values)


class EyeBar(Bar):
    name = "eye-bar"

    def box(self, draws: Draws, severity: Tensor) -> Tensor:
        wide = 1.2 + 1.4 * severity + draws.signed(0.15)
        tall = severity * draws.between(0.95, 1.25)
        middle = draws.signed(0.08)
        return torch.stack([-wide, middle - tall, wide, middle + tall], dim=1)


class MouthBar(Bar):
    name = "mouth-bar"

    def box(self, draws: Draws, severity: Tensor) -> Tensor:
        wide = 0.8 + 1.4 * severity + draws.signed(0.15)
        tall = severity * draws.between(0.95, 1.25)
        middle = MOUTH + draws.signed(0.08)
        return torch.stack([-wide, middle - tall, wide, middle + tall], dim=1)


class HalfFace(Bar):
    name = "half-face"
    everywhere = True
    config: HalfFaceConfig

    def box(self, draws: Draws, severity: Tensor) -> Tensor:
        side = draws.named(self.config.sides, _SIDES)
        u0, v0, u1, v1 = _FACE
        cut_u, cut_v = severity * (u1 - u0), severity * (v1 - v0)
        whole = torch.full_like(severity, _FAR)
        choices = (
            torch.stack([-whole, -whole, u0 + cut_u, whole], dim=1),
            torch.stack([u1 - cut_u, -whole, whole, whole], dim=1),
            torch.stack([-whole, -whole, whole, v0 + cut_v], dim=1),
            torch.stack([-whole, v1 - cut_v, whole, whole], dim=1),
        )
        return torch.stack(choices)[side, torch.arange(side.shape[0], device=side.device)]


def eye_bar(config: BarConfig, context: BuildContext) -> EyeBar:
    return EyeBar(config)


def mouth_bar(config: BarConfig, context: BuildContext) -> MouthBar:
    return MouthBar(config)


def half_face(config: HalfFaceConfig, context: BuildContext) -> HalfFace:
    return HalfFace(config)
