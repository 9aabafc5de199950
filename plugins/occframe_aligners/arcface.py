"""Alignment to the ArcFace template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from occframe.errors import OccframeError
from occframe.types import AlignedFace
from occframe_aligners.similarity import umeyama
from occframe_aligners.warp import warp_similarity

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_aligners.configs import ArcFaceConfig

#: Left eye, right eye, nose tip, left and right mouth corner as seen in the picture, (x, y) pixels of 112 x 112.
#: The points InsightFace aligns with (Deng et al., "ArcFace", CVPR 2019); 8 pixels further left they are those of
#: SphereFace's 112 x 96 crop (Liu et al., CVPR 2017).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def template(height: int, width: int) -> np.ndarray:
    """The template in pixels of ``height`` x ``width``, [5, 2]: scaled with the height, centred across the width."""
    scale = height / 112
    return TEMPLATE * scale + [(width - 112 * scale) / 2, 0.0]


class ArcFaceAligner:
    """Fits five landmarks to the template with a similarity transform and warps the picture by it."""

    def __init__(self, config: ArcFaceConfig, context: BuildContext) -> None:
        self._height, self._width = config.height, config.width
        self._template = template(config.height, config.width)

    def align(self, image: np.ndarray, landmarks: np.ndarray) -> AlignedFace:
        """image: [H, W, 3] uint8 RGB. landmarks: [5, 2] pixels, in the order of ``TEMPLATE``; may lie outside.

        Raises OccframeError for another kind of image, or landmarks that determine no face; see ``umeyama``.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise OccframeError(f"an image is [H, W, 3] uint8, this is {list(image.shape)} {image.dtype}")
        transform = umeyama(landmarks, self._template)
        aligned = warp_similarity(image, transform, self._height, self._width)
        moved = landmarks @ transform[:, :2].T + transform[:, 2]
        return AlignedFace(aligned, moved.astype(np.float32), transform)
