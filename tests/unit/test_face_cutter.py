"""Which face is taken, and why one is not."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from occframe.component import BuildContext
from occframe.data.alignment import Choice, FaceCutter, choose_face, encoder
from occframe.data.headers import BadImage
from occframe.plugins import PluginRegistry
from occframe.types import DetectedFace
from occframe_aligners.arcface import TEMPLATE, ArcFaceAligner
from occframe_aligners.configs import ArcFaceConfig
from occframe_aligners.mtcnn import suppress
from tests.pictures import encode, jpeg_with_exif, noise

ALIGNER = ArcFaceAligner(ArcFaceConfig(), BuildContext(PluginRegistry()))


class Scripted:
    """A detector that finds what it was told to; ``seen`` are the sizes of the pictures it was given."""

    def __init__(self, faces: Sequence[DetectedFace] = ()) -> None:
        self.faces = list(faces)
        self.seen: list[tuple[int, ...]] = []

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        self.seen.append(image.shape)
        return self.faces


def face(x: float, y: float, size: float, score: float) -> DetectedFace:
    points = ((TEMPLATE - 56) * size / 112 + [x + size / 2, y + size / 2]).astype(np.float32)
    return DetectedFace((x, y, size, size), points, score)


def cutter(detector: Scripted | None = None, choose: Choice = "best", min_score: float = 0.5) -> FaceCutter:
    return FaceCutter(ALIGNER, detector, choose, min_score, encoder("png", 95))


@pytest.mark.parametrize(("choose", "winner"), [("best", 0), ("largest", 1), ("centre", 2)])
def test_choose(choose: Choice, winner: int) -> None:
    faces = [face(5, 5, 30, 0.9), face(180, 100, 90, 0.8), face(130, 70, 40, 0.7)]
    assert choose_face(faces, choose, 200, 300) is faces[winner]
    detector = Scripted(faces)
    cut = cutter(detector, choose).cut(noise(200, 300), None)
    assert cut.score == faces[winner].score
    assert (cut.source_height, cut.source_width) == (200, 300)


def test_the_first_of_equals_is_taken() -> None:
    twins = [face(10, 10, 40, 0.8), face(50, 10, 40, 0.8)]
    assert choose_face(twins, "best", 100, 100) is twins[0]
    assert choose_face(twins, "largest", 100, 100) is twins[0]
    assert choose_face(twins, "centre", 60, 100) is twins[0]


@pytest.mark.parametrize(
    ("detector", "reason", "detail"),
    [
        (None, "no landmarks", "there is no detector"),
        (Scripted(), "no face found", "in 90 x 80 pixels"),
        (Scripted([face(1, 1, 40, 0.3), face(9, 9, 40, 0.42)]), "face scored too low", "0.42, min_score is 0.5"),
        (Scripted([DetectedFace((0, 0, 9, 9), np.zeros((5, 2), np.float32), 1.0)]), "landmarks unusable", "one point"),
    ],
)
def test_why_a_face_was_not_taken(detector: Scripted | None, reason: str, detail: str) -> None:
    with pytest.raises(BadImage) as caught:
        cutter(detector).cut(noise(80, 90), None)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_a_low_score_leaves_the_choice_to_the_others() -> None:
    """The largest of those that count, not the largest of all."""
    cut = cutter(Scripted([face(0, 0, 90, 0.3), face(20, 20, 40, 0.6)]), "largest").cut(noise(100, 100), None)
    assert cut.score == 0.6


def test_landmarks_that_are_known_are_not_looked_for() -> None:
    detector = Scripted([face(0, 0, 50, 0.9)])
    landmarks = face(30, 20, 112, 1.0).landmarks
    known = cutter(detector).cut(noise(160, 200), landmarks)
    assert detector.seen == []
    assert known.score is None
    np.testing.assert_allclose(known.landmarks, TEMPLATE, atol=1e-3)
    cutter(detector).cut(noise(160, 200), np.full((5, 2), np.nan))
    assert len(detector.seen) == 1


def test_pictures_are_decoded_upright_and_in_colour() -> None:
    upright = noise(120, 200, seed=4)
    stored = jpeg_with_exif(encode(np.rot90(upright), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100), 6)
    landmarks = face(40, 4, 112, 1.0).landmarks
    detector = Scripted()
    found = cutter(detector).cut(stored, landmarks)
    assert (found.source_height, found.source_width) == (120, 200)
    expected = ALIGNER.align(upright, landmarks).image.astype(int)
    shown = cv2.imdecode(np.frombuffer(found.image, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(shown - expected).mean() < 3
    grey = cutter(detector).cut(encode(upright[:, :, 0], ".png"), landmarks)
    shown = cv2.imdecode(np.frombuffer(grey.image, np.uint8), cv2.IMREAD_COLOR)
    assert (shown[:, :, 0] == shown[:, :, 2]).all()


def test_a_damaged_picture_says_so() -> None:
    with pytest.raises(BadImage, match="JPEG"):
        cutter().cut(encode(noise(), ".jpg")[:900], TEMPLATE)


def test_png_keeps_every_bit_and_jpeg_keeps_colour_at_full_resolution() -> None:
    image = noise(112, 112, seed=2)
    decode = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]  # noqa: E731
    np.testing.assert_array_equal(decode(encoder("png", 95)(image)), image)
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = [200, 40, 40]
    stripes[:, 1::2] = [40, 40, 200]
    assert np.abs(decode(encoder("jpeg", 100)(stripes)).astype(int) - stripes).max() < 12


boxes = arrays(np.float64, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 60).map(float))


@given(boxes, st.sampled_from([0.3, 0.5, 0.7]), st.booleans(), st.integers(0, 99))
def test_suppression_keeps_apart_and_drops_with_a_reason(
    corners: np.ndarray, overlap: float, of_smaller: bool, seed: int
) -> None:
    found = np.hstack([corners[:, :2], corners[:, :2] + 1 + corners[:, 2:]])
    scores = np.random.default_rng(seed).random(len(found))
    kept = suppress(found, scores, overlap, of_smaller=of_smaller).tolist()

    def share(a: int, b: int) -> float:
        low, high = np.maximum(found[a, :2], found[b, :2]), np.minimum(found[a, 2:], found[b, 2:])
        shared = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
        areas = [(found[i, 2] - found[i, 0]) * (found[i, 3] - found[i, 1]) for i in (a, b)]
        return shared / (min(areas) if of_smaller else sum(areas) - shared)

    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    assert all(share(a, b) <= overlap + 1e-9 for a in kept for b in kept if a != b)
    dropped = set(range(len(found))) - set(kept)
    assert all(any(share(a, b) > overlap - 1e-9 and scores[b] >= scores[a] for b in kept) for a in dropped)
