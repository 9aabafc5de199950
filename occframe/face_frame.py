"""A coordinate frame fixed to the face: where is the left cheek, whatever the pose and the size of the picture?

u runs from the picture's left eye (-1, 0) to its right eye (1, 0), v down the face to the middle of the mouth
(0, 2.31), as far as it lies in the ArcFace template; the nose tip is near (0, 1.15) in a frontal face, the chin near
(0, 4). One unit is half the distance between the eyes, about 31.5 mm.

Only operations that IEEE 754 rounds exactly are used (no trigonometry, no fused products), so that a frame has the same
bits in any batch and on any device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

#: ArcFace's 112 x 112 template: left eye, right eye, nose, left and right mouth corner, pixels.
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
MOUTH = 2.31
# How much nearer the near cheek looks, for a nose displaced by one unit; from faces turned by 30 and 45 degrees.
_BEND = 0.15


@dataclass(frozen=True)
class FaceFrame:
    """Of B faces. origin: [B, 2] pixels between the eyes. across, down: [B, 2] pixels a unit of u and v.

    bend: [B] perspective of a turned head, w = 1 + bend u. turn: [B] displacement of the nose in u, positive where the
    face looks to the picture's right. known: [B] bool, False where the landmarks were unusable and the template's
    were taken, scaled to the picture.
    """

    origin: Tensor
    across: Tensor
    down: Tensor
    bend: Tensor
    turn: Tensor
    known: Tensor

    @property
    def scale(self) -> Tensor:
        """[B] pixels a unit: the larger of both directions, as a turn shrinks u and a nod shrinks v."""
        return torch.maximum(_length(self.across), _length(self.down))

    def to_face(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates (0 is the first pixel's centre), broadcastable to [B, …] -> u, v of the same shape."""
        shape = (-1,) + (1,) * (max(x.ndim, y.ndim) - 1)
        (ox, oy), (ax, ay), (dx, dy) = (vector.unbind(1) for vector in (self.origin, self.across, self.down))
        determinant = ax * dy - ay * dx
        along_x, along_y = (dy / determinant).view(shape), (-dx / determinant).view(shape)
        below_x, below_y = (-ay / determinant).view(shape), (ax / determinant).view(shape)
        x, y = x - ox.view(shape), y - oy.view(shape)
        bend = self.bend.view(shape)
        along = x * along_x + y * along_y
        below = x * below_x + y * below_y
        # Beyond the horizon of the perspective a point keeps a finite place, far outside every drawing.
        inverse = 1 / (1 - along * bend).clamp(min=0.25)
        return (along - bend) * inverse, below * inverse * (1 - bend * bend)

    def to_image(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Face coordinates [B] or [B, …] -> pixel coordinates x, y."""
        shape = (-1,) + (1,) * (u.ndim - 1)
        bend = self.bend.view(shape)
        inverse = 1 / (1 + bend * u).clamp(min=0.25)
        (ox, oy), (ax, ay), (dx, dy) = (vector.unbind(1) for vector in (self.origin, self.across, self.down))
        along, below = (u + bend) * inverse, v * inverse
        x = ox.view(shape) + along * ax.view(shape) + below * dx.view(shape)
        y = oy.view(shape) + along * ay.view(shape) + below * dy.view(shape)
        return x, y

    def pack(self) -> Tensor:
        """[B, 9] float32, as plain data."""
        columns = [self.origin, self.across, self.down, self.bend[:, None], self.turn[:, None], self.known[:, None]]
        return torch.cat([column.float() for column in columns], dim=1)

    @staticmethod
    def unpack(packed: Tensor) -> FaceFrame:
        return FaceFrame(packed[:, :2], packed[:, 2:4], packed[:, 4:6], packed[:, 6], packed[:, 7], packed[:, 8] > 0.5)


def template_landmarks(height: int, width: int) -> Tensor:
    """[5, 2] pixels: where an aligned crop has its landmarks; 112 x 96 is 112 x 112 less 8 columns a side."""
    points = torch.tensor(TEMPLATE, dtype=torch.float32)
    scale = height / 112
    return torch.stack([(points[:, 0] - 56) * scale + width / 2, points[:, 1] * scale], dim=1)


@lru_cache(maxsize=16)
def _template_on(device: torch.device, height: int, width: int) -> Tensor:
    """Copied to each device once: a copy waits until a GPU has done all that it was asked for."""
    with torch.inference_mode(False):
        return template_landmarks(height, width).to(device)


def face_frame(landmarks: Tensor, height: int, width: int) -> FaceFrame:
    """Frames of faces from landmarks [B, 5, 2] in pixels of pictures of height x width.

    Landmarks may lie outside the picture or upside down. Rows with NaN, infinite, coinciding or absurd values get the
    template's, since crops are aligned; ``known`` tells them.
    """
    points = landmarks.float()
    template = _template_on(points.device, height, width)
    half = (points[:, 1] - points[:, 0]) * 0.5
    largest = 4.0 * max(height, width)
    usable = torch.isfinite(points).flatten(1).all(1)
    usable &= (_length(half) >= 1.0) & (_length(half) <= largest) & (points.abs().flatten(1).amax(1) <= 4 * largest)
    points = torch.where(usable[:, None, None], points, template)

    left, right, nose = points[:, 0], points[:, 1], points[:, 2]
    origin, across = (left + right) * 0.5, (right - left) * 0.5
    down = ((points[:, 3] + points[:, 4]) * 0.5 - origin) * (1 / MOUTH)
    upright = torch.stack([-across[:, 1], across[:, 0]], dim=1)
    # A mouth on the eyes' line, above it, or far too near or far is a slip of the detector: eyes are found best.
    # Far, beside eyes that a turn to 80 degrees brings together, is six times as far as in a frontal face.
    size, ratio = _length(across), _length(down) / _length(across)
    sound = (_cross(across, down) > 0.3 * size * _length(down)) & (ratio > 0.4) & (ratio < 6.0)
    down = torch.where(sound[:, None], down, upright)
    turn = (_cross(nose - origin, down) / _cross(across, down)).clamp(-1, 1)
    turn = torch.where(sound, turn, torch.zeros_like(turn))
    return FaceFrame(origin, across, down, turn * _BEND, turn, usable)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _length(vector: Tensor) -> Tensor:
    return (vector[:, 0] * vector[:, 0] + vector[:, 1] * vector[:, 1]).sqrt()
