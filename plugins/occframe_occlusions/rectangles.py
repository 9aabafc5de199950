"""Opaque rectangles: the plainest occlusion, and the one that training with "random erasing" made common.

Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; here with several rectangles, textures and other faces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from occframe import BuildContext, FaceBatch, Occluded
from occframe.data import load_faces
from occframe.occlusion_record import source_digest
from occframe.random import id_seeds, uniform
from occframe.types import Dataset
from occframe_occlusions.checks import check_batch, check_params
from occframe_occlusions.configs import RectanglesConfig
from occframe_occlusions.patterns import textures

_TEXTURES = 48
_STREAM = 1


@dataclass(frozen=True)
class RectangleParams:
    """n rectangles an image, later ones on top. Pairs are (down, across) in pixels; all but ``colour`` are int64.

    corner: Tensor [B, n, 2], top left. size: Tensor [B, n, 2], inside the image; height 0 where an image has fewer.
    picture: Tensor [B, n], which of the pool's (textures, then faces) it shows, -1 for a colour.
    cut: Tensor [B, n, 2], the corner of what it shows of that picture. colour: Tensor [B, n, 3] uint8 RGB.
    """

    corner: Tensor
    size: Tensor
    picture: Tensor
    cut: Tensor
    colour: Tensor

    def to(self, device: torch.device) -> RectangleParams:
        return RectangleParams(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


class Rectangles:
    """Fulfils ``OcclusionGenerator``; see ``RectanglesConfig`` for the options. faces: what patches are cut from."""

    version: ClassVar[int] = 2

    def __init__(self, options: RectanglesConfig, faces: Dataset | None = None) -> None:
        self.options = options
        self._faces = faces
        # The same faces whatever the order of rows: those whose ids hash lowest.
        self._chosen = [] if faces is None else sorted(np.argsort(id_seeds(faces.ids))[: options.patch_pool].tolist())
        self._pools: dict[tuple[int, int, torch.device], Tensor] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Rectangles, (self.options, self._faces)

    @property
    def recipe(self) -> dict[str, Any]:
        """The options, with what the faces are in place of where they lie."""
        options = self.options.model_dump(mode="json")
        if (faces := self._faces) is not None:
            kept = [faces.ids[row] for row in self._chosen]
            encoded = (item if isinstance(item, bytes) else item.tobytes() for item in faces.read(self._chosen))
            options["patches"] = source_digest((name, "", item, b"") for name, item in zip(kept, encoded, strict=True))
        return options

    def sample(self, batch: FaceBatch, seeds: Tensor) -> RectangleParams:
        """seeds: Tensor [B] int64. Drawn on the CPU in float64 by operations that IEEE 754 rounds exactly, and rounded
        to whole pixels, so that every device and machine gets the same; that is also where NumPy is quickest."""
        check_batch(batch.images, seeds)
        options = self.options
        height, width = batch.images.shape[2:]
        limits = np.array([height, width])
        fewest, most = options.count
        drawn = uniform(seeds, _STREAM, 2 + 10 * most).cpu().numpy().astype(np.float64)
        draw = drawn[:, 2:].reshape(len(seeds), most, 10)

        count = fewest + (drawn[:, :1] * (most - fewest + 1)).astype(np.int64)
        present = np.arange(most) < count
        share = _between(options.severity_range, drawn[:, 1:2])
        aspect = _log_between(*options.aspect, draw[..., 0])
        centre = _between(np.array([options.centre_y, options.centre_x]).T, draw[..., 1:3]) * limits

        def placed(area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Corners and sizes of rectangles of so many pixels."""
            # Where the wanted shape does not fit, the area is kept and the shape gives way.
            across = np.sqrt(area * aspect).clip(1, width)
            down = (area / across).clip(1, height).round()
            size = np.stack([down, (area / down).clip(1, width).round()], 2).astype(np.int64)
            size[~present | (share <= 0)] = 0
            corner = (centre - size / 2).round().astype(np.int64)
            if options.border == "inside":
                return corner.clip(0, limits - size), size
            end = np.minimum(corner + size, limits)
            corner = corner.clip(0, limits - 1)
            return corner, (end - corner).clip(size > 0)

        area = share * (height * width) / count
        if most > 1 and options.border == "inside":
            area = _enlarged_to(share, area, lambda area: _covered(*placed(area), height, width), height * width)
        corner, size = placed(area)
        cut = (draw[..., 3:5] * (limits - size + 1)).astype(np.int64)

        # Of each fill, its first picture and how many there are; a colour is the one "picture" -1.
        pictures = {"colour": (-1, 1), "texture": (0, _TEXTURES), "patch": (_TEXTURES, len(self._chosen))}
        spans = np.array([pictures[fill] for fill in options.fills])[
            (draw[..., 5] * len(options.fills)).astype(np.int64)
        ]
        picture = spans[..., 0] + (draw[..., 6] * spans[..., 1]).astype(np.int64)
        colour = (draw[..., 7:] * 256).astype(np.uint8)
        return RectangleParams(*map(torch.from_numpy, (corner, size, picture, cut, colour)))

    def apply(self, images: Tensor, params: RectangleParams) -> Occluded:
        check_params(images, params.corner)
        if images.device.type == "cpu" and images.dtype == torch.uint8:
            copied = images.permute(0, 2, 3, 1).numpy().copy(order="K").transpose(0, 3, 1, 2)  # laid out as it was
            return self.apply_(torch.from_numpy(copied), params)
        return self._apply_anywhere(images, params.to(images.device))

    def apply_(self, images: Tensor, params: RectangleParams) -> Occluded:
        """``apply`` to uint8 images on the CPU, in place: a loader's own pictures need no copy.

        Touches only what is covered, and starts no threads of torch's own.
        """
        occluded = images.permute(0, 2, 3, 1).numpy()
        count, height, width, _ = occluded.shape
        mask = np.zeros((count, 1, height, width), np.float32)
        pool = self._pool(height, width, images.device).numpy()
        places = torch.cat([params.corner, params.size, params.cut, params.picture[..., None]], 2).flatten(0, 1)
        colours = params.colour.flatten(0, 1).numpy()
        rectangles = params.picture.shape[1]
        for at, (top, left, high, wide, cut_top, cut_left, picture) in enumerate(places.tolist()):
            down, across = slice(top, top + high), slice(left, left + wide)
            covered = occluded[at // rectangles, down, across]
            if picture >= 0:
                covered[:] = pool[picture, cut_top : cut_top + high, cut_left : cut_left + wide]
            else:
                covered[:1] = colours[at]
                covered[1:] = covered[:1]  # row by row is several times as fast as pixel by pixel
            mask[at // rectangles, 0, down, across] = 1
        return Occluded(images, torch.from_numpy(mask))

    def _apply_anywhere(self, images: Tensor, params: RectangleParams) -> Occluded:
        """Any device and dtype; gradients flow to what stays visible."""
        height, width = images.shape[2:]
        ys = torch.arange(height, device=images.device)
        xs = torch.arange(width, device=images.device)
        pool = self._pool(height, width, images.device)
        covered = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
        for number in range(params.picture.shape[1]):
            corner, size, cut = params.corner[:, number], params.size[:, number], params.cut[:, number]
            down = ys - corner[:, :1]  # [B, H], row within the rectangle
            across = xs - corner[:, 1:]
            inside_down = (down >= 0) & (down < size[:, :1])
            inside_across = (across >= 0) & (across < size[:, 1:])
            inside = inside_down[:, None, :, None] & inside_across[:, None, None, :]
            from_row = (down + cut[:, :1]).clamp(0, height - 1)
            from_column = (across + cut[:, 1:]).clamp(0, width - 1)
            picture = params.picture[:, number, None, None]
            content = pool[picture.clamp(min=0), from_row[:, :, None], from_column[:, None, :]]
            content = torch.where(picture[..., None] >= 0, content, params.colour[:, number, None, None])
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


def _log_between(low: float, high: float, draw: np.ndarray) -> np.ndarray:
    """low (high / low)^draw, a power of which libraries differ in the last bit: by square roots, draw to 10 bits."""
    value, factor = np.full(draw.shape, low), high / low
    for _ in range(10):
        factor, draw = math.sqrt(factor), draw * 2
        value = np.where(draw >= 1, value * factor, value)
        draw = draw - (draw >= 1)
    return value


def _covered(corner: np.ndarray, size: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels under any of the rectangles [B, n, 2]. Returns int64 [B, 1]."""
    end, hidden = corner + size, np.zeros((len(size), height, width), bool)
    y, x = np.arange(height), np.arange(width)
    for number in range(size.shape[1]):
        (top, left), (bottom, right) = corner[:, number].T[..., None], end[:, number].T[..., None]
        hidden |= ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]
    pixels: np.ndarray = hidden.sum(axis=(1, 2))[:, None]
    return pixels


def _enlarged_to(
    share: np.ndarray, area: np.ndarray, covered: Callable[[np.ndarray], np.ndarray], pixels: int
) -> np.ndarray:
    """The area [B, 1] of each of several rectangles that overlap, with which they cover ``share`` of the image.

    A larger rectangle holds the smaller one about the same centre, so that the share grows with the area: halving finds
    it, to a thousandth of the image.
    """
    low, high = area, np.full_like(area, pixels)
    for _ in range(12):
        middle = (low + high) / 2
        enough = covered(middle) >= share * pixels
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _between(bounds: Sequence[Any] | np.ndarray, draw: np.ndarray) -> np.ndarray:
    """bounds: lowest and highest, numbers or arrays that broadcast with ``draw``."""
    between: np.ndarray = bounds[0] + (bounds[1] - bounds[0]) * draw
    return between


def build(config: RectanglesConfig, context: BuildContext) -> Rectangles:
    return Rectangles(config, context.build(config.patches) if config.patches else None)
