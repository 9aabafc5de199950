"""What an image-to-image network learns from: faces with something, beside faces without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from occframe.data import FaceLoader
from occframe.face_frame import face_frame, template_landmarks
from occframe.types import FaceBatch


@dataclass(frozen=True)
class Wearers:
    """Faces that wear the real thing, of people of whom there are pictures without.

    images: Tensor [B, 3, H, W] uint8 RGB. features: Tensor [B, D] float32, of the same people without, as the frozen
    recogniser sees them. mask: Tensor [B, 1, H, W] float32, 0..1: where the pictures may change.
    """

    images: Tensor
    features: Tensor
    mask: Tensor


@dataclass(frozen=True)
class GeneratorBatch:
    """images: Tensor [B, 3, H, W] uint8 RGB: what the generator is given.

    reference: Tensor like ``images``: what each of them is compared with, pixel by pixel and by its features.
    real: Tensor [B', 3, H, W] uint8 RGB: what the discriminator is to take for real.
    mask: Tensor [B, 1, H, W] float32, 0..1: where pixels of the reference are not to be kept as they are given.
    wearers: beside them, if the training has any.
    """

    images: Tensor
    reference: Tensor
    real: Tensor
    mask: Tensor
    wearers: Wearers | None = None


class PairedBatches:
    """Faces with something put on, beside the same faces before.

    loader: with an occlusion for every image, and ``keep_clean``.
    """

    def __init__(self, loader: FaceLoader) -> None:
        self._loader = loader

    @property
    def batches_per_epoch(self) -> int:
        return self._loader.batches_per_epoch

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[GeneratorBatch]:
        for batch in self._loader.epoch(number, start_batch):
            assert batch.clean is not None
            assert batch.mask is not None
            yield GeneratorBatch(batch.images, batch.clean, batch.clean, batch.mask)


class UnpairedBatches:
    """Faces with something, beside faces of other people without. The reference of a face is the face itself.

    An epoch is one of ``given``; ``real`` goes round in its own order, so that every step has a place in it too.
    """

    def __init__(self, given: FaceLoader, real: FaceLoader) -> None:
        self._given, self._real = given, real

    @property
    def batches_per_epoch(self) -> int:
        return self._given.batches_per_epoch

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[GeneratorBatch]:
        others = _endless(self._real, number * self.batches_per_epoch + start_batch)
        for batch, other in zip(self._given.epoch(number, start_batch), others, strict=False):
            yield GeneratorBatch(batch.images, batch.images, other.images, eye_region(batch))


class BesideWearers:
    """What ``batches`` give, each with some real wearers, who go round in their own order.

    wearers: labels its faces with the number of the person. features: Tensor [people, D] float32, see ``Wearers``.
    """

    def __init__(self, batches: PairedBatches | UnpairedBatches, wearers: FaceLoader, features: Tensor) -> None:
        self._batches, self._wearers, self._features = batches, wearers, features

    @property
    def batches_per_epoch(self) -> int:
        return self._batches.batches_per_epoch

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[GeneratorBatch]:
        others = _endless(self._wearers, number * self.batches_per_epoch + start_batch)
        for batch, other in zip(self._batches.epoch(number, start_batch), others, strict=False):
            assert other.identities is not None
            yield replace(batch, wearers=Wearers(other.images, self._features[other.identities], eye_region(other)))


@torch.no_grad()
def people_features(bare: FaceLoader, features: Callable[[Tensor], Tensor], people: int) -> Tensor:
    """Of each person the mean direction of features of the pictures that ``bare`` labels with its number.

    features: RGB images 0..1 -> [B, D]. Returns float32 [people, D] of length 1, on the pictures' device; zeros for who
    has no picture that can be read.
    """
    sums: Tensor | None = None
    for batch in bare.epoch(0):
        found = F.normalize(features(batch.images.float() / 255).float(), dim=1)
        sums = found.new_zeros(people, found.shape[1]) if sums is None else sums
        assert batch.identities is not None
        sums.index_add_(0, batch.identities, found)
    assert sums is not None
    return F.normalize(sums, dim=1)


def _endless(faces: FaceLoader, position: int) -> Iterator[FaceBatch]:
    """Epoch after epoch, from a batch on that may lie in any of them."""
    first, start = divmod(position, faces.batches_per_epoch)
    for number in count(first):
        yield from faces.epoch(number, start if number == first else 0)


def eye_region(batch: FaceBatch) -> Tensor:
    """Where glasses sit, at most: 1 from brows to the middle of the nose and from temple to temple, 0 elsewhere.

    Faces without landmarks are taken to be aligned. Returns float32 [B, 1, H, W].
    """
    height, width = batch.images.shape[2:]
    points, device = batch.landmarks, batch.images.device
    if points is None:
        points = template_landmarks(height, width).expand(len(batch.images), 5, 2).to(device)
    frame = face_frame(points, height, width)
    sides = (torch.arange(side, device=device).float() for side in (height, width))
    y, x = torch.meshgrid(*sides, indexing="ij")
    u, v = frame.to_face(x[None], y[None])
    return ((u.abs() < 2.4) & (v > -0.9) & (v < 1.15)).float()[:, None]
