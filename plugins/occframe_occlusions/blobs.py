"""Smooth random shapes with a texture: nothing that exists, so that nothing can be learnt of it but to be robust."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.random import derive_seed, uniform
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.devices import ordered
from occframe_occlusions.draws import Draws
from occframe_occlusions.fabrics import PATTERNS, pattern, two_dyes
from occframe_occlusions.painted import Painted, Params
from occframe_occlusions.shapes import per_image
from occframe_occlusions.suite_configs import BlobsConfig


def _field(knots: Tensor, x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Uniform cubic B-spline through [B, n, n] control values laid over the whole picture; x [w], y [h] pixels."""
    pieces = knots.shape[1] - 3
    for dim, places, size in ((1, y, height), (2, x, width)):
        position = places * (pieces / size)
        first = position.floor().clamp(0, pieces - 1)
        t = position - first
        weights = (
            (1 - t) * (1 - t) * (1 - t),
            (t * t) * (t * 3 - 6) + 4,
            t * (t * (3 - t * 3) + 3) + 1,
            t * t * t,
        )
        total = torch.zeros(1, device=knots.device)
        for shift, weight in enumerate(weights):
            shape = (1, -1, 1) if dim == 1 else (1, 1, -1)
            total = total + knots.index_select(dim, first.long() + shift) * (weight * (1 / 6)).view(shape)
        knots = total
    return knots


class Blobs(Painted):
    name = "blobs"
    everywhere = True
    fades = False
    parts: ClassVar[tuple[str, ...]] = ()
    config: BlobsConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        height, width = images.shape[2:]
        side = self.config.grain + 3
        seeds = draws.seeds()
        knots = uniform(seeds, derive_seed(self.name) % 2**31, side * side).view(-1, side, side)
        # Every other pixel each way tells the share well enough.
        x, y = (torch.arange(0, size, 2, device=images.device) for size in (width, height))
        levels = ordered(_field(knots, x, y, height, width).flatten(1))
        count = levels.shape[1]
        # The value that this share of the pixels lies above: what is covered is what was asked for.
        place = ((1 - params["severity"]) * count).round().long().clamp(0, count - 1)
        first, second = two_dyes(draws)
        return {
            "knots": knots,
            "level": levels.gather(1, place[:, None])[:, 0],
            "paint": first,
            "second": second,
            "pattern": draws.whole(len(PATTERNS)),
            "pattern_size": draws.between(0.2, 0.9),
        }

    def grouping(self, params: Params) -> Tensor:
        return params["pattern"]

    def paint(self, canvas: Canvas, params: Params) -> None:
        height, width = canvas.images.shape[2:]
        field = _field(params["knots"], canvas.x.flatten(), canvas.y.flatten(), height, width)
        # Fields change by about 1/4 from knot to knot.
        steep = height / self.config.grain * 1.6
        alpha = ((field - per_image(params["level"])) * steep + 0.5).clamp(0, 1)
        u, v = canvas.face
        shown = pattern(canvas, params["pattern"], u, v, params["pattern_size"])
        stain = canvas.texture("clouds", u * 40, v * 40) * 0.5
        first, second = params["paint"][:, :, None, None], params["second"][:, :, None, None]
        canvas.over(None, alpha, canvas.lit(first + (second - first) * shown[:, None]) * (1 + stain)[:, None])


def build(config: BlobsConfig, context: BuildContext) -> Blobs:
    return Blobs(config)
