"""Lenses of glasses: what they let through, bend and mirror."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Params
from occframe_occlusions.shapes import coverage, fade, per_image, smooth
from occframe_occlusions.suite_configs import EyewearConfig

# What a lens lets through, linear RGB: grey, browns, green, blue, amber, rose.
_TINTS = (
    (0.50, 0.50, 0.52), (0.55, 0.38, 0.24), (0.62, 0.34, 0.18), (0.60, 0.30, 0.22), (0.50, 0.40, 0.32),
    (0.42, 0.50, 0.38), (0.40, 0.48, 0.60), (0.75, 0.48, 0.14), (0.68, 0.42, 0.45),
)  # fmt: skip
_MIRRORS = ((0.50, 0.55, 0.62), (0.62, 0.48, 0.22), (0.20, 0.42, 0.60), (0.55, 0.30, 0.20))
# What is mirrored, in the colour of the coating: white, sky, evening, brown and purple coatings.
_SCENES = ((1.0, 1.0, 1.0), (0.6, 0.8, 1.0), (1.0, 0.6, 0.35), (1.0, 0.55, 0.35), (0.95, 0.55, 0.8))
#: Strengths of what a lens mirrors; where all are 0 nothing of it is painted.
MIRRORED = ("scene", "cheek", "lamp_light")
_LENSES = ("clear", "tinted", "gradient", "reflective", "dark", "mirror")


def choose_lenses(draws: Draws, config: EyewearConfig, severity: Tensor) -> Params:
    """Parameters of the lenses of [B] severity 0..1."""
    kind = draws.named(config.lenses, _LENSES)
    tint = draws.row(_TINTS, draws.whole(len(_TINTS)))
    # How dense the tint is at the top and at the bottom: light through is 1 - density (1 - tint), then its depth.
    usual = draws.row([(0.06, 0.06), (0.5, 0.45), (0.99, 0.72), (0.07, 0.07), (1.0, 1.0), (0.995, 0.995)], kind)
    depth = draws.row([(0.0,), (0.1,), (0.85,), (0.0,), (0.993,), (0.97,)], kind)[:, 0]
    # Many dark lenses let skin shine through at the bottom, in their own colour.
    dark = (kind == _LENSES.index("dark")).float()
    usual = torch.stack([usual[:, 0], usual[:, 1] - dark * _seldom(draws.unit()) * 0.4], dim=1)
    stained = dark[:, None] * (tint * tint * 2.5 - 1) + 1
    # Severity makes half-dense lenses denser or clearer; black stays black.
    more = (severity - 0.5) * 0.8
    density = usual + more[:, None] * usual * (1 - usual)
    depth = (depth + (more + draws.signed(0.5)) * depth * (1 - depth)).clamp(0, 0.99)
    deep = tint * (1 - depth[:, None])
    glare = draws.row([(0.07,), (0.09,), (0.05,), (0.32,), (0.003,), (0.04,)], kind)[:, 0]
    shown = draws.chance(draws.row([(0.35,), (0.4,), (0.5,), (1.0,), (0.6,), (0.8,)], kind)[:, 0])
    mirror = (kind == _LENSES.index("mirror")).float() * draws.between(0.06, 0.25)
    backs = draws.row([(0.0,), (0.25,), (0.6,), (0.0,), (1.0,), (1.0,)], kind)[:, 0]
    strength = (draws.between(-1.0, 0.55) * config.refraction * 0.09) * (kind != _LENSES.index("dark"))
    return {
        "through_top": stained + density[:, :1] * (deep - stained),
        "through_low": stained + density[:, 1:] * (deep - stained),
        "glare": glare * shown * draws.between(0.4, 1.3) * (0.6 + 0.8 * severity),
        "glare_band": torch.stack([draws.between(-0.9, 0.9), draws.between(0.12, 0.7), draws.signed(1.0)], 1),
        "glare_soft": draws.between(0.12, 0.5),
        "glare_tint": draws.row([(1, 1, 1), (1, 1, 1), (0.75, 1.0, 0.85), (0.8, 0.85, 1.0)], draws.whole(4)),
        "mirror": mirror,
        "mirror_tint": draws.row(_MIRRORS, draws.whole(len(_MIRRORS))),
        # What dark lenses mirror: a sky or bright ground, things before it, and lamps.
        "scene": backs * (_seldom(draws.unit()) * 0.15 + 0.0015),
        "scene_tint": draws.row(_SCENES, draws.whole(len(_SCENES))),
        "upwards": draws.chance(0.6) * 2 - 1,
        "busy": draws.between(0.2, 1.6),
        "cheek": backs * (_seldom(draws.unit()) * 0.12 + 0.01),
        "lamp": torch.stack([draws.signed(0.9), draws.between(-0.75, 0.2), draws.signed(0.3), draws.signed(1.0)], 1),
        "lamp_size": torch.stack([draws.between(0.06, 0.4), draws.between(0.05, 0.2)], 1),
        "lamp_light": backs * draws.chance(0.8) * draws.unit() * draws.between(0.1, 1.2),
        # Positive: what is behind looks smaller, as through the lenses of the short-sighted.
        "bend": -strength,
    }


def paint_lenses(canvas: Canvas, params: Params, x: Tensor, y: Tensor, edge: Tensor, rim: Tensor, side: Tensor) -> None:
    """x, y: places on the lens, half a lens wide is 1. edge: face units beyond its outline. rim: width of the rim.
    side: -1 on the picture's left. All [b, h, w].
    """
    frame, half = canvas.frame, per_image(params["half"])
    # A lens sits in a groove of its rim: no skin shows between them.
    where = coverage(edge - rim * 0.5, canvas.sharpness)
    seen = canvas.light
    if canvas.needs(params["bend"]):
        shaded = canvas.light / canvas.photograph.clamp(min=1e-6)
        # Displacement in face units, then in pixels.
        bend = half * per_image(params["bend"])
        du, dv = x * side * bend, y * bend
        across, down = frame.across, frame.down
        bent = canvas.behind(
            du * per_image(across[:, 0]) + dv * per_image(down[:, 0]),
            du * per_image(across[:, 1]) + dv * per_image(down[:, 1]),
        )
        seen = torch.where((bend != 0)[:, None], bent * shaded, seen)
    low = smooth(y * 0.6 + 0.5)[:, None]
    top, bottom = canvas.toned(params["through_top"]), canvas.toned(params["through_low"])
    passed = top + (bottom - top) * low

    position, width, slant = (per_image(value) for value in params["glare_band"].unbind(1))
    across_band = (x * side + y * slant - position).abs()
    band = fade(across_band, width, width + per_image(params["glare_soft"])) * (0.75 - 0.35 * y).clamp(0, 1)
    glare = band * per_image(params["glare"]) * fade(edge, -0.12, 0.0)
    white = params["light"][:, :, None, None] * canvas.toned(params["glare_tint"]) * 0.8
    through = seen * passed
    through = through + (white - through) * glare[:, None]
    clear = (passed[:, 0] * 0.3 + passed[:, 1] * 0.6 + passed[:, 2] * 0.1) * (1 - glare)
    if canvas.needs(*(params[name] for name in MIRRORED)):
        mirrored, cheek = _mirrored(canvas, params, x * side, y, side)
        mirrored = mirrored * fade(edge, -0.1, 0.0)
        # What the brown of a lens and of skin send back is redder than either.
        through = through + (params["skin"] * params["skin"])[:, :, None, None] * (1.8 * cheek)[:, None]
        scene = params["light"][:, :, None, None] * canvas.toned(params["scene_tint"]) * 0.8
        through = through + (scene - through) * mirrored[:, None]
        clear = clear * (1 - mirrored) * (1 - cheek)
    if canvas.needs(params["mirror"]):
        horizon = smooth((canvas.texture("waves", x * side * 9, y * 4) * 0.3 - y) * 0.9 + 0.45)
        mirror = per_image(params["mirror"]) * (0.1 + 0.9 * horizon)
        through = through + (canvas.lit(params["mirror_tint"]) - through) * mirror[:, None]
        clear = clear * (1 - mirror)
    canvas.through("lens", where, through, 1 - clear)


def _mirrored(canvas: Canvas, params: Params, x: Tensor, y: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the light that a convex lens mirrors: of the sky and lamps, and of the wearer's own cheeks. x: to
    the picture's right in both lenses, which see one scene."""
    bumps = canvas.texture("waves", x * 13 + 40, y * 9)
    # Things have outlines, and a convex mirror shows much in little space.
    things = (canvas.texture("clouds", x * 40 + side * 90, y * 36) * 2.5).clamp(-1, 1) * per_image(params["busy"])
    sky = smooth(0.35 + y * 0.7 * per_image(params["upwards"]) + bumps * 0.7 + things * 0.5)
    details = canvas.texture("waves", x * 100 + side * 70, y * 100) * per_image(params["busy"])
    sky = (sky - 0.1 + things * 0.4 + details * 0.5).clamp(min=0)
    at_x, at_y, apart, uneven = (per_image(value) for value in params["lamp"].unbind(1))
    wide, tall = (per_image(value) for value in params["lamp_size"].unbind(1))
    # Lenses lean against each other: what one shows in its middle the other one shows beside it, or not as bright.
    far_x, far_y = (x - at_x - apart * side) / wide, (y - at_y + bumps * 0.1) / tall
    bright = per_image(params["lamp_light"]) * (0.7 + 0.3 * uneven * side)
    lamp = fade(far_x * far_x + far_y * far_y, 0.2, 1.5) * bright
    skies = sky * per_image(params["scene"]) * (1 + 0.7 * uneven * side)
    cheek = (0.4 + y * 0.6 + things * 0.7).clamp(0, 1) * per_image(params["cheek"]) * (1 - 0.4 * uneven * side)
    return (skies + lamp).clamp(0, 0.95), cheek


def _seldom(unit: Tensor) -> Tensor:
    """0..1, mostly near 0: the fourth power."""
    return unit * unit * (unit * unit)
