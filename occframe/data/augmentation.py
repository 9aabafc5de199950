"""What happens to pictures between decoding and learning: mirrored, occluded, photographed, turned grey,
in this order.

What is drawn for a picture depends on (seed, epoch, its id) and is drawn on the host, in a loader's thread: drawing is
hundreds of operations on a few numbers each, which a GPU takes longer to be asked for than to do. What is done with it
runs where the picture lies, so that it may be a loader's thread or a GPU, and the picture is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from occframe.data.camera import photographed
from occframe.random import derive_seed, id_seeds, mix, uniform
from occframe.types import Dataset, FaceBatch, OcclusionGenerator

# In a mirror left and right change places: eyes, nose, corners of the mouth.
_MIRRORED = [1, 0, 2, 4, 3]
# Between the seeds of one picture's visits: any large odd number.
_ANOTHER = 0x2545F4914F6CDD1D
# Of red, green and blue in grey, in 2^-15: OpenCV's whole numbers, so that a picture is the same on every device.
_GREY = (9798, 19235, 3735)


@dataclass(frozen=True)
class Draws:
    """Positions in a batch, int64 each, of the pictures to mirror, to occlude, to photograph and to turn grey.

    seeds, camera_seeds: int64, one for each of ``occluded`` and of ``photographed``. params: what the occlusion
    generator drew for ``occluded``.
    """

    mirrored: Tensor
    occluded: Tensor
    seeds: Tensor
    photographed: Tensor
    camera_seeds: Tensor
    grey: Tensor
    params: Any = None


class Augmentation:
    """flip: mirror half of the pictures. occlusion_probability: share of them that ``occlusion`` is applied to.
    camera: share of them that are photographed once more. grey: share of them that lose their colours. keep_clean: give
    the pictures before occlusion as well, photographed and grey as those after it."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        flip: bool,
        camera: float,
        grey: float,
        occlusion: OcclusionGenerator | None,
        occlusion_probability: float,
        keep_clean: bool,
    ) -> None:
        self._dataset = dataset
        self._seed = seed
        self._flip = flip
        self._camera = camera
        self._grey = grey
        self._occlusion = occlusion
        self._probability = occlusion_probability
        self._keep_clean = keep_clean

    def draw(self, epoch: int, rows: np.ndarray, visits: np.ndarray) -> Draws:
        """For pictures of ``rows`` of the data set, visited ``visits`` times before in this epoch: int64 [B] each. On
        the CPU."""
        seeds = self._id_seeds[rows] + visits * _ANOTHER
        occluded = np.arange(len(rows) if self._occlusion is not None else 0)
        # A draw of its own: were it one of the generator's, only some of its occlusions would ever be seen.
        if len(occluded) and self._probability < 1:
            occluded = np.flatnonzero(self._uniform("occluded", epoch, seeds) < self._probability)
        mirrored, taken, grey = (
            np.flatnonzero(self._uniform(purpose, epoch, seeds) < share) if share else np.arange(0)
            for purpose, share in (("flip", 0.5 * self._flip), ("camera share", self._camera), ("grey", self._grey))
        )
        own, camera = (
            mix(derive_seed(self._seed, purpose), epoch, seeds[at])
            for purpose, at in (("occlusion", occluded), ("camera", taken))
        )
        return Draws(*map(torch.from_numpy, (mirrored, occluded, own, taken, camera, grey)))

    def begun(self, batch: FaceBatch, draws: Draws) -> tuple[FaceBatch, Draws]:
        """What happens on the host in any case: mirrored, and the occlusion drawn. batch: uint8 images on the CPU,
        which may be changed in place."""
        if len(draws.mirrored):
            batch = _mirrored(batch, draws.mirrored)
        if self._occlusion is not None and len(draws.occluded):
            draws = replace(draws, params=self._occlusion.sample(_rows(batch, draws.occluded), draws.seeds))
        return batch, draws

    def __call__(self, batch: FaceBatch, draws: Draws) -> FaceBatch:
        """All that remains to be done, as both were ``begun``. batch: its images may be changed in place. draws: on the
        device of the batch."""
        if self._keep_clean:
            batch = replace(batch, clean=batch.images if self._occlusion is None else _copy(batch.images))
        if self._occlusion is not None:
            batch = _occluded(batch, draws, self._occlusion)
        clean = batch.clean
        for images in (batch.images,) if clean is None or clean is batch.images else (batch.images, clean):
            if len(draws.photographed):
                images[draws.photographed] = photographed(images[draws.photographed], draws.camera_seeds)
            if len(draws.grey):
                _turn_grey(images, draws.grey)
        return batch

    def _uniform(self, purpose: str, epoch: int, seeds: np.ndarray) -> np.ndarray:
        """One number in [0, 1) a seed, float32."""
        mixed = torch.from_numpy(mix(derive_seed(self._seed, purpose), epoch, seeds))
        drawn: np.ndarray = uniform(mixed, 0, 1)[:, 0].numpy()
        return drawn

    @cached_property
    def _id_seeds(self) -> np.ndarray:
        return id_seeds(self._dataset.ids)


