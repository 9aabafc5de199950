"""Vectors on a device in pieces of fixed size: growing never copies what is there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 65_536


class Chunks:
    """A list of tensors [ROWS, dim], the last one partly filled. Iterating gives (number of the first row, rows)."""

    def __init__(self, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self.dim = dim
        self._dtype, self._device = dtype, device
        self._full: list[Tensor] = []
        self._last = self._empty()
        self._filled = 0

    def __len__(self) -> int:
        return len(self._full) * ROWS + self._filled

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for number, chunk in enumerate(self._full):
            yield number * ROWS, chunk
        if self._filled:
            yield len(self._full) * ROWS, self._last[: self._filled]

    def take(self, rows: Tensor) -> Tensor:
        """rows: [n] int64. Returns [n, dim]."""
        taken = torch.empty(len(rows), self.dim, dtype=self._dtype, device=self._device)
        for first, chunk in self:
            mine = torch.nonzero((rows >= first) & (rows < first + len(chunk)))[:, 0]
            taken[mine] = chunk[rows[mine] - first]
        return taken

    def append(self, vectors: Tensor) -> None:
        """vectors: [n, dim], of any float type, on any device."""
        while len(vectors):
            if self._filled == ROWS:
                self._full.append(self._last)
                self._last, self._filled = self._empty(), 0
            taken = vectors[: ROWS - self._filled]
            self._last[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            vectors = vectors[len(taken) :]

    def keep(self, rows: Tensor) -> None:
        """Only these rows, in this order. rows: [n] int64, ascending."""
        old = [*self._full, self._last]
        self._full, self._last, self._filled = [], self._empty(), 0
        edges = torch.searchsorted(rows, torch.arange(len(old) + 1) * ROWS).tolist()
        for number in range(len(old)):
            mine = rows[edges[number] : edges[number + 1]] - number * ROWS
            # Popped: what was copied is freed before the next piece is.
            self.append(old.pop(0)[mine.to(self._device)])

    def _empty(self) -> Tensor:
        return torch.empty(ROWS, self.dim, dtype=self._dtype, device=self._device)
