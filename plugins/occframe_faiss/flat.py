"""Exact indexes without ids, on CPU and GPU, with the few operations a matcher needs.

The file form of either is the CPU index, so that what a GPU machine saved opens on one without.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

#: Rows that pass through the host at a time when an index moves: 128 MiB at 512 dimensions.
_ROWS = 65_536
#: FAISS would take 1.5 GiB for itself on a large card; a flat search needs little.
_SCRATCH_BYTES = 256 * 2**20


class CpuFlat:
    """float16 rows are kept by QT_fp16, whose codes *are* the float16 bytes: they are added without conversion."""

    most_hits: int | None = None

    def __init__(self, faiss: ModuleType, profile: str, dim: int) -> None:
        self._faiss = faiss
        if profile == "fp16":
            quantizer = faiss.ScalarQuantizer.QT_fp16
            self.index = faiss.IndexScalarQuantizer(dim, quantizer, faiss.METRIC_INNER_PRODUCT)
        else:
            self.index = faiss.IndexFlatIP(dim)

    def add(self, vectors: np.ndarray) -> None:
        if vectors.dtype == np.float16 and isinstance(self.index, self._faiss.IndexScalarQuantizer):
            self.index.add_sa_codes(vectors.view(np.uint8))
        else:
            self.index.add(vectors.astype(np.float32, copy=False))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self.index.search(queries, k)
        return scores, rows

    def keep(self, rows: np.ndarray) -> None:
        """rows: int64, ascending."""
        self.index.remove_ids(np.setdiff1d(np.arange(self.index.ntotal), rows, assume_unique=True))

    def as_cpu(self) -> Any:
        return self.index

    def load(self, index: Any) -> None:
        self.index = index


class GpuFlat:
    """``GpuIndexFlat`` holds neither ids nor deletions; one CPU thread at a time may use its resources."""

    most_hits: int | None = 2048

    def __init__(self, faiss: ModuleType, profile: str, dim: int, device: int) -> None:
        self._faiss, self._profile, self._dim, self._device = faiss, profile, dim, device
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(_SCRATCH_BYTES)
        self.index = self._new()

    def _new(self) -> Any:
        options = self._faiss.GpuIndexFlatConfig()
        options.device = self._device
        options.useFloat16 = self._profile == "fp16"
        return self._faiss.GpuIndexFlatIP(self._resources, self._dim, options)

    def add(self, vectors: np.ndarray) -> None:
        self.index.add(vectors.astype(np.float32, copy=False))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self.index.search(queries, k)
        return scores, rows

    def keep(self, rows: np.ndarray) -> None:
        # Through the host: two copies of a large gallery seldom fit the card.
        cpu = self.as_cpu()
        self.index = None
        self.index = self._new()
        for start in range(0, len(rows), _ROWS):
            self.index.add(cpu.reconstruct_batch(rows[start : start + _ROWS]))

    def as_cpu(self) -> Any:
        cpu = CpuFlat(self._faiss, self._profile, self._dim)
        for start in range(0, self.index.ntotal, _ROWS):
            cpu.add(self.index.reconstruct_n(start, min(_ROWS, self.index.ntotal - start)))
        return cpu.index

    def load(self, index: Any) -> None:
        self.index = self._new()
        for start in range(0, index.ntotal, _ROWS):
            self.index.add(index.reconstruct_n(start, min(_ROWS, index.ntotal - start)))
