"""A good aligner, and one for each promise that breaks it."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np

from occframe import AlignedFace, Config, hookimpl


class NoOptions(Config):
    """Has none."""


class Good:
    """The line through the eyes level, 20 pixels long."""

    def __init__(self, config, context):
        self.jitter = np.random.default_rng(0)

    def align(self, image, landmarks):
        points = landmarks.astype(np.float64)
        across = points[1] - points[0]
        scale = 20 / np.hypot(*across)
        cosine, sine = scale * across / np.hypot(*across)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        transform = np.column_stack([turn, np.array([24, 20]) - turn @ points[:2].mean(0)])
        return AlignedFace(cv2.warpAffine(image, transform, (48, 56)), self.moved(points, transform), transform)

    def moved(self, points, transform):
        return (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)


class ResultsAreWellFormed(Good):
    def align(self, image, landmarks):
        found = super().align(image, landmarks)
        return replace(found, image=found.image.astype(np.float32))


class LandmarksFollowTheTransform(Good):
    def moved(self, points, transform):
        return super().moved(points, transform) + np.float32(1)


class ATurnedFaceIsSetUpright(Good):
    def align(self, image, landmarks):
        transform = np.array([[0.4, 0, 0], [0, 0.4, 0]])
        return AlignedFace(cv2.warpAffine(image, transform, (48, 56)), self.moved(landmarks, transform), transform)


class InputIsUntouched(Good):
    def align(self, image, landmarks):
        found = super().align(image, landmarks)
        landmarks -= landmarks.mean(0)
        return found


class IsDeterministic(Good):
    def align(self, image, landmarks):
        return super().align(image, landmarks + self.jitter.normal(0, 1, landmarks.shape).astype(np.float32))


class IsPicklable(Good):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.lock = threading.Lock()


BROKEN = {
    "results_are_well_formed": ResultsAreWellFormed,
    "landmarks_follow_the_transform": LandmarksFollowTheTransform,
    "a_turned_face_is_set_upright": ATurnedFaceIsSetUpright,
    "input_is_untouched": InputIsUntouched,
    "is_deterministic": IsDeterministic,
    "is_picklable": IsPicklable,
}


@hookimpl
def occframe_register_aligners(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="level eyes")
