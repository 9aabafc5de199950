"""What the glasses recogniser learns from: who wears which glasses, and batches of them.

Where a data set only says that somebody wears glasses, light tells which: dark lenses let little from behind them
through. The same is read of synthetic glasses from their alpha. Between clearly dark and clearly bright nothing is
claimed but that there are glasses (``EITHER``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from occframe.data import BadImage, FaceLoader, Subset, decode
from occframe.errors import OccframeError
from occframe.face_frame import template_landmarks
from occframe.hidden import hidden_fractions
from occframe.types import Dataset, FaceBatch
from occframe_deglass.calibration import EITHER
from occframe_deglass.recogniser import CLASSES

# Ellipses, half-axes in half distances between the eyes: what a lens covers of eye and lid, and skin of the cheek.
_EYE, _CHEEK = (0.55, 0.40), (0.35, 0.30)
# Of the eye's light: a rim or a lash is darker, a reflection brighter than what a lens lets through.
_QUANTILE = 0.6


def light_behind_lenses(image: np.ndarray, landmarks: np.ndarray) -> float:
    """Linear light from the eyes relative to that from the cheeks, mean of both sides: about 0 to 1.5.

    image: [H, W, 3] uint8 RGB. landmarks: [5, 2] pixels. Raises BadImage where the landmarks are no face's.
    """
    points = np.asarray(landmarks, np.float64)
    unit = np.hypot(*(points[1] - points[0])) / 2
    if not np.isfinite(points).all() or unit < 2:
        raise BadImage("landmarks unusable", "eyes and mouth are needed to tell sunglasses")
    light = (image.astype(np.float32) / 255) ** 2.2 @ np.array([0.299, 0.587, 0.114], np.float32)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    below = ((points[3] + points[4]) - (points[0] + points[1])) / 2 / 2.31 * 0.15  # where lenses sit on the nose
    ratios = []
    for side in (0, 1):
        eye, cheek = points[side] + below, 0.35 * points[side] + 0.65 * points[side + 3]
        inside = [
            ((x - at[0]) / (unit * half[0])) ** 2 + ((y - at[1]) / (unit * half[1])) ** 2 <= 1
            for at, half in ((eye, _EYE), (cheek, _CHEEK))
        ]
        if all(mask.any() for mask in inside):  # in a profile one side may lie outside the picture
            ratios.append(np.quantile(light[inside[0]], _QUANTILE) / max(float(np.median(light[inside[1]])), 1e-3))
    if not ratios:
        raise BadImage("landmarks unusable", "the face lies outside the picture")
    return float(np.mean(ratios))


def kinds_of_glasses(faces: Dataset, attribute: str | None, darkness: tuple[float, float]) -> np.ndarray:
    """int64 [N]: a class of ``CLASSES``, or ``EITHER``; -1 for a face of which nothing is known.

    Raises OccframeError: no such column, or values that are neither true and false nor names of classes.
    """
    count = len(faces.ids)
    if attribute is None:
        return np.zeros(count, np.int64)
    if attribute not in faces.attributes:
        raise OccframeError(
            f"the data has no column `{attribute}`",
            remedy=f"name one of {', '.join(faces.attributes) or 'none'}; or `attribute: null` to learn from synthetic "
            "glasses alone, if nobody in the data wears any",
        )
    values = faces.attributes[attribute].tolist()
    known = [value for value in values if value is not None and value == value]
    if all(isinstance(value, str) for value in known):
        if unknown := set(known) - set(CLASSES):
            raise OccframeError(
                f"column `{attribute}` holds `{min(unknown)}`", remedy=f"a face is one of {', '.join(CLASSES)}"
            )
        return np.array([CLASSES.index(value) if value in CLASSES else -1 for value in values], np.int64)
    if not all(value in (0, 1) for value in known):
        raise OccframeError(
            f"column `{attribute}` holds neither true and false nor the names of classes",
            remedy=f"give each face true or false, or one of {', '.join(CLASSES)}",
        )
    kinds = np.array([-1 if value is None or value != value else int(value) for value in values], np.int64)
    wearers = np.flatnonzero(kinds == 1)
    kinds[wearers] = [_kind(faces, int(row), darkness) for row in wearers]
    return kinds


def _kind(faces: Dataset, row: int, darkness: tuple[float, float]) -> int:
    try:
        stored = faces.read([row])[0]
        image = decode(stored) if isinstance(stored, bytes) else stored
        points = faces.landmarks[row] if faces.landmarks is not None else None
        if points is None or np.isnan(points).any():
            points = template_landmarks(*image.shape[:2]).numpy()
        light = light_behind_lenses(image, points)
    except BadImage:
        return EITHER  # the loader will say what is wrong with the picture
    return 2 if light < darkness[0] else 1 if light > darkness[1] else EITHER


def synthetic_kinds(batch: FaceBatch, hidden: tuple[float, float]) -> Tensor:
    """int64 [B] from the mask of what was put on: how much of the eyes it hides. batch: with ``mask``."""
    assert batch.mask is not None
    points = batch.landmarks
    if points is None:
        points = template_landmarks(*batch.images.shape[2:]).expand(len(batch.images), 5, 2)
    share = hidden_fractions(batch.mask, points)["eyes"]
    kind = torch.full((len(share),), EITHER)
    kind[share < hidden[0]] = 1
    kind[share > hidden[1]] = 2
    kind[batch.mask.flatten(1).amax(1) == 0] = 0
    return kind


def load_known(loader: FaceLoader, kinds: np.ndarray, hidden: tuple[float, float] | None) -> Iterator[FaceBatch]:
    """An epoch with what is known of each face as ``identities``. kinds: of the loader's data set. hidden: where the
    loader puts glasses on, how its masks are read."""
    for batch in loader.epoch(0):
        known = torch.from_numpy(kinds[batch.index.numpy()]) if hidden is None else synthetic_kinds(batch, hidden)
        yield replace(batch, identities=known)


@dataclass(frozen=True)
class GlassesBatches:
    """Batches of faces without glasses, half of which got synthetic ones, beside real wearers, who are few and come
    round more often. ``identities`` are kinds of glasses.

    bare: loader of the faces without, which puts glasses on. worn: loader of the wearers, None where there are none.
    worn_kinds: int64, of the rows of ``worn``'s data set.
    """

    bare: FaceLoader
    worn: FaceLoader | None
    worn_kinds: np.ndarray
    hidden: tuple[float, float]

    @property
    def batches_per_epoch(self) -> int:
        return self.bare.batches_per_epoch

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
        others = self._wearers(number * self.batches_per_epoch + start_batch)
        for bare in self.bare.epoch(number, start_batch):
            parts = [
                replace(bare, identities=synthetic_kinds(bare, self.hidden)),
                *(part for part in [next(others)] if part),
            ]
            yield FaceBatch(
                images=torch.cat([part.images for part in parts]),
                index=torch.cat([part.index for part in parts]),
                identities=torch.cat([part.identities for part in parts if part.identities is not None]),
            )

    def _wearers(self, place: int) -> Iterator[FaceBatch | None]:
        """From batch ``place`` of their endless sequence on."""
        if self.worn is None:
            while True:
                yield None
        epoch, start = divmod(place, self.worn.batches_per_epoch)
        while True:
            for batch in self.worn.epoch(epoch, start):
                yield replace(batch, identities=torch.from_numpy(self.worn_kinds[batch.index.numpy()]))
            epoch, start = epoch + 1, 0


def subset(faces: Dataset, rows: Sequence[int] | np.ndarray, keep: np.ndarray) -> Subset:
    """Those of ``rows`` where ``keep`` (bool, of all rows) is true."""
    rows = np.asarray(rows, np.int64)
    return Subset(faces, rows[keep[rows]])
