"""What is held before a face: a hand, a telephone, a cup."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.fabrics import DYES
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, ellipse, fade, per_image, rounded_box, segment, smooth
from occframe_occlusions.suite_configs import HandConfig, ObjectConfig

_PLACES = ("mouth", "eye", "cheek")
_KINDS = ("phone", "cup")
_SKIN_SHADOW = (0.34, 0.22, 0.18)
_CASES = ((0.01, 0.01, 0.012), (0.01, 0.01, 0.012), (0.6, 0.6, 0.6), (0.3, 0.31, 0.33), *DYES)
_CUPS = ((0.75, 0.74, 0.72), (0.75, 0.74, 0.72), (0.55, 0.40, 0.26), *DYES)

# A right hand with its wrist below, in hand lengths: (base, tip, half-width) of fingers, thumb last.
_FINGERS = (
    ((-0.19, -0.02), (-0.27, -0.42), 0.055), ((-0.06, -0.06), (-0.075, -0.53), 0.058),
    ((0.07, -0.05), (0.10, -0.50), 0.057), ((0.19, 0.0), (0.27, -0.36), 0.048),
    ((-0.22, 0.24), (-0.42, -0.02), 0.062),
)  # fmt: skip


def _cosine_and_sine(params: Params) -> tuple[Tensor, Tensor]:
    """[B] each, of the angle whose half has the tangent ``turned``."""
    t = params["turned"]
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _turned(u: Tensor, v: Tensor, params: Params) -> tuple[Tensor, Tensor]:
    """Coordinates around ``place`` [B, 2]."""
    at_u, at_v = (per_image(value) for value in params["place"].unbind(1))
    cosine, sine = (per_image(value) for value in _cosine_and_sine(params))
    u, v = u - at_u, v - at_v
    return u * cosine + v * sine, v * cosine - u * sine


def _around(params: Params, wide: float, above: float, below: float) -> Tensor:
    """[B, 4]: what holds a box of these half-width and heights, in sizes, wherever it is turned; with its shadow."""
    cosine, sine = (value.abs() for value in _cosine_and_sine(params))
    size, longest = params["size"], max(above, below)
    at_u, at_v = params["place"].unbind(1)
    across = (wide * cosine + longest * sine) * size + 0.55
    top, low = (above * cosine + wide * sine) * size + 0.55, (below * cosine + wide * sine) * size + 0.55
    return torch.stack([at_u - across, at_v - top, at_u + across, at_v + low], dim=1)


class Hand(Painted):
    """Severity brings the hand nearer to the middle of what it hides, and to the camera."""

    name = "hand"
    parts: ClassVar[tuple[str, ...]] = ("hand", "shadow")
    config: HandConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        side = draws.chance(0.5) * 2 - 1
        aim = draws.row([(0.25, 2.1), (0.95, 0.1), (1.5, 1.5)], draws.named(self.config.places, _PLACES))
        away = (0.9 - params["severity"])[:, None] * 1.1
        outwards = torch.stack([side, 0.8 + draws.signed(0.3)], dim=1)
        skin = params["skin"] / params["light"].clamp(min=0.05)
        return {
            "place": torch.stack([aim[:, 0] * side, aim[:, 1]], dim=1) + outwards * away + outwards * 0.35,
            "turned": (draws.signed(0.35) - 0.12 * side),
            "mirror": draws.chance(0.5) * 2 - 1,
            "size": draws.between(4.6, 5.6) * (0.85 + 0.3 * params["severity"]),
            "spread": draws.between(0.75, 1.3),
            "bent": draws.between(0.6, 1.0),
            # A hand's skin is a little darker and redder than its owner's face.
            "paint": (skin * constant((0.95, 0.84, 0.8), skin.device)).clamp(0.01, 0.9),
        }

    def extent(self, params: Params) -> Tensor:
        return _around(params, wide=0.48, above=0.6, below=1.3)

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = _turned(*canvas.face, params)
        x, y = u / p["size"] * p["mirror"], v / p["size"]
        palm = rounded_box(x, y - 0.2, 0.225, 0.25, 0.13)
        palm = torch.minimum(palm, rounded_box(x, y - 0.75, 0.15, 0.5, 0.1))
        nearest, second = torch.full_like(x, 1.0), torch.full_like(x, 1.0)
        nail = torch.zeros_like(x)
        for base, tip, wide in _FINGERS:
            end = (base[0] + (tip[0] - base[0]) * p["spread"], base[1] + (tip[1] - base[1]) * p["bent"])
            distance, place = segment(x, y, base, end)
            finger = distance - wide * (1 - 0.18 * place)
            # Knuckles crease across the finger.
            nail = nail + (0.1 - (place - 0.52).abs() * 3).clamp(min=0) * (finger < -0.01)
            second = torch.minimum(second, torch.maximum(finger, nearest))
            nearest = torch.minimum(nearest, finger)
        # Fingers grow out of the palm without a crease: a minimum rounded over 0.06 of a hand.
        near = (0.5 + (nearest - palm) * (0.5 / 0.06)).clamp(0, 1)
        edge = (nearest + (palm - nearest) * near - 0.06 * near * (1 - near)) * p["size"]
        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        canvas.shade("shadow", fade(edge, 0.0, 0.4) * 0.5, tint)
        # Rounded like a tube towards its outline, dark where two fingers touch.
        round_light = (
            0.62 + 0.42 * smooth(-edge * 2.8) - fade(second.abs(), 0.0, 0.02) * fade(-palm, -0.04, 0.02) * 0.25
        )
        light = round_light - nail + canvas.texture("clouds", x * 150, y * 150) * 0.12
        canvas.over(
            "hand", coverage(edge, canvas.sharpness), canvas.lit(params["paint"]) * light.clamp(0.2, 1.3)[:, None]
        )


class HeldObject(Painted):
    """Severity brings the thing nearer to the middle of the face."""

    name = "object"
    parts: ClassVar[tuple[str, ...]] = ("object", "shadow")
    config: ObjectConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        kind = draws.named(self.config.kinds, _KINDS)
        is_cup = kind == 1
        side = draws.chance(0.5) * 2 - 1
        away = 1 - params["severity"]
        phone_at = torch.stack([side * (0.3 + 2.0 * away), 1.2 + draws.signed(1.2)], dim=1)
        cup_at = torch.stack([draws.signed(0.5), 4.3 - 1.5 * params["severity"] + draws.signed(0.3)], dim=1)
        case = draws.row(_CASES, draws.whole(len(_CASES)))
        card = draws.row(_CUPS, draws.whole(len(_CUPS)))
        return {
            "kind": kind,
            "place": torch.where(is_cup[:, None], cup_at, phone_at),
            "turned": torch.where(is_cup, draws.signed(0.08), draws.signed(0.22)),
            "size": draws.between(0.9, 1.2),
            "paint": torch.where(is_cup[:, None], card, case),
            "band": draws.row(DYES, draws.whole(len(DYES))),
            "banded": draws.chance(0.6),
            "lenses": draws.whole(3).float() + 1,
            "gloss": draws.between(0.1, 0.6),
        }

    def extent(self, params: Params) -> Tensor:
        return _around(params, wide=1.3, above=2.35, below=2.35)

    def grouping(self, params: Params) -> Tensor:
        return params["kind"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = _turned(*canvas.face, params)
        x, y = u / p["size"], v / p["size"]
        is_cup = (p["kind"] == 1).float()
        phone = rounded_box(x, y, 1.1, 2.3, 0.28)
        # A cup narrows downwards; its rim is an ellipse seen from slightly above.
        wide = 1.25 - 0.14 * (y + 1.5)
        cup = torch.maximum(x.abs() - wide, (y + 0.1).abs() - 1.5).minimum(ellipse(x, y + 1.55, 1.25, 0.2))
        edge = torch.where(is_cup > 0, cup, phone) * p["size"]
        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        canvas.shade("shadow", fade(edge, 0.0, 0.5) * 0.45, tint)

        gleam = fade((x * 0.8 + y * 0.4 + 0.3).abs(), 0.1, 0.9) * p["gloss"]
        rim = fade((phone + 0.05).abs(), 0.0, 0.05) * 0.35
        flat = 0.92 + gleam * 0.5 + rim
        tube = 1.1 - 0.42 * (x / wide) * (x / wide) + fade((x / wide + 0.45).abs(), 0.0, 0.25) * 0.14
        lip = fade((ellipse(x, y + 1.55, 1.25, 0.2) + 0.05).abs(), 0.0, 0.06) * 0.25
        light = torch.where(is_cup > 0, tube + lip, flat)
        band = is_cup * p["banded"] * coverage((y - 0.05).abs() - 0.6, canvas.sharpness)
        first, second = params["paint"][:, :, None, None], params["band"][:, :, None, None]
        surface = canvas.lit(first + (second - first) * band[:, None]) * light[:, None]

        bump = coverage((rounded_box(x + 0.62, y + 1.78, 0.36, 0.4, 0.14)) * p["size"], canvas.sharpness) * (1 - is_cup)
        surface = surface * (1 - 0.3 * bump)[:, None]
        for number, (at_x, at_y) in enumerate(((-0.76, -1.93), (-0.76, -1.61), (-0.46, -1.77))):
            there = (p["lenses"] > number) * (1 - is_cup)
            lens = ellipse(x - at_x, y - at_y, 0.13, 0.13) * p["size"]
            glass = coverage(lens, canvas.sharpness) * there
            surface = surface * (1 - 0.9 * glass)[:, None] + (fade(lens.abs(), 0.0, 0.04) * there * 0.05)[:, None]
        canvas.over("object", coverage(edge, canvas.sharpness), surface)


def hand(config: HandConfig, context: BuildContext) -> Hand:
    return Hand(config)


def held_object(config: ObjectConfig, context: BuildContext) -> HeldObject:
    return HeldObject(config)
