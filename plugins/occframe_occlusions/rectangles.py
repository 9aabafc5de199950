"""Opaque rectangles: the plainest occlusion, and the one that training with "random erasing" made common.

Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; here with several rectangles, textures and other faces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from occframe import BuildContext, FaceBatch, Occluded
from occframe.data import load_faces
from occframe.random import id_seeds, uniform
from occframe.types import Dataset
from occframe_occlusions.configs import RectanglesConfig
from occframe_occlusions.patterns import textures

_TEXTURES = 48
# Streams of random numbers of an image.
_IMAGE, _RECTANGLES = 1, 2


@dataclass(frozen=True)
class RectangleParams:
    """n rectangles an image, later ones on top; height 0 where an image has fewer. All tensors are [B, n] int64.

    top, left, height, width: pixels, inside the image. picture: of the pool (textures, then faces), -1 for a colour.
    picture_top, picture_left: where the rectangle is cut from it. colour: Tensor [B, n, 3] uint8 RGB.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    picture: Tensor
    picture_top: Tensor
    picture_left: Tensor
    colour: Tensor

    def to(self, device: torch.device) -> RectangleParams:
        return RectangleParams(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


class Rectangles:
    """Fulfils ``OcclusionGenerator``; see ``RectanglesConfig`` for the options. faces: what patches are cut from."""

    def __init__(self, options: RectanglesConfig, faces: Dataset | None = None) -> None:
        self.options = options
        self._faces = faces
        # The same faces whatever the order of rows: those whose ids hash lowest.
        self._chosen = [] if faces is None else sorted(np.argsort(id_seeds(faces.ids))[: options.patch_pool].tolist())
        self._pools: dict[tuple[int, int, torch.device], Tensor] = {}
        self._lock = Lock()

    def sample(self, batch: FaceBatch, seeds: Tensor) -> RectangleParams:
        """seeds: Tensor [B] int64."""
        options = self.options
        image_height, image_width = batch.images.shape[2:]
        slots = options.count[1]
        count_draw, coverage_draw = uniform(seeds, _IMAGE, 2).double().unbind(1)
        draw = uniform(seeds, _RECTANGLES, slots * 10).double().view(len(seeds), slots, 10).unbind(2)

        count = options.count[0] + (count_draw * (slots - options.count[0] + 1)).long()
        area = _between(options.coverage, coverage_draw) * image_height * image_width / count
        aspect = options.aspect[0] * (options.aspect[1] / options.aspect[0]) ** draw[0]
        # Where the wanted shape does not fit, the area is kept and the shape gives way.
        width = (area[:, None] * aspect).sqrt().clamp(1, image_width)
        height = (area[:, None] / width).clamp(1, image_height)
        width = (area[:, None] / height).clamp(1, image_width).round().long()
        height = height.round().long()
        left = (_between(options.centre_x, draw[1]) * image_width - width / 2).round().long()
        top = (_between(options.centre_y, draw[2]) * image_height - height / 2).round().long()
        if options.border == "inside":
            left, top = left.clamp(min=0).minimum(image_width - width), top.clamp(min=0).minimum(image_height - height)
        else:
            left, width = _clip(left, width, image_width)
            top, height = _clip(top, height, image_height)
        absent = torch.arange(slots, device=seeds.device) >= count[:, None]
        height = height.masked_fill(absent, 0)

        fill = (draw[3] * len(options.fills)).long()
        kinds = [
            torch.full_like(fill, -1) if kind == "colour"
            else (draw[4] * _TEXTURES).long() if kind == "texture"
            else _TEXTURES + (draw[4] * len(self._chosen)).long()
            for kind in options.fills
        ]  # fmt: skip
        return RectangleParams(
            top=top,
            left=left,
            height=height,
            width=width,
            picture=torch.stack(kinds).gather(0, fill[None])[0],
            picture_top=(draw[5] * (image_height - height + 1)).long(),
            picture_left=(draw[6] * (image_width - width + 1)).long(),
            colour=(torch.stack(draw[7:], 2) * 256).to(torch.uint8),
        )

    def apply(self, images: Tensor, params: RectangleParams) -> Occluded:
        if images.device.type == "cpu" and images.dtype == torch.uint8:
            return self._apply_by_slices(images, params)
        return self._apply_anywhere(images, params.to(images.device))

    def _apply_by_slices(self, images: Tensor, params: RectangleParams) -> Occluded:
        """For loader threads: touches only what is covered, and starts no threads of torch's own."""
        occluded = images.permute(0, 2, 3, 1).numpy().copy(order="K")  # [B, H, W, 3], laid out as the input is
        count, height, width, _ = occluded.shape
        mask = np.zeros((count, 1, height, width), np.float32)
        pool = self._pool(height, width, images.device).numpy()
        places = [getattr(params, item.name).flatten() for item in fields(params) if item.name != "colour"]
        colours = params.colour.flatten(0, 1).numpy()
        slots = params.top.shape[1]
        for at, place in enumerate(torch.stack(places, 1).tolist()):
            top, left, high, wide, picture, cut_top, cut_left = place
            down, across = slice(top, top + high), slice(left, left + wide)
            covered = occluded[at // slots, down, across]
            if picture >= 0:
                covered[:] = pool[picture, cut_top : cut_top + high, cut_left : cut_left + wide]
            else:
                covered[:1] = colours[at]
                covered[1:] = covered[:1]  # row by row is several times as fast as pixel by pixel
            mask[at // slots, 0, down, across] = 1
        return Occluded(torch.from_numpy(occluded).permute(0, 3, 1, 2), torch.from_numpy(mask))

    def _apply_anywhere(self, images: Tensor, params: RectangleParams) -> Occluded:
        """Any device and dtype; gradients flow to what stays visible."""
        height, width = images.shape[2:]
        ys = torch.arange(height, device=images.device)
        xs = torch.arange(width, device=images.device)
        pool = self._pool(height, width, images.device)
        covered = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
        for slot in range(params.top.shape[1]):
            down = ys - params.top[:, slot, None]  # [B, H], row within the rectangle
            across = xs - params.left[:, slot, None]
            inside_down = (down >= 0) & (down < params.height[:, slot, None])
            inside_across = (across >= 0) & (across < params.width[:, slot, None])
            inside = inside_down[:, None, :, None] & inside_across[:, None, None, :]
            from_row = (down + params.picture_top[:, slot, None]).clamp(0, height - 1)
            from_column = (across + params.picture_left[:, slot, None]).clamp(0, width - 1)
            picture = params.picture[:, slot, None, None]
            content = pool[picture.clamp(min=0), from_row[:, :, None], from_column[:, None, :]]
            content = torch.where(picture[..., None] >= 0, content, params.colour[:, slot, None, None])
            content = content.permute(0, 3, 1, 2).to(images.dtype)
            content = content if images.dtype == torch.uint8 else content / 255
            images = torch.where(inside, content, images)
            covered |= inside
        return Occluded(images, covered.float())

    def _pool(self, height: int, width: int, device: torch.device) -> Tensor:
        """What rectangles are cut from: textures, then faces. Tensor [P, height, width, 3] uint8 RGB."""
        key = height, width, device
        with self._lock:
            if key not in self._pools:
                pictures = textures(_TEXTURES, height, width)
                if self._faces is not None:
                    pictures = np.concatenate([pictures, load_faces(self._faces, self._chosen, height, width)])
                self._pools[key] = torch.from_numpy(pictures).to(device)
            return self._pools[key]


def _between(bounds: tuple[float, float], draw: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def _clip(start: Tensor, length: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    end = (start + length).clamp(max=limit)
    start = start.clamp(0, limit - 1)
    return start, (end - start).clamp(min=1)


def build(config: RectanglesConfig, context: BuildContext) -> Rectangles:
    return Rectangles(config, context.build(config.patches) if config.patches else None)
