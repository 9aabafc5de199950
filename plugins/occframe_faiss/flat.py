"""Exact rows on a CPU: every query against every row.

FAISS as it comes searches float16 rows one by one, ten times slower than a matrix product for a batch, and a single
query on one core. So a batch is multiplied with blocks of rows widened to float32, and few queries are given slices of
the rows, a thread each. Scores are computed anew for what is returned, always in the same order of additions, so that a
row has the same score whichever way and in whichever company it was found.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from occframe.gallery.matching import score_rows
from occframe.machine import default_threads

#: Rows widened at a time: 32 MiB at 512 dimensions.
_BLOCK = 16_384
#: From this many queries on, a matrix product is faster than going row by row.
_BATCH = 32
#: A thread is worth its start from this many rows on.
_SLICE = 8_192
#: Found beyond k and scored anew: so that which row comes last does not hang on how a product was rounded.
_SPARE = 4


class CpuFlat:
    """float16 rows are kept by QT_fp16, whose codes *are* the float16 bytes: they are added without conversion."""

    most_hits: int | None = None
    trained = True

    def __init__(self, faiss: ModuleType, half: bool, dim: int) -> None:
        self._faiss, self._half, self._dim = faiss, half, dim
        self._dtype = np.dtype(np.float16 if half else np.float32)
        self.index = self._empty()
        self._reopen: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def _empty(self) -> Any:
        if self._half:
            quantizer = self._faiss.ScalarQuantizer.QT_fp16
            return self._faiss.IndexScalarQuantizer(self._dim, quantizer, self._faiss.METRIC_INNER_PRODUCT)
        return self._faiss.IndexFlatIP(self._dim)

    def reserve(self, rows: int) -> None:
        """Room for ``rows`` in all: without it, growing copies every row several times."""
        self._own()
        self.index.codes.resize(max(rows, len(self)) * self._dim * self._dtype.itemsize)

    def add(self, vectors: np.ndarray) -> None:
        """vectors: array [n, D] float16 or float32."""
        self._own()
        first, last = len(self), len(self) + len(vectors)
        row_bytes = self._dim * self._dtype.itemsize
        if self.index.codes.size() < last * row_bytes:
            self.index.codes.resize(last * row_bytes)
        self.index.ntotal = last
        self.rows[first:last] = vectors

    @property
    def rows(self) -> np.ndarray:
        """array [n, D] of ``_dtype``: the index's own memory."""
        if not len(self):
            return np.empty((0, self._dim), self._dtype)
        size = len(self) * self._dim * self._dtype.itemsize
        codes: np.ndarray = self._faiss.rev_swig_ptr(self.index.codes.data(), size)
        return codes.view(self._dtype).reshape(-1, self._dim)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """queries: array [Q, D] float32. k: at most the rows there are."""
        wanted = min(k + _SPARE, len(self))
        if self._half and len(queries) >= _BATCH:
            _, rows = self._by_blocks(queries, wanted)
        elif 2 * len(queries) <= default_threads() and len(self) >= 2 * _SLICE:
            _, rows = self._by_slices(queries, wanted)
        else:
            _, rows = self.index.search(queries, wanted)
        return score_rows(queries, rows, self.reconstruct, k)

    def _by_blocks(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        stored, wide = self.rows, np.empty((min(_BLOCK, len(self)), self._dim), np.float32)

        def search(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            block = wide[: stop - start]
            self.index.sa_decode(stored[start:stop].view(np.uint8), block)
            found: tuple[np.ndarray, np.ndarray] = self._faiss.knn(
                queries, block, min(k, len(block)), self._faiss.METRIC_INNER_PRODUCT
            )
            return found

        found = (search(start, min(start + _BLOCK, len(self))) for start in range(0, len(self), _BLOCK))
        return best_of(found, range(0, len(self), _BLOCK), k)

    def _by_slices(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        slices = min(default_threads(), len(self) // _SLICE)
        edges = [len(self) * number // slices for number in range(slices + 1)]

        def search(number: int) -> tuple[np.ndarray, np.ndarray]:
            only = self._faiss.IDSelectorRange(edges[number], edges[number + 1])
            found: tuple[np.ndarray, np.ndarray] = self.index.search(
                queries, min(k, edges[number + 1] - edges[number]), params=self._faiss.SearchParameters(sel=only)
            )
            return found

        return best_of(self._pool.map(search, range(slices)), [0] * slices, k)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # OpenMP counts threads for each calling thread: these are its share already.
        return ThreadPoolExecutor(
            default_threads(),
            thread_name_prefix="faiss",
            initializer=self._faiss.omp_set_num_threads,
            initargs=(1,),
        )

    def reconstruct(self, rows: np.ndarray) -> np.ndarray:
        """rows: int64 [n]. Returns array [n, D] float32."""
        stored = self.rows[rows]
        if not self._half:
            return stored
        wide = np.empty(stored.shape, np.float32)
        self.index.sa_decode(stored.view(np.uint8), wide)
        return wide

    def keep(self, rows: np.ndarray) -> None:
        """rows: int64, ascending."""
        self._own()
        stored = self.rows
        for start in range(0, len(rows), _BLOCK):  # downwards in place: what is overwritten was moved already
            taken = rows[start : start + _BLOCK]
            stored[start : start + len(taken)] = stored[taken]
        self.index.ntotal = len(rows)
        self.index.codes.resize(len(rows) * self._dim * self._dtype.itemsize)

    def as_cpu(self) -> Any:
        if self._reopen is None:  # what was reserved and not used is not written
            self.index.codes.resize(len(self) * self._dim * self._dtype.itemsize)
        return self.index

    def load(self, index: Any, reopen: Callable[[], Any] | None) -> None:
        """reopen: reads the index into memory, where ``index`` is mapped from its file."""
        kind = self._faiss.IndexScalarQuantizer if self._half else self._faiss.IndexFlatIP
        if not isinstance(index, kind):
            raise ValueError(f"it holds {type(index).__name__}")
        self.index, self._reopen = index, reopen

    def _own(self) -> None:
        """A mapped index aborts the process when it is changed."""
        if self._reopen is not None:
            self.index, self._reopen = self._reopen(), None


def best_of(found: Any, firsts: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k over pieces of the rows. found: (scores, rows) of each piece. firsts: its first row."""
    scores: np.ndarray | None = None
    rows: np.ndarray | None = None
    for (more, at), first in zip(found, firsts, strict=True):
        at = np.where(at >= 0, at + first, -1)
        more = np.where(at >= 0, more, -np.inf)
        if scores is None or rows is None:
            scores, rows = more, at
            continue
        scores, rows = np.concatenate([scores, more], 1), np.concatenate([rows, at], 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    assert scores is not None
    assert rows is not None
    return scores, rows
