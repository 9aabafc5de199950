"""Turns and scales a face so that its eyes come to lie where every other face's do."""

import cv2
import numpy as np

from occframe import AlignedFace


class {{Class}}:
    """Fulfils ``occframe.types.Aligner``."""

    def __init__(self, config, context):
        self.size = config.size

    def align(self, image, landmarks):
        """image: array [H, W, 3] uint8 RGB. landmarks: array [5, 2] pixels, the eyes first."""
        points = landmarks.astype(np.float64)
        across = points[1] - points[0]
        cosine, sine = 0.315 * self.size * across / (across @ across)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        eyes = np.array([0.5, 0.46]) * self.size
        transform = np.column_stack([turn, eyes - turn @ points[:2].mean(0)])  # source pixel -> aligned pixel
        moved = (points @ turn.T + transform[:, 2]).astype(np.float32)
        return AlignedFace(cv2.warpAffine(image, transform, (self.size, self.size)), moved, transform)
