"""Batches of faces, decoded and occluded in threads ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from occframe.data.decoding import decode
from occframe.data.fitting import fit, fit_points
from occframe.data.headers import BadImage
from occframe.data.order import shuffled_rows
from occframe.data.quarantine import Quarantine
from occframe.errors import OccframeError
from occframe.random import derive_seed, id_seeds, mix, uniform
from occframe.types import Dataset, FaceBatch, OcclusionGenerator

# In a mirror left and right change places: eyes, nose, corners of the mouth.
_MIRRORED = [1, 0, 2, 4, 3]
# How many blocks are shuffled together where the data set does not say how many it keeps in memory.
_WINDOW = 16


class FaceLoader:
    """Gives ``FaceBatch``es of uint8 images [B, 3, height, width] (channels_last in memory).

    A batch is a function of (seed, epoch, batch number): not of threads, of what was read before or of the batch size,
    as far as single images go. Pictures of another size are scaled to cover and cut at the centre, landmarks with them.
    What cannot be read leaves its batch and goes to ``quarantine``; a batch of which nothing is left is passed over.

    threads: that decode and occlude. shuffle: within blocks of the data set where it has any, see ``order.py``.
    flip: mirror half of the images, before they are occluded. grey: share of the images that lose their colours, after
    they were occluded, drawn per image. occlusion_probability: share of the images that
    ``occlusion`` is applied to, drawn per image. keep_clean: give the images before occlusion as well.
    classes: identities in the order of their labels; without it batches carry no labels.
    share: (number, of how many) processes that read the same batches, each its part; what is unreadable there is
    replaced by the first picture that is not, so that all parts stay of one size.
    Raises OccframeError where the data set is empty, or has identities that ``classes`` does not.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        height: int,
        width: int,
        batch_size: int,
        threads: int,
        seed: int,
        shuffle: bool = False,
        flip: bool = False,
        grey: float = 0.0,
        occlusion: OcclusionGenerator | None = None,
        occlusion_probability: float = 1.0,
        keep_clean: bool = False,
        classes: Sequence[str] | None = None,
        drop_last: bool = False,
        quarantine: Quarantine | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.dataset = dataset
        self.height = height
        self.width = width
        self.batch_size = batch_size
        self.threads = threads
        self.seed = seed
        self.shuffle = shuffle
        self.flip = flip
        self.grey = grey
        self.occlusion = occlusion
        self.occlusion_probability = occlusion_probability
        self.keep_clean = keep_clean
        self.drop_last = drop_last
        self.quarantine = quarantine if quarantine is not None else Quarantine()
        self.share = share
        if batch_size % share[1]:
            raise OccframeError(
                f"batches of {batch_size} images cannot be dealt out to {share[1]} processes",
                remedy=f"make batch_size a multiple of {share[1]}",
            )
        self._labels = None if classes is None else _labels(dataset.subjects, classes)
        if self.batches_per_epoch == 0:
            fewer = f"has {len(dataset.ids)} images, fewer than a batch of {batch_size}" if dataset.ids else "is empty"
            raise OccframeError(
                f"the data set {fewer}", remedy="check its path and its splits, or lower the batch size"
            )

    @property
    def batches_per_epoch(self) -> int:
        whole, rest = divmod(len(self.dataset.ids), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
        """The batches of one epoch from ``start_batch`` on. Threads end with it, also where it is left early.

        Raises what a thread raised, and OccframeError where too many pictures are bad.
        """
        order = self._order(number)
        part = self.batch_size // self.share[1]
        first = self.share[0] * part
        starts = range(start_batch * self.batch_size, self.batches_per_epoch * self.batch_size, self.batch_size)
        jobs = (partial(self._batch, number, order[start + first : start + first + part]) for start in starts)
        waiting: deque[Future[FaceBatch | None]] = deque()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="faces") as pool:
            try:
                # One batch in every thread, and one for each finished while the consumer works.
                waiting.extend(pool.submit(job) for job in islice(jobs, 2 * self.threads))
                while waiting:
                    batch = waiting.popleft().result()
                    waiting.extend(pool.submit(job) for job in islice(jobs, 1))
                    if batch is not None:
                        yield batch
            finally:
                for future in waiting:
                    future.cancel()

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.dataset.ids))
        # Half of what it keeps: batches of the last blocks are still being made when the next ones begin.
        window = max(1, (getattr(self.dataset, "cached_blocks", None) or 2 * _WINDOW) // 2)
        return shuffled_rows(self.dataset.blocks, window, derive_seed(self.seed, "shuffle"), epoch)

    def _batch(self, epoch: int, rows: np.ndarray) -> FaceBatch | None:
        mirrored = self._draw("flip", epoch, rows) < 0.5 if self.flip else np.zeros(len(rows), bool)
        pictures, kept, sizes = self._read(rows, mirrored)
        if self.share[1] > 1 and len(kept) < len(rows):
            pictures, kept, sizes = self._filled(pictures, kept, sizes, len(rows))
        rows, mirrored = rows[kept], mirrored[kept]
        if not len(rows):
            return None
        images = _as_images(pictures)
        batch = FaceBatch(
            images=images,
            index=torch.from_numpy(rows),
            identities=None if self._labels is None else torch.from_numpy(self._labels[rows]),
            landmarks=self._landmarks(rows, sizes, mirrored),
            clean=images if self.keep_clean else None,
        )
        batch = batch if self.occlusion is None else self._occlude(batch, pictures, epoch)
        return batch if not self.grey else self._without_colours(batch, epoch)

    def _read(self, rows: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
        """What can be read: pictures [n, H, W, 3], their positions in ``rows``, their sizes before fitting."""
        pictures = np.empty((len(rows), self.height, self.width, 3), np.uint8)
        kept: list[int] = []
        sizes: list[tuple[int, int]] = []
        flips = mirrored.tolist()
        for at, stored in enumerate(self.dataset.read(rows.tolist())):
            try:
                picture = decode(stored) if isinstance(stored, bytes) else stored
            except BadImage as error:
                self.quarantine.add(self.dataset.ids[rows[at]], error)
                continue
            fitted = fit(picture, self.height, self.width)
            if flips[at]:
                cv2.flip(fitted, 1, pictures[len(kept)])
            else:
                pictures[len(kept)] = fitted
            kept.append(at)
            sizes.append(picture.shape[:2])
        if len(kept) < len(rows):
            self.quarantine.check(len(self.dataset.ids))
        return pictures[: len(kept)], kept, sizes

    def _filled(
        self, pictures: np.ndarray, kept: list[int], sizes: list[tuple[int, int]], count: int
    ) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
        """As many as the other processes have: they take the next step together."""
        if not kept:
            raise OccframeError(
                f"none of {count} pictures that belong to one batch can be read: {self.quarantine.summary()}",
                remedy="repair the data set, or train in one process, which passes over such a batch",
            )
        lacking = count - len(kept)
        filled = np.concatenate([pictures, np.repeat(pictures[:1], lacking, 0)])
        return filled, kept + kept[:1] * lacking, sizes + sizes[:1] * lacking

    def _landmarks(self, rows: np.ndarray, sizes: list[tuple[int, int]], mirrored: np.ndarray) -> Tensor | None:
        if self.dataset.landmarks is None:
            return None
        points = self.dataset.landmarks[rows].astype(np.float32)
        for at, size in enumerate(sizes):
            if size != (self.height, self.width):
                points[at] = fit_points(points[at], size, self.height, self.width)
        points[mirrored] = points[mirrored][:, _MIRRORED]
        points[mirrored, :, 0] = self.width - 1 - points[mirrored, :, 0]
        return torch.from_numpy(points)

    def _occlude(self, batch: FaceBatch, pictures: np.ndarray, epoch: int) -> FaceBatch:
        assert self.occlusion is not None
        rows = batch.index.numpy()
        seeds = torch.from_numpy(mix(derive_seed(self.seed, "occlusion"), epoch, self._id_seeds[rows]))
        if self.keep_clean:
            pictures = pictures.copy()
            batch = replace(batch, images=_as_images(pictures))
        # The pictures are the loader's own, so that they may be changed.
        apply = getattr(self.occlusion, "apply_", self.occlusion.apply)
        # A draw of its own: were it one of the generator's, only some of its occlusions would ever be seen.
        probability = self.occlusion_probability
        chosen = np.flatnonzero(self._draw("occluded", epoch, rows) < probability) if probability < 1 else rows
        if len(chosen) == len(rows):
            occluded = apply(batch.images, self.occlusion.sample(batch, seeds))
            return replace(batch, images=occluded.images, mask=occluded.mask)
        mask = torch.zeros(len(rows), 1, self.height, self.width)
        if not len(chosen):
            return replace(batch, mask=mask)
        at = torch.from_numpy(chosen)
        part = FaceBatch(
            images=_as_images(pictures[chosen]),
            index=batch.index[at],
            identities=None if batch.identities is None else batch.identities[at],
            landmarks=None if batch.landmarks is None else batch.landmarks[at],
        )
        occluded = apply(part.images, self.occlusion.sample(part, seeds[at]))
        mask[at] = occluded.mask
        pictures[chosen] = occluded.images.permute(0, 2, 3, 1).numpy()
        return replace(batch, mask=mask)

    def _without_colours(self, batch: FaceBatch, epoch: int) -> FaceBatch:
        chosen = np.flatnonzero(self._draw("grey", epoch, batch.index.numpy()) < self.grey).tolist()

        def greyed(images: Tensor) -> Tensor:
            pictures = images.permute(0, 2, 3, 1).numpy().copy()
            for at in chosen:
                pictures[at] = cv2.cvtColor(pictures[at], cv2.COLOR_RGB2GRAY)[:, :, None]
            return _as_images(pictures)

        return replace(batch, images=greyed(batch.images), clean=None if batch.clean is None else greyed(batch.clean))

    def _draw(self, purpose: str, epoch: int, rows: np.ndarray) -> np.ndarray:
        """One number in [0, 1) a row, float32."""
        seeds = torch.from_numpy(mix(derive_seed(self.seed, purpose), epoch, self._id_seeds[rows]))
        drawn: np.ndarray = uniform(seeds, 0, 1)[:, 0].numpy()
        return drawn

    @cached_property
    def _id_seeds(self) -> np.ndarray:
        return id_seeds(self.dataset.ids)


def load_faces(dataset: Dataset, rows: Sequence[int], height: int, width: int) -> np.ndarray:
    """Some faces to look at: array [n, height, width, 3] uint8 RGB, by ``rows``; black where unreadable."""
    pictures = np.zeros((len(rows), height, width, 3), np.uint8)
    for at, stored in enumerate(dataset.read(rows)):
        with suppress(BadImage):
            pictures[at] = fit(decode(stored) if isinstance(stored, bytes) else stored, height, width)
    return pictures


def _as_images(pictures: np.ndarray) -> Tensor:
    """[B, H, W, 3] as [B, 3, H, W], channels_last, without a copy."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def _labels(subjects: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    number = {name: at for at, name in enumerate(classes)}
    unknown = set(subjects) - number.keys()
    if unknown:
        raise OccframeError(
            f"{len(unknown)} identities of the data set are not among the {len(classes)} classes: {min(unknown)!r} …",
            remedy="train and continue training on the same identities",
        )
    return np.array([number[subject] for subject in subjects], np.int64)
