"""How good and how fast an index is: recall against exact search, and latencies, on queries it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from occframe.gallery.indexing import Measured
from occframe.gallery.searching import GallerySearcher

#: In float16 two embeddings of one face differ by more: how far a made query is from the row it is made of.
_ANGLE = 0.9


def held_out_queries(searcher: GallerySearcher, count: int, seed: int) -> np.ndarray:
    """Queries that are no rows of the gallery: faces half-way between two of its rows, bent towards the first.

    Returns array [count, D] float32. A gallery of one face to a person has no other picture of anybody; a query made
    of one row alone would be found by any index.
    """
    rng = np.random.default_rng(seed)
    rows = searcher.gallery.open_rows()
    total = searcher.gallery.count
    first, second = (rows.take(rng.integers(0, total, count)).astype(np.float32) for _ in range(2))
    away = second - np.einsum("qd,qd->q", first, second)[:, None] * first
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    made = _ANGLE * first + math.sqrt(1 - _ANGLE**2) * away
    queries: np.ndarray = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return queries


def measure(
    searcher: GallerySearcher, queries: np.ndarray, k: int = 10, advance: Callable[[int], None] = lambda queries: None
) -> Measured:
    """queries: array [Q, D] float32, not rows of the gallery. Raises what searching raises."""
    found, times = [], []
    for query in range(len(queries)):
        began = time.perf_counter()
        found.append(searcher.search(queries[query : query + 1], k).ids[0])
        times.append(time.perf_counter() - began)
        advance(1)
    began = time.perf_counter()
    done = 0
    for start in range(0, len(queries), 256):
        done += len(searcher.search(queries[start : start + 256], k).ids)
    rate = done / (time.perf_counter() - began)
    exact = searcher.compare(queries, k, np.arange(searcher.gallery.count))
    right = sum(len(set(left) & set(right) - {""}) for left, right in zip(found, exact.ids, strict=True))
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return Measured(
        k=k,
        queries=len(queries),
        recall=right / max(1, int((exact.ids != "").sum())),
        p50_ms=round(float(p50), 4),
        p99_ms=round(float(p99), 4),
        queries_per_s=round(rate, 1),
    )
