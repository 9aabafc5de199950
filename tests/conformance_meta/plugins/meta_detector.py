"""A good face detector, and one for each promise that breaks it."""

from __future__ import annotations

import itertools

import numpy as np

from occframe import Config, DetectedFace, hookimpl


class NoOptions(Config):
    """Has none."""


class Good:
    """Takes what has contrast for two faces."""

    def __init__(self, config, context):
        self.seen = itertools.count()

    def detect(self, image):
        if image.std() < 1:
            return []
        height, width = image.shape[:2]
        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * [width, height]
        box = (0.0, 0.0, float(width), float(height))
        return [DetectedFace(box, points.astype(np.float32), score) for score in (0.9, 0.4)]


class FacesAreWellFormed(Good):
    def detect(self, image):
        return super().detect(image)[::-1]


class NothingIsNoFace(Good):
    def detect(self, image):
        return super().detect(np.arange(3 * 64 * 64, dtype=np.uint8).reshape(64, 64, 3))


class OddSizesAreNoError(Good):
    def detect(self, image):
        return super().detect(image[::4, ::4].reshape(image.shape[0] // 4, image.shape[1] // 4, 3))


class IsDeterministic(Good):
    def detect(self, image):
        return super().detect(image)[: 1 + next(self.seen) % 2]


class InputIsUntouched(Good):
    def detect(self, image):
        found = super().detect(image)
        image[:] = image[..., ::-1].copy()
        return found


BROKEN = {
    "faces_are_well_formed": FacesAreWellFormed,
    "nothing_is_no_face": NothingIsNoFace,
    "odd_sizes_are_no_error": OddSizesAreNoError,
    "is_deterministic": IsDeterministic,
    "input_is_untouched": InputIsUntouched,
}


@hookimpl
def occframe_register_detectors(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="contrast")
