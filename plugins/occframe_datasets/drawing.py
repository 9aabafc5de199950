"""Drawn faces: crude, but with what a recogniser needs to learn: people who differ, and pictures of them that vary.

Coordinates are those of the ArcFace template of 112 x 112 pixels; a size is chosen when a face is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

# Left eye, right eye, nose, left and right corner of the mouth where an aligned face has them.
_TEMPLATE = np.array([[38.3, 51.6], [73.5, 51.6], [56.0, 71.7], [41.6, 92.3], [70.6, 92.3]])
_SKIN = np.array([[255, 224, 196], [240, 194, 158], [222, 171, 127], [190, 130, 90], [141, 85, 54], [92, 57, 40]])
_HAIR = np.array([[25, 20, 18], [60, 40, 28], [105, 70, 40], [180, 140, 80], [120, 50, 30], [150, 150, 150]])
_IRIS = np.array([[70, 45, 25], [95, 70, 35], [60, 95, 60], [70, 110, 150], [90, 100, 110]])
# Drawn larger and shrunk: smoother than drawing with anti-aliasing alone.
_OVERSAMPLING = 2
_SHIFT = 4  # fractional bits of OpenCV's drawing functions

Colour = np.ndarray  # [3] float, RGB 0..255


def _pick(table: np.ndarray, draw: float) -> Colour:
    """A colour between two neighbours of a table."""
    place = draw * (len(table) - 1)
    low = int(place)
    colour: Colour = table[low] + (table[low + 1] - table[low]) * (place - low)
    return colour


@dataclass(frozen=True)
class Person:
    """What stays the same: colours and proportions. Lengths in pixels of the template."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    face_width: float
    chin: float
    jaw: float
    hairline: float
    sides: float
    parting: float
    eye_width: float
    eye_height: float
    eye_slant: float
    eye_apart: float
    brow_height: float
    brow_thickness: float
    brow_slant: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_thickness: float
    mouth_height: float
    beard: float
    mole: tuple[float, float]

    DRAWS = 25

    @classmethod
    def from_draws(cls, draws: np.ndarray) -> Person:
        """draws: array [DRAWS] in [0, 1)."""
        give = _spread(draws)
        skin = _pick(_SKIN, next(give))
        return cls(
            skin=skin,
            hair=_pick(_HAIR, next(give)),
            iris=_pick(_IRIS, next(give)),
            lips=skin * (0.55, 0.5, 0.5) + np.array([80, 25, 30]) * (0.4 + next(give)),
            face_width=40 + 10 * next(give),
            chin=106 + 12 * next(give),
            jaw=0.55 + 0.4 * next(give),
            hairline=8 + 22 * next(give),
            sides=20 + 90 * next(give) ** 2,
            parting=30 + 52 * next(give),
            eye_width=7 + 4 * next(give),
            eye_height=3 + 2.6 * next(give),
            eye_slant=-2 + 4 * next(give),
            eye_apart=-2.5 + 5 * next(give),
            brow_height=9 + 6 * next(give),
            brow_thickness=1.4 + 3.2 * next(give),
            brow_slant=-3 + 6 * next(give),
            nose_width=5 + 6 * next(give),
            nose_length=-3 + 6 * next(give),
            mouth_width=-3 + 6 * next(give),
            lip_thickness=1.6 + 3.6 * next(give),
            mouth_height=-2 + 4 * next(give),
            beard=max(0.0, next(give) - 0.65) * 2,
            mole=(28 + 56 * next(give), 60 + 40 * next(give)),
        )


