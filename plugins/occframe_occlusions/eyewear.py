"""Glasses and sunglasses: a frame that casts a shadow, and its place on the face."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe.face_frame import FaceFrame
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import divided
from occframe_occlusions.draws import Draws
from occframe_occlusions.eyewear_lenses import MIRRORED, choose_lenses, paint_lenses
from occframe_occlusions.eyewear_shapes import RIMS, lens_atlas, lens_heights
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import coverage, ellipse, fade, per_image, segment, smooth, stripe
from occframe_occlusions.suite_configs import FRAME_SHAPES, EyewearConfig

_UNIT_MM = 31.5  # half of a mean distance between pupils
_METAL_MM = 2.2  # rims up to here are metal wire

# Linear reflectances of frames. Plastic: blacks and browns are worn most, so they stand here most.
_PLASTIC = (
    (0.003, 0.003, 0.003), (0.002, 0.002, 0.002), (0.002, 0.002, 0.002), (0.001, 0.001, 0.001), (0.005, 0.005, 0.005),
    (0.007, 0.006, 0.006), (0.012, 0.012, 0.013), (0.001, 0.001, 0.001), (0.02, 0.018, 0.018), (0.03, 0.014, 0.008),
    (0.02, 0.008, 0.005), (0.025, 0.012, 0.01), (0.05, 0.02, 0.01), (0.10, 0.045, 0.018), (0.14, 0.07, 0.03),
    (0.14, 0.012, 0.014), (0.015, 0.02, 0.06), (0.30, 0.27, 0.24),
)  # fmt: skip
_METAL = (
    (0.22, 0.22, 0.23), (0.14, 0.14, 0.15), (0.30, 0.20, 0.09), (0.16, 0.09, 0.045), (0.05, 0.05, 0.055),
    (0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (0.03, 0.025, 0.02),
)  # fmt: skip
_SKIN_SHADOW = (0.34, 0.22, 0.18)  # light bounces within skin, so that its shadows are warm


class Eyewear(Painted):
    name = "glasses"
    version = 4
    softens = True
    parts: ClassVar[tuple[str, ...]] = ("frame", "lens", "shadow")
    # Half a lens wide in face units, how much taller than drawn. Set by the mean of 405 real wearers.
    half_width: ClassVar[tuple[float, float]] = (0.65, 0.82)
    aspect: ClassVar[tuple[float, float]] = (0.84, 1.16)
    gap: ClassVar[tuple[float, float]] = (0.18, 0.33)  # from the middle to a lens
    slide: ClassVar[tuple[float, float]] = (0.04, 0.33)  # of the lenses' middle below the eyes
    bold_bridge: ClassVar[tuple[float, float]] = (1.0, 2.0)
    blotches: ClassVar[float] = 0.012
    plastic: ClassVar[tuple[tuple[float, float, float], ...]] = _PLASTIC

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        severity = params["severity"]
        shape = draws.named(self.config.shapes, FRAME_SHAPES)
        half = draws.between(*self.half_width) * (0.94 + 0.12 * severity)
        low, high = self.config.thickness_mm
        # Severity shifts the odds towards bold frames without forbidding thin ones.
        place = draws.unit()
        place = place + (severity - 0.5) * place * (1 - place) * 1.6
        millimetres = place * (high - low) + low
        metal = (millimetres < _METAL_MM).float()
        thick = divided(millimetres, _UNIT_MM)
        rims = draws.row([RIMS[name] for name in FRAME_SHAPES], shape)
        own = {
            "shape": shape,
            "half": half,
            "aspect": draws.between(*self.aspect),
            "gap": draws.between(*self.gap),
            "slant": draws.between(0.03, 0.22),
            "slide": draws.between(*self.slide),
            "tilt": draws.signed(0.035),
            "metal": metal,
            "rim": rims * thick[:, None],
            "thick": thick,
            "gloss": draws.between(0.15, 1.0),
            "clear_frame": draws.chance(0.06) * (1 - metal),
            "mottled": draws.chance(0.3) * (1 - metal),
            "bridge": torch.stack(
                [
                    draws.between(-0.5, 0.2),
                    draws.between(0.02, 0.14),
                    draws.between(*self.bold_bridge) * (1 - metal * 0.35),
                ],
                dim=1,
            ),
            "double_bridge": draws.chance(0.7) * (shape == FRAME_SHAPES.index("aviator")) * metal,
            "temple": torch.stack([draws.between(0.15, 0.75), draws.between(0.05, 0.28), draws.between(0.7, 1.2)], 1),
        }
        plastic = draws.row(self.plastic, draws.whole(len(self.plastic)))
        wire = draws.row(_METAL, draws.whole(len(_METAL)))
        own["paint"] = torch.where(metal[:, None] > 0, wire, plastic)
        return own | choose_lenses(draws, self.config, severity) | self._shadow(draws)

    def _shadow(self, draws: Draws) -> Params:
        return {
            "shadow": draws.between(0.35, 1.0) * self.config.shadow,
            "shadow_shift": torch.stack([draws.signed(0.16), draws.between(0.05, 0.24)], 1),
            "shadow_soft": draws.between(0.08, 0.26),
        }

    def extent(self, params: Params) -> Tensor:
        half, tall = params["half"], params["half"] * params["aspect"]
        top, bottom = constant(lens_heights(), tall.device)[params["shape"]].unbind(1)
        rim, cast = params["rim"].amax(1), params["shadow_shift"].abs().amax(1) + params["shadow_soft"]
        width = params["gap"] + 2.3 * half + rim
        # A tilt of at most 0.035 lifts an end of the frame by that share of its distance.
        above = params["slide"] + tall * top - rim - 0.25
        below = params["slide"] + tall * bottom + rim + cast + 0.15
        turn = FaceFrame.unpack(params["frame"]).turn
        reach = [(params["temple"][:, 1] - turn * side * 1.5).clamp(0.04, 1.2) for side in (-1, 1)]
        return torch.stack([-width - reach[0] - 0.2, above, width + reach[1] + 0.2, below], dim=1)

    def grouping(self, params: Params) -> Tensor:
        mirrored, refracts, metal = (params[name] != 0 for name in ("mirror", "bend", "metal"))
        mirrors = torch.stack([params[name] != 0 for name in MIRRORED]).any(0)
        return (((mirrored * 2 + mirrors) * 2 + refracts) * 2 + metal) * len(FRAME_SHAPES) + params["shape"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        # Dark places are noisier than the skin that noise is measured on.
        canvas.grain, canvas.blotches = 1.6, self.blotches
        u, v = canvas.face
        v = v - p["slide"]
        u, v = u + p["tilt"] * v, v - p["tilt"] * u
        half, side = p["half"], torch.sign(u)
        centre = p["gap"] + half
        lens = lens_atlas()

        def lens_place(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            x, y = (u.abs() - centre) / half, v / (half * p["aspect"])
            # The nose is narrow above and wide below, and lenses make room for it.
            return x - (-x).clamp(0, 1.3) * (y + 0.35) * p["slant"], y

        x, y = lens_place(u, v)
        edge = lens.lookup(params["shape"], x, y) * half
        low = smooth(y * 0.9 + 0.5)
        top_rim, low_rim = per_image(params["rim"][:, 0]), per_image(params["rim"][:, 1])
        rim = top_rim + (low_rim - top_rim) * low

        self._cast_shadow(canvas, params, lens_place, u, v, rim)
        paint_lenses(canvas, params, x, y, edge, rim, side)
        self._paint_frame(canvas, params, u, v, y, edge, rim, centre, side)

    def _cast_shadow(
        self,
        canvas: Canvas,
        params: Params,
        lens_place: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        u: Tensor,
        v: Tensor,
        rim: Tensor,
    ) -> None:
        shift_u, shift_v = (per_image(value) for value in params["shadow_shift"].unbind(1))
        x, y = lens_place(u - shift_u, v - shift_v)
        edge = lens_atlas().lookup(params["shape"], x, y) * per_image(params["half"])
        soft = 1 / per_image(params["shadow_soft"])
        cast = stripe(edge, rim + 0.03, soft)
        # A dense lens shades the cheek as well.
        dense = per_image(1 - params["through_low"][:, 1]) * 0.75
        cast = torch.maximum(cast, coverage(edge, soft) * dense)
        # Between the lenses the bridge keeps light from the root of the nose.
        root = fade(u.abs(), 0.12, 0.42) * fade((v - 0.12).abs(), 0.1, 0.5) * 0.45
        cast = torch.maximum(cast, root) * per_image(params["shadow"])
        tint = constant(_SKIN_SHADOW, u.device).expand(u.shape[0], 3)
        canvas.shade("shadow", cast, tint)

    def _paint_frame(
        self,
        canvas: Canvas,
        params: Params,
        u: Tensor,
        v: Tensor,
        y: Tensor,
        edge: Tensor,
        rim: Tensor,
        centre: Tensor,
        side: Tensor,
    ) -> None:
        a, sharp = u.abs(), canvas.sharpness
        half, thick, metal = (per_image(params[name]) for name in ("half", "thick", "metal"))
        around = stripe(edge, rim, sharp)
        at, arch, bold = (per_image(value) for value in params["bridge"].unbind(1))
        reach = centre - half * 0.86
        along = a / reach
        bow = v - at + arch * (1 - along * along)
        line = bow.abs() - thick.clamp(0.045, 0.16) * bold * 0.5
        bridge = coverage(line.maximum(a - reach), sharp)
        if canvas.needs(params["double_bridge"]):
            second = ((v - at + 0.32).abs() - 0.028).maximum(a - reach - 0.18)
            bridge = bridge.maximum(coverage(second, sharp) * per_image(params["double_bridge"]))
        pad_at = reach * 0.98
        # Where the bridge meets the lens it ends on the rim.
        bridge = bridge * fade(-edge, 0.0, 0.04)

        turn = per_image(canvas.frame.turn) * side
        height, least, bold = (per_image(value) for value in params["temple"].unbind(1))
        begin = centre + half * 0.93
        reach = (least - turn * 1.5).clamp(0.04, 1.2)
        top = -half * height * 0.6
        distance, place = segment(a, v, (begin, top), (begin + half * 0.1 + reach, top + reach * 0.06))
        temple = coverage(distance - thick.clamp(0.05, 0.16) * bold * 0.5 * (1.25 - 0.6 * place), sharp)
        # The face or the hair hides the end.
        temple = temple * fade(place, 0.4, 1.0) * fade(-edge, -0.01, 0.02)

        alpha = 1 - (1 - around) * (1 - bridge) * (1 - temple)
        alpha = alpha * (1 - per_image(params["clear_frame"]) * 0.6)
        # A round section under light from above: bright along the upper flank of each bar.
        across = edge / rim.clamp(min=0.04)
        flank = fade((across - 0.62).abs(), 0.0, 0.4) * (0.55 - 0.45 * y).clamp(0, 1)
        spark = canvas.texture("waves", u * 22, v * 22) * 0.5 + 0.5
        shine = flank * spark * spark * per_image(params["gloss"]) * (0.008 + 0.16 * metal)
        surface = 1 + metal * (spark - 0.5) * 0.9
        if canvas.needs(params["mottled"]):
            surface = surface + canvas.texture("clouds", u * 70, v * 70) * per_image(params["mottled"]) * 0.9
        white = params["light"][:, :, None, None]
        if canvas.needs(params["rim"] < 0.02):
            # Without a rim the ground edge of the lens is all there is to see.
            bare = stripe(edge + 0.03, 0.03, sharp) * fade(rim, 0.0, 0.02) * 0.3
            canvas.over("frame", bare, white * 0.55)
        if canvas.needs(params["metal"]):
            pads = coverage(ellipse(a - pad_at, v - at - 0.34, 0.05, 0.12), sharp) * metal * 0.55
            canvas.over("frame", pads, white * 0.4)
        canvas.over("frame", alpha, canvas.lit(params["paint"]) * surface[:, None] + white * shine[:, None])


class Sunglasses(Eyewear):
    name = "sunglasses"
    # Set by where 177 real pairs are dark.
    half_width = (0.59, 0.93)
    aspect = (0.8, 1.3)
    gap = (0.2, 0.38)
    slide = (0.0, 0.2)
    bold_bridge = (1.2, 2.4)
    blotches = 0.024
    plastic = (*_PLASTIC[:8] * 3, *_PLASTIC)


def glasses(config: EyewearConfig, context: BuildContext) -> Eyewear:
    return Eyewear(config)


def sunglasses(config: EyewearConfig, context: BuildContext) -> Sunglasses:
    return Sunglasses(config)
