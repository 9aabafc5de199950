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

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_aligners.configs import YuNetConfig

#: Boxes kept before overlapping ones are removed; OpenCV's own default.
_TOP_K = 5000


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
            reason = str(getattr(error, "err", error)).strip("> \n").splitlines()[0]
            raise OccframeError(
                f"{url} is not a YuNet detector: {reason}", remedy="give the .onnx file of a YuNet with landmarks"
            ) from error

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """image: [H, W, 3] uint8 RGB. Faces, best first; landmarks and box in pixels of ``image``."""
        height, width = image.shape[:2]
        shrink = min(1.0, self._config.max_side / max(height, width))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = image if shrink == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        network = self._network()
        network.setInputSize(size)
        _, rows = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        scale = np.array([width / size[0], height / size[1]], np.float32)
        # Columns: box (4), landmarks (10), score. YuNet names eyes and mouth corners by the person's right and left;
        # the person's right is the left of the picture, so its order is ours.
        boxes = rows[:, :4].reshape(-1, 2, 2) * scale
        landmarks = (rows[:, 4:14].reshape(-1, 5, 2) + 0.5) * scale - 0.5  # between centres of pixels
        return [
            DetectedFace(tuple(box.ravel().tolist()), points, float(score))
            for box, points, score in zip(boxes, landmarks, rows[:, 14], strict=True)
        ]

    def _network(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._networks, "own"):
            self._networks.own = self._open()
        return self._networks.own

    def _open(self) -> cv2.FaceDetectorYN:
        nms, score = self._config.nms_threshold, self._config.score_threshold
        return cv2.FaceDetectorYN.create("onnx", self._onnx, np.empty(0, np.uint8), (64, 64), score, nms, _TOP_K)
