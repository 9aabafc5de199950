"""MTCNN: face detection by three networks, each looking closer at what the one before let through.

Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE
Signal Processing Letters 2016. Boxes are arrays [N, 4] of left, top, right, bottom in pixels, the last two exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from occframe.types import DetectedFace
from occframe_aligners.mtcnn_networks import load_networks

if TYPE_CHECKING:
    from occframe.component import BuildContext
    from occframe_aligners.configs import MTCNNConfig

#: What one output cell of the proposal network sees, and how far cells lie apart, pixels.
_CELL, _STRIDE = 12, 2

#: Overlaps above which the weaker of two boxes goes, as the authors released them: within one scale of the pyramid,
#: between scales, after refinement, and at the end relative to the smaller box.
_OVERLAP_SCALE, _OVERLAP_PYRAMID, _OVERLAP_REFINED, _OVERLAP_SMALLER = 0.5, 0.7, 0.7, 0.7


class MTCNNDetector:
    """Thread-safe: nothing changes after construction. Runs on the CPU, where its small networks are at home."""

    def __init__(self, config: MTCNNConfig, context: BuildContext) -> None:
        self._config = config
        self._proposal, self._refinement, self._output = load_networks()

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """image: [H, W, 3] uint8 RGB. Faces, best first; landmarks and box in pixels of ``image``."""
        with torch.inference_mode(), _one_thread():
            boxes = self._propose(image)
            boxes = self._refine(image, boxes)
            return self._locate(image, boxes)

    def _propose(self, image: np.ndarray) -> np.ndarray:
        """Candidates of the proposal network over an image pyramid, [N, 4]."""
        height, width = image.shape[:2]
        # The later networks still look at the full picture.
        scale = _CELL / self._config.min_face_size * min(1.0, self._config.max_side / max(height, width))
        boxes, scores = [np.empty((0, 4))], [np.empty(0)]
        level = image
        while min(height, width) * scale >= _CELL:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
            offsets, logits = self._proposal(_to_input(level[None]))
            probability = logits[0].softmax(0)[1].numpy()
            rows, columns = np.nonzero(probability > self._config.thresholds[0])
            corner = np.stack([columns, rows], 1) * _STRIDE
            found = np.hstack([corner, corner + _CELL]) + _CELL * offsets[0].numpy()[:, rows, columns].T
            keep = suppress(found, probability[rows, columns], _OVERLAP_SCALE)
            boxes.append(found[keep] * np.tile([width / size[0], height / size[1]], 2))
            scores.append(probability[rows, columns][keep])
            scale *= self._config.scale_factor
        every = np.concatenate(boxes)
        return every[suppress(every, np.concatenate(scores), _OVERLAP_PYRAMID)]

    def _refine(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The candidates that the refinement network keeps, moved as it says, [N, 4]."""
        patches, boxes = _cut(image, boxes, 24)
        offsets, logits = self._refinement(_to_input(patches))
        probability = logits.softmax(1)[:, 1].numpy()
        keep = probability > self._config.thresholds[1]
        boxes = (boxes + offsets.numpy() * np.tile(_sides(boxes), 2))[keep]
        return boxes[suppress(boxes, probability[keep], _OVERLAP_REFINED)]

    def _locate(self, image: np.ndarray, boxes: np.ndarray) -> list[DetectedFace]:
        """Final boxes, with landmarks relative to the candidate they were read from."""
        patches, boxes = _cut(image, boxes, 48)
        offsets, points, logits = self._output(_to_input(patches))
        probability = logits.softmax(1)[:, 1].numpy()
        # Five x, then five y. The network's left eye is the one at the left of the picture.
        landmarks = points.numpy().reshape(-1, 2, 5).transpose(0, 2, 1) * _sides(boxes)[:, None] + boxes[:, None, :2]
        boxes = boxes + offsets.numpy() * np.tile(_sides(boxes), 2)
        keep = np.flatnonzero(probability > self._config.thresholds[2])
        keep = keep[suppress(boxes[keep], probability[keep], _OVERLAP_SMALLER, of_smaller=True)]
        return [
            DetectedFace(
                (*boxes[row, :2].tolist(), *_sides(boxes[row : row + 1])[0].tolist()),
                landmarks[row].astype(np.float32),
                float(probability[row]),
            )
            for row in keep
        ]


@contextmanager
def _one_thread() -> Iterator[None]:
    """The networks are too small to share among threads, and on a busy machine threads that wait for each other in
    every layer turn 11 ms a picture into 250. torch keeps this number for each thread; new threads inherit it."""
    before = torch.get_num_threads()
    if before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before > 1:
            torch.set_num_threads(before)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, *, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes that stay, best first.

    boxes: [N, 4]. scores: [N]. A box goes where it overlaps a better one by more than ``overlap`` of their union, or of
    the smaller of the two.
    """
    areas = _sides(boxes).prod(1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        whole = np.minimum(areas[best], areas[rest]) if of_smaller else areas[best] + areas[rest] - shared
        order = rest[shared <= overlap * whole]
    return np.array(kept, np.intp)


def _sides(boxes: np.ndarray) -> np.ndarray:
    """[N, 2] width and height."""
    return boxes[:, 2:] - boxes[:, :2]


def _cut(image: np.ndarray, boxes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Square patches around the boxes, [N, size, size, 3] uint8, black outside the picture, and their own boxes."""
    height, width = image.shape[:2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.maximum(np.rint(_sides(boxes).max(1, initial=2.0)), 2.0)[:, None]
    low = np.rint(centres - side / 2)
    squares = np.hstack([low, low + side])
    patches = np.zeros((len(boxes), size, size, 3), np.uint8)
    for patch, (left, top, right, bottom) in zip(patches, squares.astype(int).tolist(), strict=True):
        inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if inside.size:
            margins = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
            square = cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT)
            how = cv2.INTER_AREA if right - left > size else cv2.INTER_LINEAR
            cv2.resize(square, (size, size), dst=patch, interpolation=how)
    return patches, squares


def _to_input(images: np.ndarray) -> torch.Tensor:
    """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float, about -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().sub(127.5).div(128)
