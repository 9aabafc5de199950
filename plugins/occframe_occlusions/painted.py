"""What all generators that paint have in common: seeds to parameters, parameters to pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from occframe.constants import constant
from occframe.face_frame import FaceFrame, face_frame, template_landmarks
from occframe.random import derive_seed
from occframe.types import FaceBatch, Occluded
from occframe_occlusions.canvas import Canvas, Window
from occframe_occlusions.checks import check_batch, check_params
from occframe_occlusions.devices import may_look
from occframe_occlusions.draws import Draws
from occframe_occlusions.fused import Fused
from occframe_occlusions.lighting import measure
from occframe_occlusions.suite_configs import OcclusionConfig

Params = dict[str, Tensor]

#: Pixels painted at once on a CPU: their maps stay in the second-level cache, and calls do not weigh yet.
_CHUNK_PIXELS = 44_000
#: On a GPU, which is filled by more: maps of 64 MiB, some twenty at a time.
_GPU_PIXELS = 1 << 24


class Painted:
    """Fulfils ``OcclusionGenerator``. A generator names itself, draws its parameters and paints its layers.

    Parameters are a flat dict of tensors whose first axis is the image: ``severity``, ``frame`` (``FaceFrame.pack``),
    what ``lighting.measure`` found, ``texture`` (where noise is cut from) and the generator's own.
    """

    name: ClassVar[str]
    version: int | str = 1  # of its pictures: another one wherever the same parameters look different
    parts: ClassVar[tuple[str, ...]]
    fades: ClassVar[bool] = True  # becomes transparent on the last way to severity 0, as it does not shrink to nothing
    softens: ClassVar[bool] = False  # see ``Canvas.softens``
    everywhere: ClassVar[bool] = False  # may paint any pixel of the picture, wherever the face is

    def __init__(self, config: OcclusionConfig) -> None:
        self.config: Any = config
        self._fused: Fused | None = None

    def compile(self) -> None:
        """From its next call on ``apply`` paints in a few fused kernels, whole pictures at once."""
        self._fused = Fused(self.all_painted)

    def choose(self, draws: Draws, params: Params, images: Tensor) -> Params:
        """The generator's own parameters. params: the common ones."""
        raise NotImplementedError

    def extent(self, params: Params) -> Tensor:
        """[B, 4]: u0, v0, u1, v1 of all that is painted, in face units. Not asked where ``everywhere``."""
        raise NotImplementedError

    def grouping(self, params: Params) -> Tensor | None:
        """[B] int64: images with one number are best painted together, as they show the same kind of thing."""
        return None

    def paint(self, canvas: Canvas, params: Params) -> None:
        raise NotImplementedError

    def sample(self, batch: FaceBatch, seeds: Tensor) -> Params:
        check_batch(batch.images, seeds)
        height, width = batch.images.shape[2:]
        # Batches are of aligned faces: without landmarks of their own they have the template's.
        landmarks = template_landmarks(height, width).expand(len(batch.images), 5, 2)
        landmarks = landmarks if batch.landmarks is None else batch.landmarks
        frame = face_frame(landmarks.to(batch.images.device), height, width)
        draws = Draws(seeds.to(batch.images.device), derive_seed(self.name) % 2**31)
        low, high = self.config.severity_range
        params = {"severity": draws.between(low, high), "frame": frame.pack()}
        params |= measure(batch.images, frame)
        params["texture"] = torch.stack([draws.whole(512).float(), draws.whole(512).float()], dim=1)
        return params | self.choose(draws, params, batch.images)

    def apply(self, images: Tensor, params: Mapping[str, Tensor]) -> Occluded:
        check_params(images, params["severity"])
        known = {name: value.to(images.device) for name, value in params.items()}
        if self._fused is not None or not may_look(images):  # on a GPU windows would have to be waited for
            return self._whole(images, known)
        height, width = images.shape[2:]
        out = images.clone()
        mask = torch.zeros(len(images), 1, height, width, device=images.device)
        parts = {name: torch.zeros_like(mask) for name in self.parts}
        order = torch.arange(len(images), device=images.device)
        if (kind := self.grouping(known)) is not None:
            # Images with the same things on them together: what none of them has is not painted.
            order = kind.argsort(stable=True)
            known = {name: value[order] for name, value in known.items()}
        boxes = self.boxes(known, height, width)
        for here, window in _windows(boxes):
            some = {name: value[here] for name, value in known.items()}
            rows = order[here]
            finished, alpha, named = self.painted(images[rows], some, boxes[here], window)
            out[rows, :, *window.slices] = finished
            mask[rows, 0, *window.slices] = alpha
            for name, values in named.items():
                parts[name][rows, 0, *window.slices] = values
        return Occluded(out, mask, parts)

    def _whole(self, images: Tensor, params: Params) -> Occluded:
        """Whole pictures, as many at once as a GPU holds."""
        paint = self._fused or self.all_painted
        count, _, height, width = images.shape
        together = max(1, _GPU_PIXELS // (height * width))
        made = []
        for start in range(0, max(1, count), together):
            here = slice(start, start + together)
            made.append(paint(images[here], {name: value[here] for name, value in params.items()}))
        finished, alpha, named = zip(*made, strict=True)
        nothing = dict.fromkeys(self.parts, torch.zeros((), device=images.device).expand(count, 1, height, width))
        parts = {name: _joined([some[name] for some in named])[:, None] for name in named[0]}
        return Occluded(_joined(finished), _joined(alpha)[:, None], nothing | parts)

    def all_painted(self, images: Tensor, params: Params) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """``painted`` of all that whole pictures show."""
        height, width = images.shape[2:]
        return self.painted(images, params, self.boxes(params, height, width), Window(0, 0, height, width))

    def painted(
        self, images: Tensor, params: Params, boxes: Tensor, window: Window
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What a window of the pictures shows, with the alpha of all and of each part."""
        opacity = (params["severity"] * 10).clamp(0, 1) if self.fades else torch.ones_like(params["severity"])
        canvas = Canvas(images, boxes, window, opacity, params)
        canvas.softens = self.softens
        self.paint(canvas, params)
        finished = canvas.finished()
        if images.dtype == torch.uint8:
            # Rounding brings back the very value wherever nothing was painted.
            finished = (finished * 255).round().to(torch.uint8)
        else:
            before = canvas.images[:, :, *window.slices]
            finished = torch.where(canvas.alpha[:, None] > 0, finished.to(before.dtype), before)
        return finished, canvas.alpha, canvas.parts

    def boxes(self, params: Params, height: int, width: int) -> Tensor:
        """[B, 4] int64, pixels (top, left, bottom, right) of what is painted; empty where it is not in the picture."""
        shown = params["severity"] > 0
        if self.everywhere:
            return constant((0, 0, height, width), shown.device, torch.int64) * shown[:, None]
        frame = FaceFrame.unpack(params["frame"])
        u0, v0, u1, v1 = self.extent(params).unbind(1)
        x, y = frame.to_image(torch.stack([u0, u1, u0, u1], 1), torch.stack([v0, v0, v1, v1], 1))
        # Two pixels for soft edges; clamped before they become whole numbers, which infinity has none of.
        low = torch.stack([y.amin(1) - 2, x.amin(1) - 2], 1).floor()
        high = torch.stack([y.amax(1) + 3, x.amax(1) + 3], 1).ceil()
        size = constant((height, width), low.device)
        low, high = low.clamp(min=0).minimum(size), high.clamp(min=0).minimum(size)
        return torch.cat([low, high], dim=1).long() * shown[:, None]


def _joined(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _windows(boxes: Tensor) -> Iterator[tuple[slice, Window]]:
    """Which images are painted together, and the window that holds all that changes of them."""
    listed = boxes.tolist()
    largest = max(((box[2] - box[0]) * (box[3] - box[1]) for box in listed), default=0)
    together = max(1, round(_CHUNK_PIXELS / max(1, largest)))
    for start in range(0, len(listed), together):
        here = slice(start, start + together)
        if (window := _union(listed[here])) is not None:
            yield here, window


def _union(boxes: list[list[int]]) -> Window | None:
    seen = [box for box in boxes if box[0] < box[2] and box[1] < box[3]]
    if not seen:
        return None
    tops, lefts, bottoms, rights = zip(*seen, strict=True)
    return Window(min(tops), min(lefts), max(bottoms), max(rights))
