"""Pictures of nothing: noise, stripes and checks in two colours, the same ones on every machine."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch

from occframe.random import derive_seed, uniform


@lru_cache(maxsize=8)  # every generator of a process cuts from the same ones
def textures(count: int, height: int, width: int) -> np.ndarray:
    """Array [count, height, width, 3] uint8 RGB."""
    made: np.ndarray = np.stack([_texture(number, height, width) for number in range(count)])
    return made


def _texture(number: int, height: int, width: int) -> np.ndarray:
    seed = torch.tensor([derive_seed("texture", number)])
    draw = uniform(seed, 0, 16)[0].numpy()
    grain = uniform(seed, 1, height * width).numpy().reshape(height, width, 1) - 0.5
    blend = (_noise, _stripes, _checks)[number % 3](seed, draw, height, width)
    first, second = 255 * draw[:3], 255 * draw[3:6]
    colours = first + (second - first) * blend[:, :, None] + 60 * draw[6] * grain
    texture: np.ndarray = colours.clip(0, 255).astype(np.uint8)
    return texture


def _noise(seed: torch.Tensor, draw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Smooth blots; their size is drawn between a few pixels and a third of the picture."""
    cell = 3 * (max(height, width) / 9) ** draw[7]
    rows, columns = int(height / cell) + 2, int(width / cell) + 2
    coarse = uniform(seed, 2, rows * columns).numpy().reshape(rows, columns)
    blots: np.ndarray = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return blots


def _wave(along: np.ndarray, period: float, sharpness: float) -> np.ndarray:
    wave: np.ndarray = 0.5 + 0.5 * np.tanh(sharpness * np.sin(2 * np.pi * along / period)) / np.tanh(sharpness)
    return wave


def _axes(draw: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    angle = np.pi * draw[8]
    return xs * np.cos(angle) + ys * np.sin(angle), ys * np.cos(angle) - xs * np.sin(angle)


def _stripes(seed: torch.Tensor, draw: np.ndarray, height: int, width: int) -> np.ndarray:
    along, _ = _axes(draw, height, width)
    return _wave(along, 4 + 30 * draw[9], 0.5 + 6 * draw[10])


def _checks(seed: torch.Tensor, draw: np.ndarray, height: int, width: int) -> np.ndarray:
    along, across = _axes(draw, height, width)
    sharpness = 0.5 + 6 * draw[10]
    both = _wave(along, 4 + 30 * draw[9], sharpness) + _wave(across, 4 + 30 * draw[11], sharpness)
    checks: np.ndarray = both / 2
    return checks
