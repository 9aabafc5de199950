"""Batches of faces, decoded and occluded in threads ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from occframe.data.augmentation import Augmentation
from occframe.data.balance import balanced_rows
from occframe.data.decoding import decode
from occframe.data.fitting import fit, fit_points
from occframe.data.headers import BadImage
from occframe.data.order import shuffled_rows
from occframe.data.quarantine import Quarantine
from occframe.data.transfer import Packed, moved, packed, pinned, prepared, unpacked
from occframe.errors import OccframeError
from occframe.machine import one_thread_here
from occframe.random import derive_seed
from occframe.types import Dataset, FaceBatch, OcclusionGenerator

# How many blocks are shuffled together where the data set does not say how many it keeps in memory.
_WINDOW = 16


class FaceLoader:
    """Gives ``FaceBatch``es of uint8 images [B, 3, height, width] (channels_last in memory).

    A batch is a function of (seed, epoch, batch number): not of threads, of what was read before or of the batch size,
    as far as single images go. Pictures of another size are scaled to cover and cut at the centre, landmarks with them.
    What cannot be read leaves its batch and goes to ``quarantine``; a batch of which nothing is left is passed over.

    threads: that decode and occlude. shuffle: within blocks of the data set where it has any, see ``order.py``.
    images_per_identity: instead of every image once an epoch, so many of a person in a batch, and all people equally
    often, in as many whole batches; shuffled in any case.
    flip: mirror half of the images, before they are occluded. occlusion_probability: share of the images that
    ``occlusion`` is applied to, drawn per image. camera: share of the images that are photographed once more
    after that, see ``camera.py``. grey: share of the images that lose their colours, last of all. Both are drawn per
    image. keep_clean: give the images before occlusion as well, photographed and grey as those after it.
    classes: identities in the order of their labels; without it batches carry no labels.
    share: (number, of how many) processes that read the same batches, each its part; what is unreadable there is
    replaced by the first picture that is not, so that all parts stay of one size.
    device: where batches are given, a torch device; CUDA reads them from pinned memory while it computes.
    augment_on: occlusion, camera and grey in the threads, or on the device: the same pictures, to a rounding of
    colours. Flips, and drawing what the others do, are the threads' in any case.
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
        images_per_identity: int | None = None,
        flip: bool = False,
        camera: float = 0.0,
        grey: float = 0.0,
        occlusion: OcclusionGenerator | None = None,
        occlusion_probability: float = 1.0,
        keep_clean: bool = False,
        classes: Sequence[str] | None = None,
        drop_last: bool = False,
        quarantine: Quarantine | None = None,
        share: tuple[int, int] = (0, 1),
        device: str = "cpu",
        augment_on: Literal["workers", "device"] = "workers",
    ) -> None:
        self.dataset = dataset
        self.height = height
        self.width = width
        self.batch_size = batch_size
        self.threads = threads
        self.seed = seed
        self.shuffle = shuffle
        self.images_per_identity = images_per_identity
        self.drop_last = drop_last
        self.quarantine = quarantine if quarantine is not None else Quarantine()
        self.share = share
        self.device = torch.device(device)
        self.augment_on = augment_on
        self._augmentation = Augmentation(
            dataset,
            seed=seed,
            flip=flip,
            camera=camera,
            grey=grey,
            occlusion=occlusion,
            occlusion_probability=occlusion_probability,
            keep_clean=keep_clean,
        )
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

        if images_per_identity is not None:
            counts = np.unique(self._identities, return_counts=True)[1]
            most = int(np.minimum(counts, images_per_identity).sum())
            if most < batch_size:
                raise OccframeError(
                    f"{len(counts)} identities with {images_per_identity} images each at most fill no batch of "
                    f"{batch_size}: they have {most}",
                    remedy="lower batch_size, or raise images_per_identity",
                )

    @property
    def batches_per_epoch(self) -> int:
        whole, rest = divmod(len(self.dataset.ids), self.batch_size)
        return whole + (rest > 0 and not self.drop_last and self.images_per_identity is None)

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[FaceBatch]:
        """The batches of one epoch from ``start_batch`` on. Threads end with it, also where it is left early.

        Raises what a thread raised, and OccframeError where too many pictures are bad.
        """
        return prepared(self._from_threads(number, start_batch), self._finished, self.device)

    def _from_threads(self, number: int, start_batch: int) -> Generator[tuple[FaceBatch, Packed | None], None, None]:
        order, visits = self._order(number)
        part = self.batch_size // self.share[1]
        first = self.share[0] * part
        starts = range(start_batch * self.batch_size, self.batches_per_epoch * self.batch_size, self.batch_size)
        parts = (slice(start + first, start + first + part) for start in starts)
        jobs = (partial(self._batch, number, order[rows], visits[rows]) for rows in parts)
        waiting: deque[Future[tuple[FaceBatch, Packed | None] | None]] = deque()
        with ThreadPoolExecutor(self.threads, "faces", initializer=one_thread_here) as pool:
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

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch, batch after batch, and how often each was visited before in it."""
        once = np.zeros(len(self.dataset.ids), np.int64)
        if not self.shuffle and self.images_per_identity is None:
            return np.arange(len(once)), once
        # Half of what it keeps: batches of the last blocks are still being made when the next ones begin.
        window = max(1, (getattr(self.dataset, "cached_blocks", None) or 2 * _WINDOW) // 2)
        seed = derive_seed(self.seed, "shuffle")
        if self.images_per_identity is None:
            return shuffled_rows(self.dataset.blocks, window, seed, epoch), once
        return balanced_rows(
            self.dataset.blocks,
            window,
            self._identities,
            batches=self.batches_per_epoch,
            batch_size=self.batch_size,
            images=self.images_per_identity,
            seed=seed,
            epoch=epoch,
        )

    @cached_property
    def _identities(self) -> np.ndarray:
        return _labels(self.dataset.subjects, list(dict.fromkeys(self.dataset.subjects)))

    def _batch(self, epoch: int, rows: np.ndarray, visits: np.ndarray) -> tuple[FaceBatch, Packed | None] | None:
        """In a thread: a batch with what is left to be done with it on the device; None where nothing can be read."""
        pictures, kept, sizes = self._read(rows)
        if self.share[1] > 1 and len(kept) < len(rows):
            pictures, kept, sizes = self._filled(pictures, kept, sizes, len(rows))
        rows, visits = rows[kept], visits[kept]
        if not len(rows):
            return None
        batch = FaceBatch(
            images=torch.from_numpy(pictures).permute(0, 3, 1, 2),
            index=torch.from_numpy(rows),
            identities=None if self._labels is None else torch.from_numpy(self._labels[rows]),
            landmarks=self._landmarks(rows, sizes),
        )
        batch, draws = self._augmentation.begun(batch, self._augmentation.draw(epoch, rows, visits))
        to_cuda = self.device.type == "cuda"
        if self.augment_on == "workers":
            batch = self._augmentation(batch, draws)
            return pinned(batch) if to_cuda else batch, None
        return (pinned(batch) if to_cuda else batch), packed(draws, pin=to_cuda)

    def _finished(self, made: tuple[FaceBatch, Packed | None]) -> FaceBatch:
        batch, drawn = made
        batch = moved(batch, self.device)
        if drawn is None:
            return batch
        draws = unpacked(drawn, self.device)
        with record_function("augmentation"):
            return self._augmentation(batch, draws)

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
        """What can be read: pictures [n, H, W, 3], their positions in ``rows``, their sizes before fitting."""
        pictures = np.empty((len(rows), self.height, self.width, 3), np.uint8)
        kept: list[int] = []
        sizes: list[tuple[int, int]] = []
        for at, stored in enumerate(self.dataset.read(rows.tolist())):
            try:
                picture = decode(stored) if isinstance(stored, bytes) else stored
            except BadImage as error:
                self.quarantine.add(self.dataset.ids[rows[at]], error)
                continue
            pictures[len(kept)] = fit(picture, self.height, self.width)
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

    def _landmarks(self, rows: np.ndarray, sizes: list[tuple[int, int]]) -> Tensor | None:
        if self.dataset.landmarks is None:
            return None
        points = self.dataset.landmarks[rows].astype(np.float32)
        for at, size in enumerate(sizes):
            if size != (self.height, self.width):
                points[at] = fit_points(points[at], size, self.height, self.width)
        return torch.from_numpy(points)


def load_faces(dataset: Dataset, rows: Sequence[int], height: int, width: int) -> np.ndarray:
    """Some faces to look at: array [n, height, width, 3] uint8 RGB, by ``rows``; black where unreadable."""
    pictures = np.zeros((len(rows), height, width, 3), np.uint8)
    for at, stored in enumerate(dataset.read(rows)):
        with suppress(BadImage):
            pictures[at] = fit(decode(stored) if isinstance(stored, bytes) else stored, height, width)
    return pictures


def _labels(subjects: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    number = {name: at for at, name in enumerate(classes)}
    unknown = set(subjects) - number.keys()
    if unknown:
        raise OccframeError(
            f"{len(unknown)} identities of the data set are not among the {len(classes)} classes: {min(unknown)!r} …",
            remedy="train and continue training on the same identities",
        )
    return np.array([number[subject] for subject in subjects], np.int64)
