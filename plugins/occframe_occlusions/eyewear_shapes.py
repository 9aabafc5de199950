"""Outlines of lenses, seen from the front on the picture's right eye: x outwards, y down, half a lens wide is 1."""

from __future__ import annotations

from functools import lru_cache

from occframe_occlusions.outlines import Atlas, Points, rounded
from occframe_occlusions.suite_configs import FRAME_SHAPES, FrameShape

_OUTLINES: dict[str, Points] = {
    "rectangle": [
        (-0.98, -0.5), (-0.8, -0.6), (0, -0.62), (0.88, -0.62), (1.02, -0.52),
        (1.0, 0.3), (0.86, 0.58), (0.3, 0.62), (-0.7, 0.6), (-0.95, 0.45),
    ],
    "oval": [(-1.06, -0.2), (-0.75, -0.62), (0, -0.74), (0.75, -0.66), (1.06, -0.2),
             (1.04, 0.25), (0.7, 0.66), (0, 0.76), (-0.7, 0.66), (-1.04, 0.25)],
    "round": [(-1.05, -0.4), (-0.75, -0.86), (0, -1.06), (0.75, -0.86), (1.05, -0.4),
              (1.05, 0.4), (0.75, 0.86), (0, 1.06), (-0.75, 0.86), (-1.05, 0.4)],
    "square": [(-0.96, -0.62), (-0.75, -0.74), (0, -0.76), (0.9, -0.8), (1.06, -0.68),
               (1.02, 0.1), (0.8, 0.66), (0.2, 0.8), (-0.45, 0.76), (-0.8, 0.55), (-0.98, -0.1)],
    "aviator": [(-0.98, -0.45), (-0.75, -0.7), (0, -0.76), (0.85, -0.74), (1.08, -0.5),
                (1.06, 0.2), (0.8, 0.82), (0.3, 1.04), (-0.3, 0.86), (-0.75, 0.4)],
    "cat-eye": [(-0.98, -0.35), (-0.75, -0.58), (0, -0.66), (0.8, -0.88), (1.2, -0.9),
                (1.12, -0.3), (0.9, 0.4), (0.4, 0.74), (-0.25, 0.72), (-0.8, 0.45), (-1.0, 0.0)],
    "browline": [(-0.98, -0.5), (-0.75, -0.62), (0, -0.64), (0.9, -0.64), (1.05, -0.5),
                 (1.02, 0.2), (0.75, 0.68), (0.1, 0.78), (-0.55, 0.66), (-0.92, 0.2)],
    "half-rim": [(-0.98, -0.4), (-0.8, -0.52), (0, -0.54), (0.9, -0.54), (1.03, -0.42),
                 (1.0, 0.3), (0.78, 0.58), (0, 0.64), (-0.7, 0.58), (-0.96, 0.3)],
    "rimless": [(-1.0, -0.35), (-0.85, -0.54), (0, -0.58), (0.9, -0.58), (1.04, -0.42),
                (1.0, 0.35), (0.75, 0.64), (0, 0.7), (-0.7, 0.62), (-0.98, 0.3)],
    "geometric": [(-1.0, -0.12), (-0.98, -0.3), (-0.62, -0.84), (-0.5, -0.9), (0.5, -0.9), (0.62, -0.84),
                  (1.02, -0.25), (1.04, -0.1), (0.98, 0.15), (0.6, 0.8), (0.48, 0.86), (-0.4, 0.86), (-0.55, 0.8),
                  (-0.94, 0.15)],
}  # fmt: skip

#: Share of the chosen rim width at the top and at the bottom of a lens; 0: no rim there.
RIMS: dict[FrameShape, tuple[float, float]] = dict.fromkeys(FRAME_SHAPES, (1.1, 0.65)) | {
    "cat-eye": (1.25, 0.7),
    "browline": (1.7, 0.35),
    "half-rim": (1.0, 0.0),
    "rimless": (0.0, 0.0),
    "aviator": (0.9, 0.6),
}


@lru_cache(maxsize=1)
def lens_atlas() -> Atlas:
    curves = [rounded(_OUTLINES[name]) for name in FRAME_SHAPES]
    return Atlas.draw(curves, box=(-1.9, -1.8, 1.9, 1.9), step=0.035)


@lru_cache(maxsize=1)
def lens_heights() -> tuple[tuple[float, float], ...]:
    """Of N: topmost and lowest y of each shape, bridges among them."""
    return tuple((min(min(y for _, y in line), -0.75), max(y for _, y in line)) for line in _OUTLINES.values())
