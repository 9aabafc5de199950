"""The user's own pictures of things that are worn, drawn over a face and put where they are on every other."""

from __future__ import annotations

import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.face_frame import TEMPLATE
from occframe_occlusions.canvas import Canvas
from occframe_occlusions.draws import Draws
from occframe_occlusions.painted import Params
from occframe_occlusions.pasted import Pasted
from occframe_occlusions.shapes import per_image
from occframe_occlusions.suite_configs import FaceSpritesConfig

_LEFT, _RIGHT = TEMPLATE[0], TEMPLATE[1]
#: Of the aligned face that a picture is laid over, in shares of its side: the place between the eyes, and a face unit.
_CENTRE = ((_LEFT[0] + _RIGHT[0]) / 224, (_LEFT[1] + _RIGHT[1]) / 224)
_UNIT = (_RIGHT[0] - _LEFT[0]) / 224


class FaceSprites(Pasted):
    name = "face-sprites"
    square = True
    config: FaceSpritesConfig

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        reach = self.config.shift
        sprite = draws.whole(self.pictures.count)
        mirrored = draws.chance(0.5) if self.config.mirror else torch.zeros_like(params["severity"])
        return {
            "sprite": sprite,
            "bounds": self.pictures.bounds(images.device)[sprite],
            "size": (0.8 + 0.4 * params["severity"]) * (1 + draws.signed(self.config.stretch)),
            "shift": torch.stack([draws.signed(reach), draws.signed(reach)], dim=1),
            "sine": draws.signed(self.config.turn),
            "side": 1 - 2 * mirrored,
        }

    def extent(self, params: Params) -> Tensor:
        # A pixel of the picture's smallest table more: that is how far it is smeared.
        low, high = params["bounds"][:, :2] - 2 / 16, params["bounds"][:, 2:] + 2 / 16
        x = torch.stack([low[:, 0], high[:, 0], low[:, 0], high[:, 0]], dim=1)
        y = torch.stack([low[:, 1], low[:, 1], high[:, 1], high[:, 1]], dim=1)
        across, down = (((value + 1) / 2 - centre) / _UNIT for value, centre in zip((x, y), _CENTRE, strict=True))
        across = across * params["side"][:, None]
        sine, size = params["sine"][:, None], params["size"][:, None]
        cosine = (1 - sine * sine).sqrt()
        u, v = (across * cosine - down * sine) * size, (across * sine + down * cosine) * size
        return torch.stack([u.amin(1), v.amin(1), u.amax(1), v.amax(1)], dim=1) + params["shift"].repeat(1, 2)

    def paint(self, canvas: Canvas, params: Params) -> None:
        u, v = canvas.face
        size, side, sine = (per_image(params[name]) for name in ("size", "side", "sine"))
        shift_u, shift_v = (per_image(value) for value in params["shift"].unbind(1))
        cosine = (1 - sine * sine).sqrt()
        u, v = (u - shift_u) / size, (v - shift_v) / size
        across, down = (u * cosine + v * sine) * side, v * cosine - u * sine
        places = [(value * _UNIT + centre) * 2 - 1 for value, centre in zip((across, down), _CENTRE, strict=True)]
        longer = params["size"] * canvas.frame.scale / _UNIT
        self.paste(canvas, params["sprite"], torch.stack(places, dim=3), longer)


def build(config: FaceSpritesConfig, context: BuildContext) -> FaceSprites:
    return FaceSprites(config)