def _mirrored(batch: FaceBatch, at: Tensor) -> FaceBatch:
    pictures, points = _pictures(batch.images), batch.landmarks
    for number in at.tolist():
        cv2.flip(pictures[number], 1, pictures[number])
    if points is None:
        return batch
    turned = points[at][:, _MIRRORED]
    turned[..., 0] = pictures.shape[2] - 1 - turned[..., 0]
    return replace(batch, landmarks=points.index_copy(0, at, turned))


def _rows(batch: FaceBatch, at: Tensor) -> FaceBatch:
    """Some faces of a batch on the CPU, in this order."""
    if len(at) == len(batch.images):
        return batch
    return FaceBatch(
        images=_as_images(_pictures(batch.images)[at.numpy()]),
        index=batch.index[at],
        identities=None if batch.identities is None else batch.identities[at],
        landmarks=None if batch.landmarks is None else batch.landmarks[at],
    )


def _occluded(batch: FaceBatch, draws: Draws, generator: OcclusionGenerator) -> FaceBatch:
    images, at = batch.images, draws.occluded
    # In place where that is offered: these pictures are the loader's own.
    apply = getattr(generator, "apply_", generator.apply) if _on_cpu(images) else generator.apply
    if len(at) == len(images):
        occluded = apply(images, draws.params)
        made = occluded.images if _on_cpu(images) else occluded.images.contiguous(memory_format=torch.channels_last)
        return replace(batch, images=made, mask=occluded.mask)
    mask = torch.zeros(len(images), 1, *images.shape[2:], device=images.device)
    if len(at):
        occluded = apply(_as_images(_pictures(images)[at.numpy()]) if _on_cpu(images) else images[at], draws.params)
        mask[at] = occluded.mask
        if _on_cpu(images):
            _pictures(images)[at.numpy()] = _pictures(occluded.images)
        else:
            images[at] = occluded.images
    return replace(batch, mask=mask)


def _turn_grey(images: Tensor, at: Tensor) -> None:
    if not _on_cpu(images):
        turn_grey_anywhere(images, at)
        return
    pictures = _pictures(images)
    for number in at.tolist():
        pictures[number] = cv2.cvtColor(pictures[number], cv2.COLOR_RGB2GRAY)[:, :, None]


def turn_grey_anywhere(images: Tensor, at: Tensor) -> None:
    """Grey in place, those of ``images`` (uint8 [B, 3, H, W] RGB) at positions ``at``: on any device."""
    red, green, blue = images[at].int().unbind(1)
    grey = (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2] + (1 << 14)) >> 15
    images[at] = grey.to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


# In the loader's threads NumPy and OpenCV: torch would start threads of its own in each of them.


def _on_cpu(images: Tensor) -> bool:
    return images.device.type == "cpu"


def _copy(images: Tensor) -> Tensor:
    return _as_images(_pictures(images).copy()) if _on_cpu(images) else images.clone()


def _pictures(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] as [B, H, W, 3], without a copy."""
    pictures: np.ndarray = images.permute(0, 2, 3, 1).numpy()
    return pictures


def _as_images(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)
