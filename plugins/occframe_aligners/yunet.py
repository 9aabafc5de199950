"""The YuNet face detector (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023), run by OpenCV."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

from occframe.errors import OccframeError
from occframe.storage import read_bytes
from occframe.types import DetectedFace
from occframe.weights import locate_weights
from occframe_aligners.arcface import TEMPLATE
from occframe_aligners.similarity import umeyama
from occframe_aligners.warp import warp_similarity

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_aligners.configs import YuNetConfig

#: Boxes kept before overlapping ones are removed; OpenCV's own default.
_TOP_K = 5000

#: Where the second look expects the landmarks: eyes 56 pixels apart, in the middle of 256 x 256.
_CLOSE_UP_SIDE = 256
_CLOSE_UP = (TEMPLATE - 56) * 1.6 + _CLOSE_UP_SIDE / 2


class YuNetDetector:
    """Thread-safe: every thread has a network of its own, since ``cv2.FaceDetectorYN`` keeps the picture's size."""

    def __init__(self, config: YuNetConfig, context: BuildContext) -> None:
        self._config = config
        url = locate_weights(config.weights)
        try:
            self._onnx = np.frombuffer(read_bytes(url), np.uint8)
        except OSError as error:
            raise OccframeError(
                f"detector `yunet` cannot read its weights {url}: {error.strerror or error}",
                remedy="check the path of the .onnx file, or use the detector `mtcnn`",
            ) from error
        self._networks = threading.local()
        try:
            self._networks.own = self._open()
            # A file that is another kind of network fails only when it is run.
            self.detect(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, IndexError) as error:
            reason, *_ = str(getattr(error, "err", error)).strip("> \n").splitlines() or [type(error).__name__]
            raise OccframeError(
                f"{url} is not a YuNet detector: {reason}", remedy="give the .onnx file of a YuNet with landmarks"
            ) from error

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """image: [H, W, 3] uint8 RGB. Faces, best first; landmarks and box in pixels of ``image``."""
        height, width = image.shape[:2]
        shrink = min(1.0, self._config.max_side / max(height, width))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = image if shrink == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        scale = np.array([width / size[0], height / size[1]], np.float32)
        boxes, landmarks, scores = self._look(small)
        boxes = boxes * scale
        landmarks = (landmarks + 0.5) * scale - 0.5  # between centres of pixels
        if self._config.refine:
            landmarks = np.array([self._look_again(image, points) for points in landmarks])
        return [
            DetectedFace(tuple(box.ravel().tolist()), points, float(score))
            for box, points, score in zip(boxes, landmarks, scores, strict=True)
        ]

    def _look(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Corner and extent [N, 2, 2] of boxes, landmarks [N, 5, 2] and scores [N] float32, best first."""
        if not hasattr(self._networks, "own"):
            self._networks.own = self._open()
        self._networks.own.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._networks.own.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if rows is None:
            rows = np.empty((0, 15), np.float32)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        # Columns: box (4), landmarks (10), score. YuNet names eyes and mouth corners by the person's right and left;
        # the person's right is the left of the picture, so its order is ours.
        return rows[:, :4].reshape(-1, 2, 2), rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]

    def _look_again(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks of the face cut out upright, at a size the network sees well; as they were if it is not seen there.

        YuNet's landmarks are coarse on turned and on small faces. LFW faces turned by up to 20 degrees are verified at
        96.9 % when aligned by its first look, at 98.6 % by its second, at 98.7 % as they were (docs/alignment.md).
        """
        try:
            transform = umeyama(landmarks, _CLOSE_UP)
        except OccframeError:
            return landmarks
        _, found, _ = self._look(warp_similarity(image, transform, _CLOSE_UP_SIDE, _CLOSE_UP_SIDE))
        distances = np.linalg.norm(found - _CLOSE_UP, axis=2).mean(1)
        if not distances.size or distances.min() > _CLOSE_UP[1, 0] - _CLOSE_UP[0, 0]:
            return landmarks  # somebody else's face
        points = found[distances.argmin()]
        return ((points - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T).astype(np.float32)

    def _open(self) -> cv2.FaceDetectorYN:
        nms, score = self._config.nms_threshold, self._config.score_threshold
        return cv2.FaceDetectorYN.create("onnx", self._onnx, np.empty(0, np.uint8), (64, 64), score, nms, _TOP_K)
