"""Occluders drawn for the examples of `sprites` and `face-sprites`."""

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


def face_sprite_folder(where: Path) -> Path:
    """A folder of one picture: an eye patch and its ribbon over an aligned face of 112 x 112 pixels."""
    folder = where / "face-sprites"
    folder.mkdir(exist_ok=True)
    patch = np.zeros((112, 112, 4), np.uint8)
    cv2.line(patch, (14, 34), (98, 62), (30, 30, 30, 255), 2, cv2.LINE_AA)
    cv2.ellipse(patch, (38, 52), (13, 11), 0, 0, 360, (30, 30, 30, 255), -1, cv2.LINE_AA)
    (folder / "patch.png").write_bytes(cv2.imencode(".png", patch)[1].tobytes())
    return folder
