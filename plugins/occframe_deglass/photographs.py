"""Glasses off the faces of ordinary photographs: found, cut out, restored, and put back where they were.

Only what the generator changed is put back, through the inverse of the alignment: a mask grown around the changed
pixels and feathered, which fades to nothing at the border of the crop. The rest keeps its own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from occframe.data.alignment import one_thread_each
from occframe.errors import OccframeError
from occframe.removal import Outcome, Removed, Remover
from occframe.types import Aligner, Detector

# What is less than this many grey levels off is no change but noise; from the second on it is all new.
_CHANGED = (3.0, 12.0)
# How far the mask grows and over how much it fades, and the border of the crop that stays as it was; shares of a side.
_GROW, _FEATHER, _BORDER = 0.02, 0.02, 0.08


@dataclass(frozen=True)
class FoundFace:
    """box: (x, y, width, height) pixels, None for a crop. score: the detector's, None without one. outcome: what became
    of it. glasses, sunglasses: probabilities, NaN without a recogniser."""

    box: tuple[float, float, float, float] | None
    score: float | None
    outcome: Outcome
    glasses: float
    sunglasses: float


@dataclass(frozen=True)
class Photographs:
    """detector, aligner: None where pictures are aligned crops. min_score: faces scored lower are left alone."""

    remover: Remover
    detector: Detector | None
    aligner: Aligner | None
    min_score: float = 0.6

    def remove(self, picture: np.ndarray) -> tuple[np.ndarray, list[FoundFace]]:
        """picture: array [H, W, 3] uint8 RGB, left unchanged. Returns a new one, or itself where no face changed, and
        every face looked at, best first."""
        if self.detector is None or self.aligner is None:
            done = self.remover(_batch([picture]))
            image = done.images[0].permute(1, 2, 0).cpu().numpy() if done.synthesised[0] else picture
            return image, _faces(done, [None], [None])
        with one_thread_each():
            detected = [face for face in self.detector.detect(picture) if face.score >= self.min_score]
        crops, transforms, kept = [], [], []
        for face in detected:
            try:
                aligned = self.aligner.align(picture, face.landmarks)
            except OccframeError:
                continue  # landmarks that are no face's
            crops.append(aligned.image)
            transforms.append(aligned.transform)
            kept.append(face)
        if not crops:
            return picture, []
        done = self.remover(_batch(crops))
        for row, changed in enumerate(done.synthesised):
            if changed:
                made = done.images[row].permute(1, 2, 0).cpu().numpy()
                picture = paste_back(picture, crops[row], made, transforms[row])
        return picture, _faces(done, [face.box for face in kept], [face.score for face in kept])


def paste_back(picture: np.ndarray, crop: np.ndarray, made: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """A copy of the picture with what differs between ``made`` and ``crop`` in it.

    picture: [H, W, 3] uint8. crop, made: [h, w, 3] uint8, cut out of the picture and after the generator. transform:
    [2, 3], picture pixel -> crop pixel. Pixels whose mask is 0 stay bit by bit.
    """
    alpha = change_mask(crop, made)
    inverse = cv2.invertAffineTransform(transform)
    left, top, right, bottom = _bounds(inverse, crop.shape[:2], picture.shape[:2])
    out = picture.copy()
    if right <= left or bottom <= top:
        return out
    inverse[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    # A face smaller than its crop: averaged first, since a bilinear sample would skip pixels.
    shrink = float(np.hypot(inverse[0, 0], inverse[1, 0]))
    if shrink < 1:
        made = cv2.GaussianBlur(made, (0, 0), 0.5 / shrink)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.5 / shrink)
    new = cv2.warpAffine(made, inverse, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(alpha, inverse, size, flags=cv2.INTER_LINEAR)[:, :, None]
    old = out[top:bottom, left:right].astype(np.float32)
    mixed = old + (new.astype(np.float32) - old) * weight
    out[top:bottom, left:right] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return out


def change_mask(crop: np.ndarray, made: np.ndarray) -> np.ndarray:
    """How much of each pixel is to be replaced, [h, w] float32 0..1: 0 along the border and far from any change."""
    height, width = crop.shape[:2]
    difference = np.abs(made.astype(np.float32) - crop.astype(np.float32)).max(2)
    changed = ((difference - _CHANGED[0]) / (_CHANGED[1] - _CHANGED[0])).clip(0, 1)
    reach = 2 * max(1, round(_GROW * height)) + 1
    grown = cv2.dilate(changed, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    soft = cv2.GaussianBlur(grown, (0, 0), max(0.7, _FEATHER * height))
    ramps = [np.minimum(np.arange(side), np.arange(side)[::-1]) / (_BORDER * side) for side in (height, width)]
    rows, columns = ((0.5 - 0.5 * np.cos(np.pi * ramp.clip(0, 1))).astype(np.float32) for ramp in ramps)
    mask: np.ndarray = soft * rows[:, None] * columns[None]
    mask[mask < 1 / 512] = 0  # would change no 8-bit pixel
    return mask


def _bounds(inverse: np.ndarray, crop: tuple[int, ...], picture: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Of the crop in the picture: left, top, right, bottom, within it."""
    height, width = crop
    corners = np.array([[-1, -1, 1], [width, -1, 1], [-1, height, 1], [width, height, 1]], np.float64) @ inverse.T
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, picture[1::-1])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _batch(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _faces(
    done: Removed, boxes: list[tuple[float, float, float, float]] | list[None], scores: list[float] | list[None]
) -> list[FoundFace]:
    known = zip(boxes, scores, done.outcomes, done.glasses.tolist(), done.sunglasses.tolist(), strict=True)
    return [FoundFace(*face) for face in known]