@dataclass(frozen=True)
class Moment:
    """What changes from picture to picture. yaw, pitch: pixels that the nose moves. roll: radians."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]
    smile: float
    open_mouth: float
    open_eyes: float
    gaze: float
    light: tuple[float, float]
    brightness: float
    warmth: float
    background: Colour
    grain: float

    DRAWS = 18

    @classmethod
    def from_draws(cls, draws: np.ndarray) -> Moment:
        """draws: array [DRAWS] in [0, 1)."""
        give = _spread(draws)
        return cls(
            yaw=-7 + 14 * next(give),
            pitch=-3.5 + 7 * next(give),
            roll=np.radians(-4 + 8 * next(give)),
            scale=0.96 + 0.08 * next(give),
            shift=(-1.5 + 3 * next(give), -1.5 + 3 * next(give)),
            smile=-1.5 + 6 * next(give),
            open_mouth=max(0.0, -4 + 10 * next(give)),
            open_eyes=0.55 + 0.55 * next(give),
            gaze=-1.5 + 3 * next(give),
            light=(-0.45 + 0.9 * next(give), -0.25 + 0.5 * next(give)),
            brightness=0.7 + 0.5 * next(give),
            warmth=-0.06 + 0.12 * next(give),
            background=np.array([255 * next(give), 255 * next(give), 255 * next(give)]),
            grain=2 + 6 * next(give),
        )


def _spread(draws: np.ndarray) -> Iterator[float]:
    return iter(draws.tolist())


class _Canvas:
    """Draws in template coordinates, moved and turned as the moment wants.

    depth: how far a part moves when the head turns, nose 1, outline 0.
    """

    def __init__(self, size: int, moment: Moment) -> None:
        side = size * _OVERSAMPLING
        self.pixels = np.full((side, side, 3), moment.background, np.uint8)
        self._unit = side / 112
        cos, sin = moment.scale * np.cos(moment.roll), moment.scale * np.sin(moment.roll)
        self._turn = np.array([[cos, sin], [-sin, cos]])
        self._head = np.array([moment.yaw, moment.pitch]) @ self._turn
        self._origin = _CENTRE + moment.shift - _CENTRE @ self._turn
        # From template pixels to OpenCV's fixed-point pixels; integer coordinates are pixel centres in both.
        self._to_fixed = self._unit * (1 << _SHIFT)
        self._half = 0.5 * self._to_fixed - 0.5 * (1 << _SHIFT)

    def place(self, points: np.ndarray, depth: float = 0.0) -> np.ndarray:
        """Template -> template of this picture."""
        moved: np.ndarray = points @ self._turn + (self._origin + depth * self._head)
        return moved

    def fill(self, points: np.ndarray, colour: Colour, depth: float = 0.0) -> None:
        cv2.fillPoly(self.pixels, [self._fixed(points, depth)], colour.tolist(), cv2.LINE_AA, _SHIFT)

    def line(self, points: np.ndarray, colour: Colour, thickness: float, depth: float = 0.0) -> None:
        width = max(1, round(thickness * self._unit))
        cv2.polylines(self.pixels, [self._fixed(points, depth)], False, colour.tolist(), width, cv2.LINE_AA, _SHIFT)

    def _fixed(self, points: np.ndarray, depth: float) -> np.ndarray:
        return (self.place(points, depth) * self._to_fixed + self._half).astype(np.int32)


_CENTRE = np.array([56.0, 62.0])
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
# From the chin over the left side to the top, so that what lies above a line is one run.
_FINE_ANGLES = np.linspace(0.5 * np.pi, 2.5 * np.pi, 48, endpoint=False)


def _ellipse(x: float, y: float, half_width: float, half_height: float, *, slant: float = 0.0) -> np.ndarray:
    """slant: pixels that the right end lies lower than the middle."""
    points: np.ndarray = _CIRCLE @ np.array([[half_width, slant], [0, half_height]]) + (x, y)
    return points


def _outline(person: Person, grow: float = 0.0) -> np.ndarray:
    across, down = np.cos(_FINE_ANGLES), np.sin(_FINE_ANGLES)
    # Below the cheeks the face narrows towards the chin; a square jaw narrows late.
    narrowing = 1 - 0.3 * down.clip(0) ** (1 + 4 * person.jaw)
    top, centre = 4.0, 58.0
    height = np.where(down > 0, person.chin - centre, centre - top)
    return np.stack([56 + (person.face_width + grow) * across * narrowing, centre + (height + grow) * down], 1)


def draw_face(person: Person, moment: Moment, size: int, grain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One picture of a person. grain: array [size, size] in [0, 1), the sensor's noise.

    Returns the image, array [size, size, 3] uint8 RGB, and the landmarks, array [5, 2] float32 in its pixels.
    """
    canvas = _Canvas(size, moment)
    landmarks = _TEMPLATE.copy()
    landmarks[0, 0] -= person.eye_apart
    landmarks[1, 0] += person.eye_apart
    landmarks[2, 1] += person.nose_length
    landmarks[3] += (-person.mouth_width, person.mouth_height - moment.smile / 2)
    landmarks[4] += (person.mouth_width, person.mouth_height - moment.smile / 2)
    depths = np.array([0.35, 0.35, 1.0, 0.5, 0.5])

    _draw_head(canvas, person)
    for side, (x, y) in zip((-1, 1), landmarks[:2], strict=True):
        _draw_eye(canvas, person, moment, side, x, y)
    _draw_nose(canvas, person, landmarks[2])
    _draw_mouth(canvas, person, moment, landmarks[3], landmarks[4])

    small = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = moment.brightness * (1 + moment.light[0] * ramp[None, :] + moment.light[1] * ramp[:, None])
    noise = (grain - 0.5) * np.float32(3.46 * moment.grain)
    lit = [
        small[:, :, channel] * (light * np.float32(tint)) + noise
        for channel, tint in enumerate((1 + moment.warmth, 1, 1 - moment.warmth))
    ]
    placed = np.concatenate([canvas.place(point[None], depth) for point, depth in zip(landmarks, depths, strict=True)])
    pixels = (placed + 0.5) * (size / 112) - 0.5
    return np.stack(lit, 2).clip(0, 255).astype(np.uint8), pixels.astype(np.float32)


