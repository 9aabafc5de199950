"""From one picture to one encoded, aligned face, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from occframe.data.decoding import decode
from occframe.data.headers import BadImage
from occframe.errors import OccframeError
from occframe.types import Aligner, DetectedFace, Detector

Choice = Literal["best", "largest", "centre"]
Encode = Callable[[np.ndarray], bytes]


@dataclass(frozen=True)
class FaceCut:
    """image: encoded. landmarks: [5, 2] float32, pixels of the aligned face. score: the detector's, None without one.

    source_height, source_width: pixels of the picture it was cut from.
    """

    image: bytes
    landmarks: np.ndarray
    source_height: int
    source_width: int
    score: float | None


@dataclass(frozen=True)
class FaceCutter:
    """Thread-safe as far as its detector and aligner are. min_score: detected faces scored lower are not taken."""

    aligner: Aligner
    detector: Detector | None
    choose: Choice
    min_score: float
    encode: Encode

    def cut(self, picture: bytes | np.ndarray, landmarks: np.ndarray | None) -> FaceCut:
        """picture: encoded, or [H, W, 3] uint8 RGB. landmarks: [5, 2] pixels; None or NaN where they must be found.

        Raises BadImage: unreadable, no face found, none scored high enough, or landmarks that are no face's.
        """
        image = decode(picture) if isinstance(picture, bytes) else picture
        score = None
        if landmarks is None or np.isnan(landmarks).any():
            face = self._find(image)
            landmarks, score = face.landmarks, face.score
        try:
            aligned = self.aligner.align(image, landmarks)
        except OccframeError as error:
            raise BadImage("landmarks unusable", error.message) from None
        height, width = image.shape[:2]
        return FaceCut(self.encode(aligned.image), aligned.landmarks, height, width, score)

    def _find(self, image: np.ndarray) -> DetectedFace:
        if self.detector is None:
            raise BadImage("no landmarks", "the data gives none for it, and there is no detector")
        found = self.detector.detect(image)
        if not found:
            raise BadImage("no face found", f"in {image.shape[1]} x {image.shape[0]} pixels")
        good = [face for face in found if face.score >= self.min_score]
        if not good:
            best = max(face.score for face in found)
            raise BadImage("face scored too low", f"{best:.2f}, min_score is {self.min_score:g}")
        return choose_face(good, self.choose, image.shape[0], image.shape[1])


def choose_face(faces: Sequence[DetectedFace], choose: Choice, height: int, width: int) -> DetectedFace:
    """One of several faces in a picture of ``height`` x ``width``: the best scored, the largest box, or the one whose
    box lies nearest the centre; the first of equal ones."""
    if choose == "best":
        return max(faces, key=lambda face: face.score)
    if choose == "largest":
        return max(faces, key=lambda face: face.box[2] * face.box[3])
    return min(
        faces,
        key=lambda face: np.hypot(face.box[0] + (face.box[2] - width) / 2, face.box[1] + (face.box[3] - height) / 2),
    )


def encoder(format: Literal["png", "jpeg"], quality: int) -> Encode:
    """RGB [H, W, 3] uint8 -> encoded bytes. JPEG keeps colour at full resolution: a face crop has little to spare."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    if format == "jpeg":
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]

    def encode(image: np.ndarray) -> bytes:
        return bytes(cv2.imencode(f".{format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])

    return encode


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Parallel by picture, not within one: OpenCV would start a team of threads in every worker."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
