"""Medical and cloth masks: placed on nose and cheeks, folded, shaded as the face is, with loops to the ears."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.fabrics import PATTERNS, pattern, two_dyes
from occframe_occlusions.outlines import Atlas, Points, mirrored, rounded
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, fade, per_image, segment, smooth
from occframe_occlusions.suite_configs import MedicalMaskConfig

_KINDS = ("surgical", "kn95", "cloth", "patterned")
_WEARING = ("full", "nose-out", "chin")

# Right halves in face units, from the bridge of the nose to below the chin.
_OUTLINES: dict[str, Points] = {
    "surgical": [(0, 0.5), (0.3, 0.52), (0.62, 0.72), (1.1, 1.02), (1.75, 1.08), (1.93, 1.2), (1.95, 1.6),
                 (1.9, 2.4), (1.72, 3.2), (1.25, 3.95), (0.6, 4.3), (0, 4.36)],
    "kn95": [(0, 0.36), (0.2, 0.4), (0.55, 0.72), (1.0, 1.15), (1.75, 1.62), (1.98, 1.9), (1.96, 2.2),
             (1.7, 2.85), (1.2, 3.7), (0.6, 4.3), (0.15, 4.5), (0, 4.5)],
    "cloth": [(0, 0.46), (0.35, 0.52), (0.75, 0.85), (1.3, 1.12), (1.9, 1.14), (2.12, 1.25), (2.1, 1.7),
              (2.0, 2.5), (1.7, 3.4), (1.05, 4.15), (0.5, 4.42), (0, 4.46)],
}  # fmt: skip
_TOP, _LOW = 0.46, 4.5
_SURGICAL = (
    (0.42, 0.60, 0.72), (0.42, 0.60, 0.72), (0.50, 0.66, 0.78), (0.36, 0.62, 0.60), (0.80, 0.80, 0.80),
    (0.80, 0.80, 0.80), (0.02, 0.02, 0.022), (0.75, 0.48, 0.52),
)  # fmt: skip
_KN95 = ((0.78, 0.78, 0.77), (0.78, 0.78, 0.77), (0.78, 0.78, 0.77), (0.03, 0.03, 0.03), (0.45, 0.47, 0.50))
_SKIN_SHADOW = (0.34, 0.22, 0.18)


@lru_cache(maxsize=1)
def _atlas() -> Atlas:
    curves = [rounded(mirrored(_OUTLINES["cloth" if name == "patterned" else name])) for name in _KINDS]
    return Atlas.draw(curves, box=(0.0, -0.4, 3.0, 5.2), step=0.05)


class MedicalMask(Painted):
    name = "medical-mask"
    parts: ClassVar[tuple[str, ...]] = ("mask", "strap", "shadow")

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        config: MedicalMaskConfig = self.config
        severity = params["severity"]
        kind = draws.named(config.kinds, _KINDS)
        wearing = draws.named(config.wearing, _WEARING)
        surgical = draws.row(_SURGICAL, draws.whole(len(_SURGICAL)))
        respirator = draws.row(_KN95, draws.whole(len(_KN95)))
        first, second = two_dyes(draws)
        colour = torch.where((kind == 0)[:, None], surgical, torch.where((kind == 1)[:, None], respirator, first))
        top = draws.row([(0.48,), (1.62,), (2.85,)], wearing)[:, 0] + draws.signed(0.14)
        light_dye = (colour[:, 1] > 0.2).float()
        return {
            "kind": kind,
            # Severity pulls the upper edge towards the eyes.
            "top": top - (severity - 0.5) * 0.5,
            "wide": draws.between(0.93, 1.05),
            "skew": draws.signed(0.06),
            "paint": colour,
            "second": second,
            "pattern": torch.where(kind == 3, draws.whole(len(PATTERNS) - 1) + 1, torch.zeros_like(kind)),
            "pattern_size": draws.between(0.14, 0.5),
            "pleats": (kind == 0).float() * draws.between(0.5, 1.0),
            "ridge": draws.row([(0.0,), (1.0,), (0.6,), (0.6,)], kind)[:, 0] * draws.between(0.5, 1.0),
            "creases": draws.between(0.1, 0.35),
            "bulge": draws.between(0.25, 0.6),
            "hem": draws.between(0.04, 0.12),
            "strap": torch.where(
                (draws.unit() < 0.25)[:, None], colour, torch.full_like(colour, 0.72) * (0.2 + 0.8 * light_dye[:, None])
            ),
            "strap_wide": draws.between(0.035, 0.08) * float(config.straps),
            "strap_end": torch.stack([draws.between(2.25, 2.6), draws.between(-0.2, 0.5)], dim=1),
            "shadow": draws.between(0.3, 0.9) * config.shadow,
        }

    def extent(self, params: Params) -> Tensor:
        top = params["top"]
        reach, low = torch.full_like(top, 2.85), torch.full_like(top, 4.9)
        high = torch.where(params["strap_wide"] > 0, (top - 0.5).clamp(max=-0.35), top - 0.5)
        return torch.stack([-reach, high, reach, low], dim=1)

    def grouping(self, params: Params) -> Tensor:
        return params["kind"] * len(PATTERNS) + params["pattern"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        u, v = canvas.face
        v = v + p["skew"] * u
        # The middle follows the nose of a turned head.
        turn = per_image(canvas.frame.turn)
        u = u - turn * 0.5 * (1 - u * u * 0.2).clamp(0, 1) * smooth((v + 0.3) * 0.9) * fade(v, 1.6, 4.2)
        # From the upper edge where it is worn to the edge it is drawn with; the lower one stays below the chin.
        drawn = _LOW - (_LOW - v) * ((_LOW - _TOP) / (_LOW - p["top"]))
        a = u.abs() / p["wide"]
        edge = _atlas().lookup(params["kind"], a, drawn)
        sharp = canvas.sharpness

        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        contact = fade(edge, 0.0, 0.22) * p["shadow"] * 0.6
        canvas.shade("shadow", contact, tint)
        if canvas.needs(params["strap_wide"]):
            self._paint_straps(canvas, params, a, v, edge)

        light = self._relief(canvas, p, u, v, a, drawn, edge)
        shown = pattern(canvas, params["pattern"], u, v, params["pattern_size"])
        first, second = params["paint"][:, :, None, None], params["second"][:, :, None, None]
        cloth = first + (second - first) * shown[:, None]
        canvas.over("mask", coverage(edge, sharp), canvas.lit(cloth) * light[:, None])

    def _relief(
        self, canvas: Canvas, p: dict[str, Tensor], u: Tensor, v: Tensor, a: Tensor, drawn: Tensor, edge: Tensor
    ) -> Tensor:
        """Brightness of the cloth, about 1: the face's roundness, nose and chin below it, folds, seams and creases."""
        round_face = 1.1 - 0.14 * a * a
        above, below = v - 0.95, v - 1.75
        nose = fade(a, 0.0, 0.75)
        bump = nose * (fade(above.abs(), 0.0, 0.8) * 0.16 - fade(below.abs(), 0.0, 0.75) * 0.22) * p["bulge"] * 2.3
        chin = -fade((v - 3.9).abs(), 0.0, 1.2) * 0.2
        light = round_face + bump + chin

        # Three pleats that the cheeks pull together: a dark fold with a bright edge above.
        if canvas.needs(p["pleats"]):
            sag = drawn - 0.12 * (1 - a * 0.5)
            for height in (1.62, 2.25, 2.88):
                at = (sag - height) * 9
                fold = fade((at + 0.8).abs(), 0.0, 0.9) * 0.07 - fade(at.abs(), 0.0, 0.7) * 0.16
                light = light + fold * p["pleats"]
        if canvas.needs(p["ridge"]):
            # A respirator's or a sewn mask's seam down the middle.
            seam = fade(u.abs(), 0.0, 0.07) * 0.1 - fade((u - 0.09).abs(), 0.0, 0.08) * 0.16
            light = light + (seam - (u * 0.09).clamp(-0.12, 0.12)) * p["ridge"]

        creases = canvas.texture("waves", u * 26, v * 60) + canvas.texture("clouds", u * 50, v * 90)
        light = light + creases * p["creases"] * 0.22 * (0.35 + 0.65 * smooth(a * 0.6))
        # The hem: sewn flat, with the edge catching the light.
        light = light - fade((edge + p["hem"] + 0.06).abs(), 0.0, 0.045) * 0.14 + fade(edge.abs(), 0.0, 0.07) * 0.07
        return light.clamp(0.2, 1.7)

    def _paint_straps(self, canvas: Canvas, params: Params, a: Tensor, v: Tensor, edge: Tensor) -> None:
        top, wide = per_image(params["top"]), per_image(params["strap_wide"])
        end_u, end_v = (per_image(value) for value in params["strap_end"].unbind(1))
        upper, place = segment(a, v, (1.88, top + 0.72), (end_u, end_v))
        lower, place_low = segment(a, v, (1.75, top + 2.2), (end_u, end_v + 0.9))
        alpha = torch.zeros_like(a)
        for distance, along in ((upper, place), (lower, place_low)):
            line = coverage(distance - wide * 0.5, canvas.sharpness) * fade(along, 0.75, 1.0)
            alpha = alpha.maximum(line)
        alpha = alpha * (wide > 0) * fade(-edge, -0.01, 0.03)
        canvas.over("strap", alpha, canvas.lit(params["strap"]) * 0.95)


def build(config: MedicalMaskConfig, context: BuildContext) -> MedicalMask:
    return MedicalMask(config)
