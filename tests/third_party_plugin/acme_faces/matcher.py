"""Search by brute force in NumPy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from occframe import Hits, OccframeError
from occframe.storage import exists, join, make_dirs, read_bytes, write_bytes


class Matcher:
    """Fulfils ``occframe.types.Matcher``."""

    def __init__(self, config, context):
        self.log = config.log
        self.ids = np.empty(0, object)
        self.vectors = None

    def __len__(self):
        return len(self.ids)

    def add(self, ids, vectors):
        """vectors: array [N, D] float32 or float16, normalised. Raises OccframeError for bad rows."""
        vectors = vectors.astype(np.float32)
        if len(ids) != len(vectors) or len(set(ids)) < len(ids) or set(ids) & set(self.ids):
            raise OccframeError("there must be one id a vector, each of them new")
        if not np.isfinite(vectors).all() or (self.vectors is not None and vectors.shape[1] != self.vectors.shape[1]):
            raise OccframeError("vectors must be finite and as long as those that are there")
        self.ids = np.append(self.ids, np.array(ids, object))
        self.vectors = vectors if self.vectors is None else np.concatenate([self.vectors, vectors])

    def remove(self, ids):
        if unknown := set(ids) - set(self.ids):
            raise OccframeError(f"no id {sorted(unknown)[0]!r}")
        kept = ~np.isin(self.ids, list(ids))
        self.ids, self.vectors = self.ids[kept], self.vectors[kept]

    def search(self, queries, k):
        """The best first, equal scores by id; where fewer than k exist -inf and ""."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        found = np.full((len(queries), k), "", object)
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{len(queries)} queries among {len(self)}\n")
        products = queries.astype(np.float32) @ self.vectors.T if len(self) else np.empty((len(queries), 0))
        for row, line in enumerate(products):
            best = np.lexsort([self.ids.astype(str), -line])[:k]
            scores[row, : len(best)], found[row, : len(best)] = line[best], self.ids[best]
        return Hits(scores, found)

    def save(self, url):
        """Into directory ``url`` of any file system."""
        make_dirs(url)
        data = io.BytesIO()
        vectors = np.empty((0, 0), np.float32) if self.vectors is None else self.vectors
        np.savez(data, ids=self.ids.astype(str), vectors=vectors)
        write_bytes(join(url, "index.npz"), data.getvalue())

    def load(self, url):
        if not exists(join(url, "index.npz")):
            raise OccframeError(f"there is no index at {url}", remedy="run the step `index` first")
        with np.load(io.BytesIO(read_bytes(join(url, "index.npz"))), allow_pickle=False) as saved:
            self.ids = saved["ids"].astype(object)
            self.vectors = saved["vectors"] if len(self.ids) else None
