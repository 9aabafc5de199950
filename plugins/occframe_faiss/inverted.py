"""Inverted lists: rows sorted by the nearest of many centroids, of which a query looks into a few.

``ivf-fp16`` keeps float16 rows, so the scores of what it finds are exact. ``ivf-rabitq`` keeps one bit a dimension
(RaBitQ, Gao and Long, SIGMOD 2024) and re-ranks its best candidates by the exact rows, which stay in the gallery.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from occframe.errors import OccframeError
from occframe.gallery.matching import score_rows
from occframe_faiss.configs import FaissConfig

#: k-means sees this many rows a centroid; more changes the recall by less than a training with another seed does.
TRAINING_ROWS = 64
#: Bits of a query's coordinates while it is compared with RaBitQ codes.
_QUERY_BITS = 8

Fetch = Callable[[np.ndarray], np.ndarray]


def default_lists(count: int) -> int:
    """About 2 √count, a power of two, each with TRAINING_ROWS rows at least."""
    wanted = 2 ** round(math.log2(2 * math.sqrt(max(count, 1))))
    return max(1, min(wanted, count // TRAINING_ROWS))


def default_probes(lists: int) -> int:
    return max(1, min(lists, max(8, lists // 8)))


class Ivf:
    """``IndexIVFScalarQuantizer`` or ``IndexIVFRaBitQ`` on a CPU, with row numbers as its ids."""

    most_hits: int | None = None

    def __init__(self, faiss: ModuleType, config: FaissConfig, dim: int) -> None:
        self._faiss, self._config, self._dim = faiss, config, dim
        self._coded = config.profile == "ivf-rabitq"
        self.index: Any = None
        self._reopen: Callable[[], Any] | None = None
        #: Reads exact embeddings by row number, for re-ranking.
        self.fetch: Fetch | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal) if self.index is not None else 0

    @property
    def trained(self) -> bool:
        return self.index is not None

    def training_rows(self, count: int) -> int:
        return TRAINING_ROWS * (self._config.lists or default_lists(count))

    def train(self, sample: np.ndarray, count: int, seed: int) -> None:
        """sample: array [n, D], rows drawn at random. count: how many rows are expected in all."""
        lists = min(self._config.lists or default_lists(count), len(sample))
        self.index = self._untrained(lists)
        self.index.cp.seed = seed % 2**31
        self.index.cp.min_points_per_centroid = 1  # FAISS would print a warning; the planner says what is sensible
        if not self._coded:
            self.index.by_residual = False  # the codes are the float16 rows themselves, and scores are exact
        self.index.train(sample.astype(np.float32, copy=False))
        self._set_probes()

    def _untrained(self, lists: int) -> Any:
        # Not by FAISS's index_factory: it parses its text in a way that fails beside some builds of the C++ library.
        faiss, metric = self._faiss, self._faiss.METRIC_INNER_PRODUCT
        centres = faiss.IndexFlat(self._dim, metric)
        if self._coded:
            index = faiss.IndexIVFRaBitQ(centres, self._dim, lists, metric)
        else:
            kind = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(centres, self._dim, lists, kind, metric)
        index.own_fields = True
        centres.this.disown()  # the index frees them
        return index

    def _set_probes(self) -> None:
        self.index.nprobe = min(self._config.probes or default_probes(self.index.nlist), self.index.nlist)
        if self._coded:
            self.index.qb = _QUERY_BITS

    def reserve(self, rows: int) -> None:
        pass  # lists grow one by one

    def add(self, vectors: np.ndarray) -> None:
        self._own()
        self.index.add(vectors.astype(np.float32, copy=False))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if not self._coded or self.fetch is None:
            scores, rows = self.index.search(queries, k)
            return scores, rows
        wanted = min(max(10 * k, self._config.candidates), len(self))
        _, rows = self.index.search(queries, wanted)
        fetch = self.fetch
        return score_rows(queries, rows, lambda at: fetch(at).astype(np.float32, copy=False), k)

    def keep(self, rows: np.ndarray) -> None:
        """rows: int64, ascending."""
        self._own()
        gone = np.setdiff1d(np.arange(len(self)), rows, assume_unique=True)
        renumbered = np.full(len(self), -1, np.int64)
        renumbered[rows] = np.arange(len(rows))
        self.index.remove_ids(gone)
        lists = self.index.invlists
        for number in range(self.index.nlist):
            if size := lists.list_size(number):
                ids = self._faiss.rev_swig_ptr(lists.get_ids(number), size)
                ids[:] = renumbered[ids]

    def as_cpu(self) -> Any:
        return self.index

    def load(self, index: Any, reopen: Callable[[], Any] | None) -> None:
        kind = self._faiss.IndexIVFRaBitQ if self._coded else self._faiss.IndexIVFScalarQuantizer
        if not isinstance(index, kind):
            raise ValueError(f"it holds {type(index).__name__}")
        self.index, self._reopen = index, reopen
        self._set_probes()

    def _own(self) -> None:
        """A mapped index aborts the process when it is changed."""
        if self._reopen is not None:
            self.index, self._reopen = self._reopen(), None
            self._set_probes()


class GpuIvf(Ivf):
    """Rows are kept by the index on the CPU, mapped from its file where there is one; GPUs search a copy of it."""

    most_hits: int | None = 2048

    def __init__(self, faiss: ModuleType, config: FaissConfig, dim: int, gpus: list[int]) -> None:
        super().__init__(faiss, config, dim)
        self._gpus = gpus
        self._copy: Any = None

    def add(self, vectors: np.ndarray) -> None:
        self._copy = None
        super().add(vectors)

    def keep(self, rows: np.ndarray) -> None:
        self._copy = None
        super().keep(rows)

    def load(self, index: Any, reopen: Callable[[], Any] | None) -> None:
        self._copy = None
        super().load(index, reopen)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._copy is None:
            self._copy = self._to_gpus()
        scores, rows = self._copy.search(queries, k)
        return scores, rows

    def _to_gpus(self) -> Any:
        faiss, scratch = self._faiss, int(self._config.gpu_scratch * 2**30)
        if self.index.nprobe > self.most_hits:
            raise OccframeError(
                f"`probes` is {self.index.nprobe}, and FAISS looks into at most {self.most_hits} lists on a GPU",
                remedy="write fewer, or run on `device: cpu`",
            )
        # Kept: an index on a GPU does not own the scratch memory it works in.
        self._resources = [faiss.StandardGpuResources() for _ in self._gpus]
        for resources in self._resources:
            resources.setTempMemory(scratch)
        if len(self._gpus) == 1:
            copy = faiss.index_cpu_to_gpu(self._resources[0], self._gpus[0], self.index)
        else:
            options = faiss.GpuMultipleClonerOptions()
            options.shard = True  # the default puts all rows on every GPU
            copy = faiss.index_cpu_to_gpu_multiple_py(self._resources, self.index, options, gpus=self._gpus)
        return copy
