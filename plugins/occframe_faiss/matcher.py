"""The matcher ``faiss``: an exact FAISS index, with ids and deletions kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.gallery.index_files import load_index, save_index
from occframe.gallery.matching import RowIds, check_rows
from occframe.types import Hits
from occframe_faiss.backend import gpu_number, load_faiss
from occframe_faiss.configs import FaissConfig
from occframe_faiss.flat import CpuFlat, GpuFlat

_BLOCK = 1 << 20


class FaissMatcher:
    """Exact search by inner product, which is the cosine of normalised vectors. Fulfils ``occframe.types.Matcher``.

    Raises OccframeError where FAISS is not installed or broken. On a GPU k is at most 2048.
    """

    def __init__(self, config: FaissConfig, context: BuildContext) -> None:
        self._faiss = load_faiss()
        self._profile = config.profile
        self._gpu = gpu_number(self._faiss, context.device)
        self._ids = RowIds()
        self._index: CpuFlat | GpuFlat | None = None
        self._dim: int | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """vectors: array [N, D] float32 or float16, L2-normalised; float16 goes into profile fp16 bit by bit.

        Raises OccframeError, and adds nothing: an id is there already, another D, not finite.
        """
        vectors = check_rows(vectors, self._dim, "vectors to add")
        if len(ids) != len(vectors):
            raise OccframeError(f"{len(ids)} ids for {len(vectors)} vectors", remedy="give one id a vector")
        self._ids.check_new(ids)
        self._dim = vectors.shape[1]
        self._index = self._index or self._new_index(self._dim)
        self._index.add(vectors)
        self._ids.append(ids)

    def remove(self, ids: Sequence[str]) -> None:
        """The next search does not find them. Raises OccframeError, and removes nothing, where an id is not there."""
        self._ids.delete(ids)
        if self._ids.must_compact:
            self._compact()

    def search(self, queries: np.ndarray, k: int) -> Hits:
        """queries: array [Q, D] float32 or float16, normalised. k: at least 1; what exceeds the rows is -inf and "".

        Raises OccframeError: another D, not finite, or k beyond what the GPU can return.
        """
        queries = check_rows(queries, self._dim, "queries")
        if k < 1:
            raise OccframeError(f"k is {k}", remedy="ask for one hit at least")
        wanted = min(k + self._ids.deleted, len(self._ids) + self._ids.deleted)
        if self._index is None or not wanted or not len(queries):
            nothing = np.empty((len(queries), 0))
            return self._ids.hits(nothing.astype(np.float32), nothing.astype(np.int64), k)
        if self._index.most_hits is not None and wanted > self._index.most_hits:
            self._compact()
            wanted = min(k, len(self._ids))
            if wanted > self._index.most_hits:
                raise OccframeError(
                    f"k is {k}, and FAISS returns at most {self._index.most_hits} hits on a GPU",
                    remedy="ask for fewer, run on `device: cpu`, or write `matcher: torch`",
                )
        scores, rows = self._index.search(queries.astype(np.float32, copy=False), wanted)
        return self._ids.hits(scores, rows, k)

    def save(self, url: str) -> None:
        """Into directory ``url`` of any file system. Removed rows are not in it."""
        self._compact()
        index = self._index.as_cpu() if self._index else None

        def write(file: BinaryIO) -> None:
            if index is not None:
                self._faiss.write_index(index, self._faiss.PyCallbackIOWriter(file.write, _BLOCK))

        details = {"profile": self._profile, "dim": self._dim, "library": f"faiss {self._faiss.__version__}"}
        save_index(url, matcher="faiss", ids=self._ids.ids, details=details, write=write)

    def load(self, url: str) -> None:
        """Replace what is there by a saved index. Raises OccframeError: of another profile, or damaged."""
        saved = load_index(url, matcher="faiss")
        if saved.details.get("profile") != self._profile:
            raise OccframeError(
                f"the index {url} has the profile {saved.details.get('profile')}, this matcher {self._profile}",
                remedy="write the same profile, or run the `index` step again",
            )
        dim, index = saved.details.get("dim"), None
        if dim is not None:
            with saved.open_vectors() as file:
                stored = self._faiss.read_index(self._faiss.PyCallbackIOReader(file.read, _BLOCK))
                self._check(stored, dim, len(saved.ids))
                index = self._new_index(dim)
                index.load(stored)
        self._ids, self._dim, self._index = RowIds(saved.ids), dim, index

    def _check(self, stored: Any, dim: int, count: int) -> None:
        expected = type(CpuFlat(self._faiss, self._profile, dim).index)
        if not isinstance(stored, expected) or (stored.d, stored.ntotal) != (dim, count):
            raise ValueError(f"{type(stored).__name__} of {stored.ntotal} × {stored.d}, not {count} × {dim}")

    def _new_index(self, dim: int) -> CpuFlat | GpuFlat:
        if self._gpu is None:
            return CpuFlat(self._faiss, self._profile, dim)
        return GpuFlat(self._faiss, self._profile, dim, self._gpu)

    def _compact(self) -> None:
        if self._index is not None and self._ids.deleted:
            self._index.keep(self._ids.live_rows())
            self._ids.compact()
