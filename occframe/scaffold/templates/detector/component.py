"""Takes every picture with enough contrast for one upright face that fills it. Put your detector here."""

import numpy as np

from occframe import DetectedFace

# Eyes, nose and mouth corners of a face that fills the picture, as shares of width and height.
POINTS = np.array([[0.34, 0.46], [0.66, 0.46], [0.50, 0.64], [0.37, 0.82], [0.63, 0.82]])


class {{Class}}:
    """Fulfils ``occframe.types.Detector``."""

    def __init__(self, config, context):
        self.contrast = config.contrast

    def detect(self, image):
        """image: array [H, W, 3] uint8 RGB, not to be changed. A list of DetectedFace, the best first."""
        if image.std() < self.contrast:
            return []
        height, width = image.shape[:2]
        landmarks = (POINTS * [width, height]).astype(np.float32)
        return [DetectedFace(box=(0.0, 0.0, float(width), float(height)), landmarks=landmarks, score=0.5)]
