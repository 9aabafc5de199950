"""Pictures by the thousand through detection and alignment into one Parquet file, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from occframe.data import BadImage, FaceParquetWriter, Quarantine, decode
from occframe.data.alignment import FaceCutter, choose_face, one_thread_each
from occframe.machine import default_threads
from occframe.types import Aligner, Detector

_BATCH = 512  # pictures in memory


@dataclass(frozen=True)
class Picture:
    """encoded: the picture. landmarks: [5, 2] pixels, None where they must be found. columns: further ones."""

    id: str
    identity: str
    encoded: bytes
    landmarks: np.ndarray | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FaceMaker:
    """detector: the face nearest the centre counts; None where every picture has landmarks."""

    aligner: Aligner
    encode: Callable[[np.ndarray], bytes]
    detector: Detector | None = None
    min_score: float = 0.5

    def write(
        self, pictures: Iterable[Picture], url: str, *, extra: Mapping[str, type], advance: Callable[[int], None]
    ) -> Quarantine:
        """Returns what could not be made into a face. Where a detector finds none, the median place of all the faces it
        found serves: in a set that centres its faces that is nearly right, and pairs stay complete; the column
        ``detected`` tells them apart."""
        columns = dict(extra) | ({"detected": bool} if self.detector else {})
        cutter = FaceCutter(self.aligner, None, "centre", self.min_score, self.encode)
        lost, found, left = Quarantine(share=1.0), [], []

        def located(picture: Picture) -> tuple[Picture, np.ndarray | BadImage | None]:
            try:
                return picture, picture.landmarks if self.detector is None else self._locate(picture.encoded)
            except BadImage as error:
                return picture, error

        def store(writer: FaceParquetWriter, picture: Picture, landmarks: np.ndarray, detected: bool) -> None:
            try:
                face = cutter.cut(picture.encoded, landmarks)
            except BadImage as error:
                lost.add(picture.id, error)
                return
            told = {"detected": detected} if self.detector else {}
            writer.add(picture.id, picture.identity, face.image, face.landmarks, **dict(picture.columns) | told)

        with ExitStack() as open_things:
            pool = open_things.enter_context(ThreadPoolExecutor(default_threads()))
            open_things.enter_context(one_thread_each())
            writer = open_things.enter_context(FaceParquetWriter(url, extra=columns, aligned=True))
            for batch in _batches(pictures):
                for picture, landmarks in pool.map(located, batch):
                    if isinstance(landmarks, BadImage):
                        lost.add(picture.id, landmarks)
                    elif landmarks is None:
                        left.append(picture)
                    else:
                        if self.detector:
                            found.append(landmarks)
                        store(writer, picture, landmarks, True)
                    advance(1)
            for picture in left:
                if found:
                    store(writer, picture, np.median(found, axis=0), False)
                else:
                    lost.add(picture.id, BadImage("no face found", "in this nor in any other picture"))
        return lost

    def _locate(self, encoded: bytes) -> np.ndarray | None:
        """None: no face. Raises BadImage: no picture."""
        assert self.detector is not None
        image = decode(encoded)
        faces = [face for face in self.detector.detect(image) if face.score >= self.min_score]
        return choose_face(faces, "centre", *image.shape[:2]).landmarks if faces else None


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    source = iter(pictures)
    while batch := list(islice(source, _BATCH)):
        yield batch
