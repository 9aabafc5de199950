"""What a face detector promises: see ``occframe.types.Detector``. No picture of a person is needed for any of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from occframe.testing.check import check, require
from occframe.testing.samples import TinyFaces
from occframe.testing.subject import Subject
from occframe.types import DetectedFace


def _pictures() -> dict[str, np.ndarray]:
    """[H, W, 3] uint8: a drawn face, noise, one colour, a narrow strip."""
    face = np.asarray(TinyFaces(1, 1, height=160, width=140).read([0])[0])
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    return {
        "a drawn face": face,
        "noise": noise,
        "one colour": np.full((80, 80, 3), 99, np.uint8),
        "a strip": face[:20],
    }


def _detect(detector: Any, picture: np.ndarray) -> list[DetectedFace]:
    found = detector.detect(picture)
    require(isinstance(found, list), f"detect returned {type(found).__name__}, not a list")
    require(all(isinstance(face, DetectedFace) for face in found), "an entry is no DetectedFace")
    return found  # type: ignore[no-any-return]


@check()
def faces_are_well_formed(subject: Subject) -> None:
    """Boxes have a size, landmarks are float32 [5, 2] and finite, scores are in 0..1, the best first."""
    for name, picture in _pictures().items():
        faces = _detect(subject.built, picture)
        for face in faces:
            require(len(face.box) == 4 and min(face.box[2:]) > 0, f"{name}: a box is {face.box}")
            points = face.landmarks
            require(
                points.shape == (5, 2) and points.dtype == np.float32,
                f"{name}: landmarks {points.shape} {points.dtype}",
            )
            require(bool(np.isfinite(points).all()), f"{name}: a landmark is not finite")
            require(0 <= face.score <= 1, f"{name}: a score is {face.score}")
        scores = [face.score for face in faces]
        require(scores == sorted(scores, reverse=True), f"{name}: scores are {scores}")


@check()
def nothing_is_no_face(subject: Subject) -> None:
    """A picture of one colour has no face in it, and is no error."""
    require(_detect(subject.built, _pictures()["one colour"]) == [], "a face was found in a single colour")


@check()
def odd_sizes_are_no_error(subject: Subject) -> None:
    """Pictures of one pixel, of one row and of odd sizes are looked at."""
    for height, width in ((1, 1), (1, 50), (37, 3), (61, 53)):
        _detect(subject.built, np.full((height, width, 3), 128, np.uint8))


@check()
def is_deterministic(subject: Subject) -> None:
    """The same picture gives the same faces, after others too."""
    picture = _pictures()["a drawn face"]
    first = [face.box for face in _detect(subject.built, picture)]
    again = [face.box for face in _detect(subject.built, picture)]
    _detect(subject.built, _pictures()["noise"])
    later = [face.box for face in _detect(subject.built, picture)]
    require(first == again == later, f"it found {first}, then {again}, and after another picture {later}")


@check()
def input_is_untouched(subject: Subject) -> None:
    """The picture is left as it was."""
    picture = _pictures()["a drawn face"].copy()
    before = picture.copy()
    _detect(subject.built, picture)
    require(np.array_equal(picture, before), "the picture changed")