def _draw_head(canvas: _Canvas, person: Person) -> None:
    back = _outline(person, grow=7)
    canvas.fill(back[back[:, 1] < person.sides], person.hair)
    for side in (-1, 1):
        canvas.fill(_ellipse(56 + side * person.face_width, 62, 5, 10), person.skin * 0.88)
    face = _outline(person)
    canvas.fill(face, person.skin)
    if person.beard:
        canvas.fill(face[face[:, 1] > 84], person.skin + (person.hair - person.skin) * min(0.8, person.beard + 0.15))
    _draw_fringe(canvas, person)
    canvas.fill(_ellipse(*person.mole, 1.3, 1.3), person.skin * 0.4, depth=0.4)


def _draw_fringe(canvas: _Canvas, person: Person) -> None:
    """Hair on the forehead: what of the head lies above an arch that is highest at the parting."""

    def arch(x: np.ndarray) -> np.ndarray:
        height: np.ndarray = person.hairline + 0.012 * (x - person.parting) ** 2
        return height

    head = _outline(person, grow=1)
    above = head[head[:, 1] < arch(head[:, 0])]
    if len(above) > 1:
        xs = np.linspace(above[-1, 0], above[0, 0], 20)
        canvas.fill(np.concatenate([above, np.stack([xs, arch(xs)], 1)]), person.hair)


def _draw_eye(canvas: _Canvas, person: Person, moment: Moment, side: int, x: float, y: float) -> None:
    depth = 0.35
    slant = side * person.eye_slant
    height = person.eye_height * moment.open_eyes
    canvas.fill(_ellipse(x, y, person.eye_width + 1.5, height + 2.5, slant=slant), person.skin * 0.86, depth)
    canvas.fill(_ellipse(x, y, person.eye_width, height, slant=slant), np.array([244.0, 242, 238]), depth)
    iris = min(3.4, height)
    canvas.fill(_ellipse(x + moment.gaze, y, 3.4, iris), person.iris, depth)
    canvas.fill(_ellipse(x + moment.gaze, y, 1.5, min(1.5, height)), np.array([12.0, 10, 10]), depth)
    canvas.fill(_ellipse(x + moment.gaze - 1, y - iris / 2, 0.7, 0.7), np.array([255.0, 255, 255]), depth)
    lid = _ellipse(x, y, person.eye_width, height, slant=slant)[12:]
    canvas.line(lid, person.skin * 0.35, 1.2, depth)
    along = np.linspace(-1, 1, 7)
    rise = person.brow_height + 0.6 * moment.smile + 2.5 * (1 - along**2)
    brow = np.stack([x + along * (person.eye_width + 3), y - rise + side * person.brow_slant * along], 1)
    canvas.line(brow, person.hair * 0.8, person.brow_thickness, depth)


def _draw_nose(canvas: _Canvas, person: Person, tip: np.ndarray) -> None:
    x, y = tip
    shade = person.skin * 0.8
    ridge = np.array([[-1.5, 54 - y], [1.5, 54 - y], [person.nose_width, 4], [-person.nose_width, 4]])
    canvas.fill(ridge + tip, person.skin * 0.93, depth=0.8)
    canvas.fill(_ellipse(x, y + 1, person.nose_width * 0.62, 4.2), np.minimum(person.skin * 1.06, 255), depth=1.0)
    for side in (-1, 1):
        canvas.fill(
            _ellipse(x + side * person.nose_width * 0.72, y + 3, person.nose_width * 0.36, 2.6), shade, depth=0.9
        )
        canvas.fill(_ellipse(x + side * person.nose_width * 0.45, y + 4.6, 1.5, 1), person.skin * 0.35, depth=0.9)


def _draw_mouth(canvas: _Canvas, person: Person, moment: Moment, left: np.ndarray, right: np.ndarray) -> None:
    along = np.linspace(0, 1, 11)
    bow = 4 * along * (1 - along)
    middle = left + along[:, None] * (right - left)
    middle[:, 1] += bow * moment.smile

    def lip(edge: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.concatenate([edge, other[::-1]])

    gap = bow[:, None] * np.array([0, moment.open_mouth])
    dent = 1 - 0.35 * np.exp(-80 * (along - 0.5) ** 2)
    upper = middle - (bow * dent)[:, None] * np.array([0, person.lip_thickness])
    lower = middle + gap + bow[:, None] * np.array([0, 1.3 * person.lip_thickness])
    canvas.fill(lip(middle, middle + gap), np.array([70.0, 20, 25]), depth=0.5)
    canvas.fill(lip(upper, middle), person.lips.clip(0, 255) * 0.9, depth=0.5)
    canvas.fill(lip(middle + gap, lower), person.lips.clip(0, 255), depth=0.5)
    canvas.line(middle, person.skin * 0.3, 0.9, depth=0.5)
