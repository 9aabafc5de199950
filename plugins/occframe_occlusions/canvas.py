"""Where layers are put over photographs: in light, with the photograph's grain, within a window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from occframe.face_frame import FaceFrame
from occframe_occlusions.devices import may_look
from occframe_occlusions.lighting import linear
from occframe_occlusions.shapes import per_image
from occframe_occlusions.textures import texture


@dataclass(frozen=True)
class Window:
    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Canvas:
    """The window of a few photographs while layers are put on them. Maps are [b, h, w], colours [b, 3, h or 1, w or 1].

    Everything is elementwise in absolute coordinates, so that neither the window nor the other images change a pixel.
    boxes: [b, 4] pixels (top, left, bottom, right), where each image may change. opacity: [b] 0..1, of
    everything that is drawn. params: the images' own.
    """

    def __init__(
        self, images: Tensor, boxes: Tensor, window: Window, opacity: Tensor, params: dict[str, Tensor]
    ) -> None:
        rows, columns = window.slices
        # Loaders give channels last; mixing both orders in one operation costs several times its time.
        self.images, self.params = images.contiguous(), params
        device = images.device
        self.x = torch.arange(window.left, window.right, dtype=torch.float32, device=device)[None, None, :]
        self.y = torch.arange(window.top, window.bottom, dtype=torch.float32, device=device)[None, :, None]
        self.photograph = self.light = linear(self.images[:, :, rows, columns])
        # Nothing is painted outside an image's own box, or the others' boxes, which the window holds too, would matter.
        top, left, bottom, right = (per_image(side) for side in boxes.unbind(1))
        own = (self.y >= top) & (self.y < bottom) & ((self.x >= left) & (self.x < right))
        self.fade = per_image(opacity) * own
        self._boxes = boxes
        shape = self.light[:, 0].shape
        self.alpha = torch.zeros(shape, device=device)
        self.parts: dict[str, Tensor] = {}
        self.grain = 1.0  # over the skin's; 0 for what was put in after the photograph was taken
        self.blotches = 0.0  # of colour, in pixel values: what JPEG and noise filters leave in the dark
        self.softens = False  # True for thin and dark things: edges and colours tell what was never resampled

    @cached_property
    def frame(self) -> FaceFrame:
        return FaceFrame.unpack(self.params["frame"])

    @cached_property
    def face(self) -> tuple[Tensor, Tensor]:
        """u, v of every pixel."""
        return self.frame.to_face(self.x, self.y)

    @cached_property
    def scale(self) -> Tensor:
        """[b, 1, 1] pixels a face unit."""
        return per_image(self.frame.scale)

    @cached_property
    def sharpness(self) -> Tensor:
        """[b, 1, 1] for ``coverage`` in face units: edges as wide as the photograph's sharpest."""
        return self.scale / per_image(self.params["edge"])

    @cached_property
    def shading(self) -> Tensor:
        """[b, h, w] how the light changes over the face, 1 at its middle."""
        u, v = self.face
        slope = self.params["slope"]
        return (1 + u * per_image(slope[:, 0]) + (v - 1) * per_image(slope[:, 1])).clamp(0.4, 1.6)

    def lit(self, colour: Tensor) -> Tensor:
        """Paint [b, 3] or [b, 3, h, w] (reflectance 0..1) under the photograph's light and its slope over the face."""
        paint = colour if colour.ndim == 4 else colour[:, :, None, None]
        return self.toned(paint * self.params["light"][:, :, None, None]) * self.shading[:, None]

    def toned(self, colour: Tensor) -> Tensor:
        """A colour [b, 3] or [b, 3, h, w] as the photograph shows it, grey in a grey one. Returns [b, 3, …, …]."""
        colour = colour if colour.ndim == 4 else colour[:, :, None, None]
        grey = colour[:, :1] * 0.3 + colour[:, 1:2] * 0.6 + colour[:, 2:] * 0.1
        return grey + (colour - grey) * self.params["colour"][:, None, None, None]

    def needs(self, *values: Tensor) -> bool:
        """Whether any image has any of these parameters; what would be multiplied by nothing but 0 is left out. True
        where nobody may look."""
        return any(not may_look(value) or bool(value.any()) for value in values)

    def over(self, part: str | None, alpha: Tensor, light: Tensor) -> None:
        """Put an opaque material over the photograph; ``alpha``: how much of each pixel it covers."""
        alpha = alpha * self.fade
        self.light = self.light + (light - self.light) * alpha[:, None]
        self._cover(part, alpha)

    def shade(self, part: str | None, alpha: Tensor, tint: Tensor) -> None:
        """Take light away: where alpha is 1 only ``tint`` [b, 3] of it is left."""
        alpha = alpha * self.fade
        self.light = self.light * (1 - alpha[:, None] * (1 - self.toned(tint)))
        self._cover(part, alpha)

    def through(self, part: str | None, where: Tensor, light: Tensor, opacity: Tensor) -> None:
        """What is seen through something clear replaces the photograph; its alpha is its ``opacity`` there."""
        where = where * self.fade
        self.light = self.light + (light - self.light) * where[:, None]
        # A lens that bends light changes pixels even where it takes none.
        self._cover(part, where * opacity.clamp(0.02, 1))

    def behind(self, shift_x: Tensor, shift_y: Tensor) -> Tensor:
        """The photograph's light [b, 3, h, w] seen ``shift`` pixels away: refraction. Reads the whole image, so that
        no window's border is seen. The layers drawn so far are not in it."""
        height, width = self.images.shape[2:]
        grid = torch.stack(
            [(self.x + shift_x) * (2 / max(width - 1, 1)) - 1, (self.y + shift_y) * (2 / max(height - 1, 1)) - 1], dim=3
        )
        seen = F.grid_sample(linear(self.images), grid, mode="bilinear", padding_mode="border", align_corners=True)
        return seen

    def texture(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """``textures.texture`` from a place of its own in every image."""
        offset = self.params["texture"]
        return texture(name, x + per_image(offset[:, 0]), y + per_image(offset[:, 1]))

    def _cover(self, part: str | None, alpha: Tensor) -> None:
        self.alpha = self.alpha + alpha * (1 - self.alpha)
        if part is None:
            return
        before = self.parts.get(part)
        self.parts[part] = alpha if before is None else before + alpha * (1 - before)

    def _inner(self, margin: int) -> Tensor:
        """Which pixels are ``margin`` or more inside their image's own box: what the window holds beyond that is not
        the same in every batch. At the picture's border it is."""
        height, width = self.images.shape[2:]
        top, left, bottom, right = (per_image(side) for side in self._boxes.unbind(1))
        rows = ((self.y >= top + margin) | (top == 0)) & ((self.y < bottom - margin) | (bottom == height))
        columns = ((self.x >= left + margin) | (left == 0)) & ((self.x < right - margin) | (right == width))
        return rows & columns

    def _bled(self, values: Tensor) -> Tensor:
        """What was painted, with colours that run into each other over two pixels while brightness does not: cameras
        and JPEG keep colour at half the resolution."""
        grey = values[:, 0] * 0.3 + values[:, 1] * 0.6 + values[:, 2] * 0.1
        sharp = values[:, ::2] - grey[:, None]
        both = F.pad(sharp, (2, 2, 2, 2), mode="replicate")
        for dim in (2, 3):
            size = both.shape[dim] - 4
            before, at, after = (both.narrow(dim, first, size) for first in (0, 2, 4))
            both = at + (before + after - at * 2) * 0.25
        red, blue = ((both - sharp) * ((self.alpha * 4).clamp(0, 1) * self._inner(2))[:, None]).unbind(1)
        return values + torch.stack([red, red * -0.5 + blue * (-1 / 6), blue], dim=1)

    def _softened(self, values: Tensor) -> Tensor:
        """Edges of what was painted, smoothed as resampling and JPEG smooth a photograph's: in pixel values, not light,
        as that happens after the exposure. Widens ``alpha`` by up to a pixel."""
        weight = ((self.params["edge"] - 0.8) * 0.3).clamp(0, 0.25)[:, None, None, None]
        both = F.pad(torch.cat([values, self.alpha[:, None]], dim=1), (1, 1, 1, 1), mode="replicate")
        for dim in (2, 3):
            size = both.shape[dim] - 2
            before, at, after = (both.narrow(dim, first, size) for first in range(3))
            both = at + (before + after - at * 2) * weight
        inner = self._inner(1) & (self.fade > 0)
        spread = both[:, 3] * inner
        where = ((spread - self.alpha).abs() * 8).clamp(0, 1) * inner
        self.alpha = self.alpha.maximum(spread).clamp(max=1)
        return values + (both[:, :3] - values) * where[:, None]

    def finished(self) -> Tensor:
        """Pixel values 0..1, [b, 3, h, w]: grain is added where the photograph's own is covered."""
        # Not from 0 on, where the root has no gradient; what this adds is a thousandth of a step of 8 bits.
        values = self.light.clamp(1e-12, 1).sqrt()
        if self.softens:
            values = self._bled(self._softened(values))
        if self.grain:
            grain = self.texture("soft grain", self.x, self.y) * self.grain
            values = values + (grain * self.alpha * per_image(self.params["grain"]))[:, None]
        if self.blotches:
            blotch = self.texture("waves", self.x * 4.5, self.y * 4.5) * self.alpha
            blotch = blotch * per_image(self.params["colour"] * self.blotches)
            values = values + torch.stack([blotch, -blotch, blotch * 0.4], dim=1)
        return values.clamp(0, 1)
