"""What lies on the camera's lens rather than on the face: dirt, drops of water, glare."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.constants import constant
from occframe.random import derive_seed, uniform
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import divided, may_look
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import fade, per_image, smooth
from occframe_occlusions.suite_configs import DirtConfig

_KINDS = ("dirt", "water", "glare")
_DROPS = 9


class CameraDirt(Painted):
    """Severity: how much is dirty, how many and how large the drops are, how far the glare reaches."""

    name = "dirt"
    everywhere = True
    parts: ClassVar[tuple[str, ...]] = _KINDS
    config: DirtConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        severity = params["severity"]
        seeds = draws.seeds()
        side = max(images.shape[2:])
        drops = uniform(seeds, derive_seed(self.name, "drops") % 2**31, _DROPS * 4).view(-1, _DROPS, 4)
        size = constant((images.shape[3], images.shape[2]), images.device)
        radius = (0.03 + 0.13 * drops[:, :, 2] * drops[:, :, 2]) * (0.6 + severity[:, None] * 0.9) * side
        # The more severe, the more of them; one there always is.
        there = torch.arange(_DROPS, device=seeds.device) < 1 + severity[:, None] * (_DROPS - 1)
        return {
            "kind": draws.named(self.config.kinds, _KINDS),
            "drops": torch.cat(
                [drops[:, :, :2] * size, (radius * there)[:, :, None], 0.75 + 0.5 * drops[:, :, 3:]], dim=2
            ),
            "soil": draws.row([(0.05, 0.035, 0.02), (0.02, 0.018, 0.015), (0.16, 0.12, 0.08)], draws.whole(3)),
            "dense": draws.between(0.5, 0.95),
            "blot": divided(draws.between(60, 160), side),
            "sun": torch.stack([draws.unit(), draws.between(-0.1, 0.7)], dim=1) * size,
            "bright": draws.between(0.5, 1.0) * (0.4 + 0.8 * severity),
            "wide": draws.between(0.25, 0.5) * (0.4 + 1.2 * severity) * side,
            "streak": draws.signed(0.6),
            "warm": draws.row([(1.0, 1.0, 1.0), (1.0, 0.93, 0.75), (0.9, 0.95, 1.0)], draws.whole(3)),
        }

    def grouping(self, params: Params) -> Tensor:
        return params["kind"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        p = {name: per_image(value) for name, value in params.items() if value.ndim == 1}
        kinds = set(params["kind"].tolist()) if may_look(params["kind"]) else {0, 1, 2}
        canvas.grain = 0.0  # the sensor's noise lies over dirt on the lens as over everything else
        if 0 in kinds:
            self._paint_dirt(canvas, params, p)
        if 1 in kinds:
            self._paint_water(canvas, params, p)
        if 2 in kinds:
            self._paint_glare(canvas, params, p)

    def _paint_dirt(self, canvas: Canvas, params: Params, p: dict[str, Tensor]) -> None:
        x, y = canvas.x, canvas.y
        stain = canvas.texture("clouds", x * p["blot"], y * p["blot"])
        speck = canvas.texture("clouds", x * p["blot"] * 3 + 90, y * p["blot"] * 3)
        # Out of focus: no edge is sharp.
        alpha = smooth((stain + p["severity"] * 0.7 - 0.4) * 1.9).maximum(
            smooth((speck + p["severity"] * 0.3 - 0.5) * 2.6)
        )
        alpha = alpha * p["dense"] * (p["kind"] == 0)
        canvas.over("dirt", alpha, canvas.lit(params["soil"]).expand_as(canvas.light))

    def _paint_water(self, canvas: Canvas, params: Params, p: dict[str, Tensor]) -> None:
        shape = canvas.light[:, 0].shape
        shift_x, shift_y = (torch.zeros(shape, device=canvas.x.device) for _ in range(2))
        inside, gleam = torch.zeros_like(shift_x), torch.zeros_like(shift_x)
        for drop in params["drops"].unbind(1):
            centre_x, centre_y, radius, tall = (per_image(value) for value in drop.unbind(1))
            size = radius.clamp(min=0.5)
            across, down = (canvas.x - centre_x) / size, (canvas.y - centre_y) / (size * tall)
            near = across * across + down * down
            here = fade(near, 0.8, 1.15) * (radius > 0.5)
            # A drop is a strong lens: it shows what is on its other side, upside down and small.
            bend = here * size * near * -1.1
            shift_x, shift_y = shift_x + across * bend, shift_y + down * bend
            inside = inside.maximum(here)
            bright = (across + 0.35) * (across + 0.35) + (down + 0.4) * (down + 0.4)
            gleam = gleam.maximum(fade(bright, 0.02, 0.09) * here)
        where = inside * (p["kind"] == 1)
        seen = canvas.behind(shift_x, shift_y)
        light = seen * 0.92 + 0.03 + gleam[:, None] * 0.5
        canvas.through("water", where, light, inside * 0.6 + gleam * 0.4)

    def _paint_glare(self, canvas: Canvas, params: Params, p: dict[str, Tensor]) -> None:
        centre_x, centre_y = (per_image(value) for value in params["sun"].unbind(1))
        across, down = (canvas.x - centre_x) / p["wide"], (canvas.y - centre_y) / p["wide"]
        near = (across * across + down * down).sqrt()
        disc = fade(near, 0.05, 1.6)
        ray = fade((down - across * p["streak"]).abs(), 0.0, 0.18) * fade(near, 0.4, 3.0) * 0.4
        alpha = (disc * disc + ray).clamp(0, 1) * p["bright"].clamp(0, 1) * (p["kind"] == 2)
        canvas.over("glare", alpha, canvas.toned(params["warm"]).expand_as(canvas.light))


def build(config: DirtConfig, context: BuildContext) -> CameraDirt:
    return CameraDirt(config)
