"""Bars over eyes or mouth and hidden halves of the face: what a photograph is made unrecognisable with."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.face_frame import MOUTH, FaceFrame
from occframe.hidden import within
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import ordered
from occframe_occlusions.draws import Draws
from occframe_occlusions.fills import NOISE, choose_fill
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, per_image
from occframe_occlusions.suite_configs import BarConfig, HalfFaceConfig

_FAR = 12.0  # face units: beyond any crop
_SIDES = ("left", "right", "upper", "lower")
_STEP = 2  # every other pixel each way tells where a share of the face ends


class Bar(Painted):
    """Hides a box of the face, ``box`` [B, 4]: u0, v0, u1, v1."""

    parts: ClassVar[tuple[str, ...]] = ()
    fades = False

    def box(self, draws: Draws, params: Params, images: Tensor) -> Tensor:
        raise NotImplementedError

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        box = self.box(draws, params, images)
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

    def box(self, draws: Draws, params: Params, images: Tensor) -> Tensor:
        severity = params["severity"]
        wide = 1.2 + 1.4 * severity + draws.signed(0.15)
        tall = severity * draws.between(0.95, 1.25)
        middle = draws.signed(0.08)
        return torch.stack([-wide, middle - tall, wide, middle + tall], dim=1)


class MouthBar(Bar):
    name = "mouth-bar"

    def box(self, draws: Draws, params: Params, images: Tensor) -> Tensor:
        severity = params["severity"]
        wide = 0.8 + 1.4 * severity + draws.signed(0.15)
        tall = severity * draws.between(0.95, 1.25)
        middle = MOUTH + draws.signed(0.08)
        return torch.stack([-wide, middle - tall, wide, middle + tall], dim=1)


class HalfFace(Bar):
    name = "half-face"
    version = 2
    everywhere = True
    config: HalfFaceConfig

    def box(self, draws: Draws, params: Params, images: Tensor) -> Tensor:
        side = draws.named(self.config.sides, _SIDES)
        rows = torch.arange(len(side), device=side.device)
        height, width = images.shape[2:]
        x, y = (torch.arange(0, size, _STEP, dtype=torch.float32, device=side.device) for size in (width, height))
        u, v = FaceFrame.unpack(params["frame"]).to_face(x[None, None, :], y[None, :, None])
        # How far into the face from the hidden side; sorted, what a share of it lies before is known.
        depth = torch.where(per_image(side < 2), u, v) * per_image(1 - side % 2 * 2)
        face = within("face", u, v)
        depths = ordered(depth.masked_fill(~face, torch.inf).flatten(1))
        count = face.flatten(1).sum(1)
        last = (count - 1).clamp(min=0)
        place = (params["severity"] * count).round().long()
        before, after = (depths[rows, at.clamp(min=0).minimum(last)] for at in (place - 1, place))
        whole = torch.full_like(before, _FAR)
        cut = torch.where(params["severity"] < 1, (before + after) * 0.5, whole).where(count > 0, -whole)
        choices = (
            torch.stack([-whole, -whole, cut, whole], dim=1),
            torch.stack([-cut, -whole, whole, whole], dim=1),
            torch.stack([-whole, -whole, whole, cut], dim=1),
            torch.stack([-whole, -cut, whole, whole], dim=1),
        )
        return torch.stack(choices)[side, rows]


def eye_bar(config: BarConfig, context: BuildContext) -> EyeBar:
    return EyeBar(config)


def mouth_bar(config: BarConfig, context: BuildContext) -> MouthBar:
    return MouthBar(config)


def half_face(config: HalfFaceConfig, context: BuildContext) -> HalfFace:
    return HalfFace(config)
