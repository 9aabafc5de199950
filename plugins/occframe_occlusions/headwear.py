"""What comes from above: beanies, caps and hoods with the shadow they throw, and bangs."""

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
from occframe_occlusions.shapes import coverage, ellipse, fade, per_image, smooth
from occframe_occlusions.suite_configs import HairConfig, HatConfig

_KINDS = ("beanie", "cap", "hood")
_SKIN_SHADOW = (0.30, 0.22, 0.20)
_HAIR = (
    (0.008, 0.006, 0.005), (0.012, 0.009, 0.007), (0.03, 0.017, 0.009), (0.06, 0.032, 0.016), (0.12, 0.062, 0.03),
    (0.30, 0.19, 0.09), (0.45, 0.33, 0.19), (0.16, 0.05, 0.02), (0.30, 0.29, 0.28),
)  # fmt: skip


class Hat(Painted):
    """Severity lowers the brim from the hairline to the eyes."""

    name = "hat"
    parts: ClassVar[tuple[str, ...]] = ("hat", "shadow")
    config: HatConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        kind = draws.named(self.config.kinds, _KINDS)
        first, second = two_dyes(draws)
        severity = params["severity"]
        return {
            "kind": kind,
            "brim": -1.75 + 1.15 * severity + draws.signed(0.12),
            "tilt": draws.signed(0.09),
            "opening": 2.35 - 0.5 * severity + draws.signed(0.1),
            "visor": draws.between(0.75, 1.25),
            "wide": draws.between(2.45, 2.8),
            "paint": first,
            "second": second,
            # A hood is of one colour; a cap now and then, a beanie often striped.
            "pattern": draws.whole(len(PATTERNS)) * (draws.unit() < 0.35) * (kind != 2),
            "pattern_size": draws.between(0.25, 0.6),
            "ribs": draws.between(9, 18),
            "shadow": draws.between(0.4, 1.0) * self.config.shadow,
            "reach": draws.between(0.5, 1.6),
        }

    def extent(self, params: Params) -> Tensor:
        brim = params["brim"]
        kinds = params["kind"]
        wide = torch.where(kinds == 2, 3.7, params["wide"] + 0.1)
        # The shadow of a visor reaches further than a beanie's.
        low = brim + torch.where(kinds == 1, params["visor"] + params["reach"] * 1.4, params["reach"] * 0.6) + 0.8
        return torch.stack([-wide - 0.3, brim - 5, wide + 0.3, torch.where(kinds == 2, 8.0, low)], dim=1)

    def grouping(self, params: Params) -> Tensor:
        return params["kind"] * len(PATTERNS) + params["pattern"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = canvas.face
        u = u - per_image(canvas.frame.turn) * 0.25
        v = v + p["tilt"] * u
        is_hood = p["kind"] == 2
        folds = canvas.texture("waves", u * 22, v * 14) * 0.14 + canvas.texture("clouds", u * 60, v * 60) * 0.12
        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        first, second = params["paint"][:, :, None, None], params["second"][:, :, None, None]
        shown = pattern(canvas, params["pattern"], u, v, params["pattern_size"])
        cloth = canvas.lit(first + (second - first) * shown[:, None])
        if canvas.needs(is_hood):
            self._paint_hood(canvas, p, u, v, folds, is_hood, tint, cloth)
        if canvas.needs(~is_hood):
            self._paint_crown(canvas, p, u, v, folds, ~is_hood, tint, cloth)

    def _paint_hood(
        self,
        canvas: Canvas,
        p: dict[str, Tensor],
        u: Tensor,
        v: Tensor,
        folds: Tensor,
        worn: Tensor,
        tint: Tensor,
        cloth: Tensor,
    ) -> None:
        opening = ellipse(u, v - 0.95, p["opening"], p["opening"] * 1.3)
        hood = torch.maximum(-opening, ellipse(u, v - 2.0, 3.5, 5.6))
        inside = fade(-opening, 0.0, 0.9) * (opening < 0.1)
        canvas.shade("shadow", inside * p["shadow"] * 0.55 * worn, tint)
        light = 1.0 + folds * 1.5 - fade(-hood, 0.0, 0.5) * 0.35 + fade((hood + 0.14).abs(), 0.0, 0.07) * 0.15
        canvas.over("hat", coverage(hood, canvas.sharpness) * worn, cloth * light.clamp(0.15, 1.6)[:, None])

    def _paint_crown(
        self,
        canvas: Canvas,
        p: dict[str, Tensor],
        u: Tensor,
        v: Tensor,
        folds: Tensor,
        worn: Tensor,
        tint: Tensor,
        cloth: Tensor,
    ) -> None:
        is_cap, sharp = (p["kind"] == 1).float(), canvas.sharpness
        # Worn round the head, a level brim looks curved: up for a beanie seen from the front, down for a visor.
        edge = p["brim"] + 0.07 * u * u
        wide = u / 2.2
        visor_low = edge + p["visor"] * (1 - wide * wide).clamp(min=0).sqrt() - 0.02
        below = v - torch.where(is_cap > 0, visor_low.maximum(edge), edge)
        falls = fade(below, 0.0, p["reach"] * (0.6 + 0.8 * is_cap)) * fade(u.abs(), 1.7, 2.3) * (below > -0.3)
        canvas.shade("shadow", falls * p["shadow"] * (0.55 + 0.3 * is_cap) * worn, tint)

        round_head = 1.12 - 0.09 * u * u + folds
        ribs = (u * p["ribs"] * (1 - 0.04 * u * u)).abs()
        # Ribs finer than two pixels a camera does not see.
        ribs = (
            ((ribs - ribs.floor() - 0.5).abs() * 2 - 0.5) * 0.35 * fade(p["ribs"] * 2, canvas.scale, canvas.scale * 2)
        )
        cuff = fade((v - edge + 0.75).abs(), 0.0, 0.1) * -0.3 + fade(v, edge - 0.75, edge - 0.8) * -0.08
        panel = fade(u.abs(), 0.0, 0.05) * -0.12 + fade((u.abs() - 1.2).abs(), 0.0, 0.05) * -0.08
        panel = panel + smooth((v - edge + 0.3) * 3) * -0.1
        light = (round_head + torch.where(is_cap > 0, panel, ribs + cuff)).clamp(0.15, 1.6)
        crown = torch.maximum(v - edge, ellipse(u, v - p["brim"] - 0.3, p["wide"], 3.3))
        canvas.over("hat", coverage(crown, sharp) * worn, cloth * light[:, None])
        if canvas.needs(is_cap * worn):
            # The visor looks down at the camera: its upper side is lit from above, its lip catches light.
            visor = torch.maximum(v - visor_low, edge - 0.05 - v).maximum(u.abs() - 2.2)
            light = 0.75 + 0.3 * smooth((visor_low - v) * 1.5) + fade((v - visor_low + 0.05).abs(), 0.0, 0.06) * 0.25
            canvas.over("hat", coverage(visor, sharp) * is_cap * worn, cloth * (light + folds)[:, None])


class Hair(Painted):
    """Bangs. Severity lengthens them from the hairline to over the eyes."""

    name = "hair"
    parts: ClassVar[tuple[str, ...]] = ("hair", "shadow")
    config: HairConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        paint = draws.row(_HAIR, draws.whole(len(_HAIR))) * draws.between(0.75, 1.3)[:, None]
        return {
            "tip": -1.9 + 2.5 * params["severity"] + draws.signed(0.15),
            "paint": paint,
            "sweep": draws.signed(1.6),
            "parting": draws.between(-1.4, 1.4),
            "parted": draws.chance(0.4) * draws.between(0.5, 1.4),
            "ragged": draws.between(0.15, 0.6),
            "sides": draws.between(1.75, 2.2),
            "locks": draws.chance(0.5) * draws.between(0.5, 4.0),
            "gloss": draws.between(0.3, 1.2),
        }

    def extent(self, params: Params) -> Tensor:
        far = torch.full_like(params["tip"], 3.4)
        lowest = torch.maximum(params["tip"] + 1.2, params["locks"] + 1.0)
        return torch.stack([-far, -far * 1.5, far, lowest], dim=1)

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = canvas.face
        # Strands lean: further down they come from further across.
        strand = u - p["sweep"] * (v + 2.2) * 0.3
        clump = canvas.texture("waves", strand * 26, v * 0 + 40)
        fine = canvas.texture("clouds", strand * 110, v * 5)
        finest = canvas.texture("soft grain", strand * 60, v * 2.5)
        parting = fade((strand - p["parting"]).abs(), 0.0, 1.1) * p["parted"]
        tip = p["tip"] + 0.1 * u * u + (clump * 0.7 + fine * 0.6) * p["ragged"] - parting
        head = ellipse(u, v - 0.4, 2.65, 4.1)
        fringe = (tip - v) * 2.6
        side = (u.abs() - p["sides"] - clump * 0.12 - fine * 0.1) * 9
        lock = torch.minimum(side, (p["locks"] + clump * 0.4 - v) * 4)
        # Ends thin out: single hairs, not an edge.
        thickness = torch.maximum(fringe, lock) + finest * 0.35
        alpha = smooth(thickness * 0.8 + 0.3) * coverage(head + clump * 0.05, canvas.sharpness * 0.6)
        shadow = fade(v - tip, 0.0, 0.5) * fade(u.abs(), 1.6, 2.1) * 0.4
        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        canvas.shade("shadow", shadow, tint)

        # A band of shine where the head is rounded towards the light.
        shine = fade((v + 1.7 + 0.12 * u * u + clump * 0.3).abs(), 0.0, 0.9) * p["gloss"] * (0.4 + fine * 0.5)
        light = (0.9 + fine * 0.4 + finest * 0.12 + clump * 0.15 + shine.clamp(min=0)).clamp(0.3, 2)
        light = light * (1 - 0.35 * fade(thickness, 0.2, 1.6))
        canvas.over("hair", alpha, canvas.lit(params["paint"]) * light[:, None])


def hat(config: HatConfig, context: BuildContext) -> Hat:
    return Hat(config)


def hair(config: HairConfig, context: BuildContext) -> Hair:
    return Hair(config)
