"""A navigable graph (HNSW, Malkov and Yashunin 2018) over float16 rows: fast on a CPU, large, and slow to build."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from occframe.gallery.matching import score_rows
from occframe_faiss.configs import FaissConfig

_BLOCK = 65_536


class Hnsw:
    """``IndexHNSWSQ`` with float16 storage. A graph cannot lose a node: removing rows builds it again."""

    most_hits: int | None = None
    trained = True

    def __init__(self, faiss: ModuleType, config: FaissConfig, dim: int) -> None:
        self._faiss, self._config, self._dim = faiss, config, dim
        self.index = self._empty()
        self._reopen: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def _empty(self) -> Any:
        faiss = self._faiss
        kind, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexHNSWSQ(self._dim, kind, self._config.links, metric)
        index.train(np.zeros((1, self._dim), np.float32))  # QT_fp16 learns nothing, and says so only when asked
        return index

    def reserve(self, rows: int) -> None:
        pass

    def add(self, vectors: np.ndarray) -> None:
        if self._reopen is not None:
            self.index, self._reopen = self._reopen(), None
        self.index.add(vectors.astype(np.float32, copy=False))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # The graph is walked with as many rows in view as are asked for, at least.
        parameters = self._faiss.SearchParametersHNSW(efSearch=max(self._config.effort, k))
        scores, rows = self.index.search(queries, k, params=parameters)
        return score_rows(queries, rows, self._reconstruct, k) if k else (scores, rows)

    def _reconstruct(self, rows: np.ndarray) -> np.ndarray:
        vectors: np.ndarray = self.index.storage.reconstruct_batch(rows)
        return vectors

    def keep(self, rows: np.ndarray) -> None:
        """rows: int64, ascending."""
        old, self.index, self._reopen = self.index, self._empty(), None
        for start in range(0, len(rows), _BLOCK):
            self.index.add(old.storage.reconstruct_batch(rows[start : start + _BLOCK]))

    def as_cpu(self) -> Any:
        return self.index

    def load(self, index: Any, reopen: Callable[[], Any] | None) -> None:
        if not isinstance(index, self._faiss.IndexHNSWSQ):
            raise ValueError(f"it holds {type(index).__name__}")
        self.index, self._reopen = index, reopen
