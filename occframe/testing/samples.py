"""Small material for checks and tests: drawn faces with identities and landmarks, batches, unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from occframe.types import FaceBatch, Hits

#: ArcFace's template of five points, as fractions of width and height.
_POINTS = np.array([[0.342, 0.462], [0.657, 0.460], [0.500, 0.641], [0.371, 0.825], [0.632, 0.823]])


class TinyFaces:
    """Drawn people in memory; fulfils ``occframe.types.Dataset``.

    identities: people. images: pictures of each, which differ in light, grain and where the points lie.
    """

    aligned = True

    def __init__(
        self, identities: int = 4, images: int = 3, *, height: int = 32, width: int = 32, seed: int = 0
    ) -> None:
        draw = np.random.default_rng(seed)
        self._key = f"tiny {identities} {images} {height} {width} {seed}"
        self.subjects = [f"person-{number}" for number in range(identities) for _ in range(images)]
        self.ids = [f"{subject}/{number % images}" for number, subject in enumerate(self.subjects)]
        self.attributes: dict[str, np.ndarray] = {}
        self.blocks = [range(len(self.ids))]
        points = _POINTS * [width, height] + draw.normal(0, 0.01 * width, (len(self.ids), 5, 2))
        self.landmarks = points.astype(np.float32)
        looks = [draw.integers(60, 230, (3, 3)) for _ in range(identities)]
        self._images = [
            _drawn(looks[number // images], points[number], height, width, draw) for number in range(len(self.ids))
        ]

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        """Arrays [H, W, 3] uint8 RGB."""
        return [self._images[row] for row in rows]

    def fingerprint(self) -> str:
        return self._key


def _drawn(colours: np.ndarray, points: np.ndarray, height: int, width: int, draw: np.random.Generator) -> np.ndarray:
    """An ellipse for the head and discs for eyes, nose and mouth, lit from one side. colours: skin, features, wall."""
    y, x = np.mgrid[:height, :width]
    picture = np.broadcast_to(colours[2], (height, width, 3)).astype(np.float64)
    head = ((x / width - 0.5) / 0.42) ** 2 + ((y / height - 0.55) / 0.5) ** 2 < 1
    picture = np.where(head[..., None], colours[0], picture)
    for px, py in points:
        disc = (x - px) ** 2 + (y - py) ** 2 < (0.07 * width) ** 2
        picture = np.where(disc[..., None], colours[1] * 0.5, picture)
    light = 0.8 + 0.4 * draw.random() * x / width
    noise = draw.normal(0, 3, (height, width, 1))
    return np.asarray((picture * light[..., None] + noise).clip(0, 255), np.uint8)


def face_batch(
    count: int = 4, *, height: int = 32, width: int = 32, seed: int = 0, identities: int = 5, landmarks: bool = True
) -> FaceBatch:
    """uint8 faces with classes 0..identities-1 in turn and landmarks; not occluded."""
    import torch

    each = -(-count // identities)
    faces = TinyFaces(identities, each, height=height, width=width, seed=seed)
    rows = [person * each + number for number in range(each) for person in range(identities)][:count]
    images = torch.from_numpy(np.stack([np.asarray(item) for item in faces.read(rows)])).permute(0, 3, 1, 2)
    return FaceBatch(
        images=images.contiguous(),
        index=torch.arange(count),
        identities=torch.arange(count) % identities,
        landmarks=torch.from_numpy(faces.landmarks[rows]) if landmarks else None,
    )


def occluded_batch(count: int = 4, *, dim: int = 8, height: int = 32, width: int = 32, seed: int = 0) -> FaceBatch:
    """Faces behind a grey rectangle each, every third one not; with ``mask``, ``clean`` and ``teacher`` [B, dim]."""
    import torch
    from torch.nn import functional as F

    batch = face_batch(count, height=height, width=width, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    mask = torch.zeros(count, 1, height, width)
    for row in range(count):
        if row % 3 != 2:
            top, left = (int(torch.randint(side // 2, (1,), generator=draw)) for side in (height, width))
            mask[row, :, top : top + height // 2, left : left + width // 2] = 1
    occluded = torch.where(mask > 0, torch.full_like(batch.images, 127), batch.images)
    teacher = F.normalize(torch.randn(count, dim, generator=draw))
    return replace(batch, images=occluded, mask=mask, clean=batch.images, teacher=teacher)


def unit_vectors(count: int, dim: int = 16, *, seed: int = 0) -> np.ndarray:
    """[count, dim] float32 of length 1 (up to float16), whose coordinates are exact in float16."""
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.asarray(unit.astype(np.float16), np.float32)


def brute_force(gallery: dict[str, np.ndarray], queries: np.ndarray, k: int) -> Hits:
    """What an exact matcher must find: all scores in float64, equal ones by id, cut to k and padded."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), "", object)
    for row, query in enumerate(queries.astype(np.float64)):
        ranked = sorted((-float(vector.astype(np.float64) @ query), name) for name, vector in gallery.items())[:k]
        for rank, (score, name) in enumerate(ranked):
            scores[row, rank], ids[row, rank] = -score, name
    return Hits(scores, ids)


def rows_of(batch: FaceBatch, rows: Sequence[int]) -> FaceBatch:
    """Some images of a batch, in this order."""
    import torch

    chosen = torch.as_tensor(list(rows), device=batch.images.device)
    return replace(batch, **{name: value[chosen] for name, value in vars(batch).items() if value is not None})
