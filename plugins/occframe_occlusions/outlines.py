"""Drawn outlines as tables of signed distances: computed once from control points, then looked up for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Points = Sequence[tuple[float, float]]


def rounded(points: Points, rounds: int = 3) -> np.ndarray:
    """A smooth closed curve inside a control polygon: Chaikin's corner cutting, "An algorithm for high-speed curve
    generation" (1974). Points close together keep a corner sharp. Returns [N, 2]."""
    curve = np.asarray(points, np.float64)
    for _ in range(rounds):
        after = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * after, 0.25 * curve + 0.75 * after], axis=1).reshape(-1, 2)
    return curve


def mirrored(half: Points) -> list[tuple[float, float]]:
    """The closed polygon of a shape symmetric about u = 0, from its points with u >= 0, top to bottom."""
    return [*half, *[(-u, v) for u, v in reversed(half) if u > 0]]


def signed_distance(curve: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance of points (any shape) from a closed polyline [N, 2], negative inside."""
    nearest = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, bool)
    for (x0, y0), (x1, y1) in zip(curve, np.roll(curve, -1, axis=0), strict=True):
        dx, dy, px, py = x1 - x0, y1 - y0, u - x0, v - y0
        place = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
        nearest = np.minimum(nearest, (px - place * dx) ** 2 + (py - place * dy) ** 2)
        crosses = (y0 > v) != (y1 > v)
        inside ^= crosses & (px * dy < py * dx if dy > 0 else px * dy > py * dx)
    distance: np.ndarray = np.where(inside, -1, 1) * np.sqrt(nearest)
    return distance


@lru_cache(maxsize=32)  # a table is moved to a device once, not for every batch
def _on(table: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or it would be of no use outside it
        return table.to(device)


@dataclass(frozen=True)
class Atlas:
    """Distance tables of several shapes over one box, stacked in one picture.

    table: [1, 1, N * rows, columns]. box: (u0, v0, u1, v1) that each table covers; beyond it, the border's value.
    """

    table: Tensor
    box: tuple[float, float, float, float]
    rows: int

    @staticmethod
    def draw(curves: Sequence[np.ndarray], box: tuple[float, float, float, float], step: float) -> Atlas:
        """step: distance between two entries of a table, in the unit of the curves."""
        u0, v0, u1, v1 = box
        columns, rows = round((u1 - u0) / step) + 1, round((v1 - v0) / step) + 1
        u = u0 + np.arange(columns)[None, :] * ((u1 - u0) / (columns - 1)) + np.zeros((rows, 1))
        v = v0 + np.arange(rows)[:, None] * ((v1 - v0) / (rows - 1)) + np.zeros((1, columns))
        tables = np.concatenate([signed_distance(curve, u, v) for curve in curves])
        # Rounded, so that a last bit that differs between two machines' square roots does not travel on.
        table = torch.from_numpy(np.rint(tables * 2**14) / 2**14).float()
        return Atlas(table[None, None], box, rows)

    def lookup(self, shape: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Distances [B, h, w] from shape [B] int64 at u, v [B, h, w]."""
        u0, v0, u1, v1 = self.box
        height = self.table.shape[2]
        column = ((u - u0) * (2 / (u1 - u0)) - 1).clamp(-1, 1)
        row = ((v - v0) * ((self.rows - 1) / (v1 - v0))).clamp(0, self.rows - 1)
        row = (row + (shape * self.rows).float()[:, None, None]) * (2 / (height - 1)) - 1
        batch, h, w = u.shape
        grid = torch.stack([column, row], dim=3).view(1, batch * h, w, 2)
        table = _on(self.table, u.device)
        return F.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True).view(batch, h, w)
