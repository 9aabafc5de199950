"""What an aligner promises: see ``occframe.types.Aligner``."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from occframe.testing.check import check, require
from occframe.testing.samples import TinyFaces
from occframe.testing.subject import Subject
from occframe.types import AlignedFace


def _photograph(turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A picture [120, 150, 3] uint8 and five points in it, turned by ``turn`` radians."""
    faces = TinyFaces(1, 1, height=120, width=150)
    points = faces.landmarks[0].astype(np.float64)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(faces.read([0])[0]), ((points - points.mean(0)) @ rotation.T + points.mean(0)).astype(np.float32)


def _align(aligner: Any, image: np.ndarray, points: np.ndarray) -> AlignedFace:
    found = aligner.align(image, points)
    require(isinstance(found, AlignedFace), f"align returned {type(found).__name__}, not AlignedFace")
    return found  # type: ignore[no-any-return]


@check()
def results_are_well_formed(subject: Subject) -> None:
    """image uint8 [H, W, 3], landmarks float32 [5, 2], transform float64 [2, 3]; all finite, one size for all faces."""
    sizes = set()
    for turn in (0.0, 0.5):
        found = _align(subject.built, *_photograph(turn))
        require(
            found.image.dtype == np.uint8 and found.image.ndim == 3, f"image {found.image.dtype} {found.image.shape}"
        )
        require(found.image.shape[2] == 3, f"the image has {found.image.shape[2]} channels")
        require(
            found.landmarks.dtype == np.float32 and found.landmarks.shape == (5, 2),
            f"landmarks {found.landmarks.shape}",
        )
        require(
            found.transform.dtype == np.float64 and found.transform.shape == (2, 3),
            f"transform {found.transform.shape}",
        )
        require(bool(np.isfinite(found.transform).all()), "the transform is not finite")
        sizes.add(found.image.shape)
    require(len(sizes) == 1, f"two faces became {sizes}")


@check()
def landmarks_follow_the_transform(subject: Subject) -> None:
    """``transform`` takes the source's points to ``landmarks``, in pixels of the aligned image."""
    image, points = _photograph(0.3)
    found = _align(subject.built, image, points)
    expected = points @ found.transform[:, :2].T + found.transform[:, 2]
    off = np.abs(found.landmarks - expected).max()
    require(off <= 0.01, f"landmarks and transformed points are {off:.2f} pixels apart")


@check()
def a_turned_face_is_set_upright(subject: Subject) -> None:
    """The eyes of a face turned by 17 degrees lie level within 3."""
    found = _align(subject.built, *_photograph(0.3))
    across = found.landmarks[1] - found.landmarks[0]
    degrees = abs(float(np.degrees(np.arctan2(across[1], across[0]))))
    require(degrees <= 3, f"the line through the eyes is tilted by {degrees:.1f} degrees")


@check()
def input_is_untouched(subject: Subject) -> None:
    """Picture and points are left as they were."""
    image, points = _photograph()
    image, before = image.copy(), (image.copy(), points.copy())
    _align(subject.built, image, points)
    require(np.array_equal(image, before[0]) and np.array_equal(points, before[1]), "the picture or its points changed")


@check()
def is_deterministic(subject: Subject) -> None:
    """The same face is aligned the same way."""
    one, two = (_align(subject.built, *_photograph(0.1)) for _ in range(2))
    require(np.array_equal(one.image, two.image), "two calls gave two images")


@check(tier="extra")
def is_picklable(subject: Subject) -> None:
    """A worker process that is handed the aligner does the same."""
    copy = pickle.loads(pickle.dumps(subject.built))
    one, two = _align(subject.built, *_photograph()), _align(copy, *_photograph())
    require(np.array_equal(one.image, two.image), "a copy aligns otherwise")
