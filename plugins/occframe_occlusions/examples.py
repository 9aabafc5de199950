"""Occluders drawn for the example of `sprites`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def sprite_folder(where: Path) -> Path:
    """A folder of two pictures: a disc with transparency around it, and a rectangle without an alpha channel."""
    folder = where / "sprites"
    folder.mkdir(exist_ok=True)
    disc = np.zeros((40, 60, 4), np.uint8)
    cv2.circle(disc, (30, 20), 18, (40, 90, 200, 255), -1, cv2.LINE_AA)
    for name, picture in {"disc": disc, "plain": np.full((30, 20, 3), 77, np.uint8)}.items():
        (folder / f"{name}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return folder
