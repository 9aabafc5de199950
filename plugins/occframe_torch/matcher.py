"""The matcher ``torch``: exact search, gallery and queries in blocks, so that memory does not grow with either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.gallery.index_files import load_index, save_index
from occframe.gallery.matching import RowIds, check_rows, score_rows, search_past
from occframe.types import Hits
from occframe_torch.chunks import Chunks
from occframe_torch.configs import TorchConfig

#: With ``chunks.ROWS`` this bounds the scores held at a time to 64 MiB.
_QUERIES = 256
#: Found beyond k.
_SPARE = 4


class TorchMatcher:
    """Exact search by inner product, which is the cosine of normalised vectors. Fulfils ``occframe.types.Matcher``."""

    def __init__(self, config: TorchConfig, context: BuildContext) -> None:
        self._dtype = {"float32": torch.float32, "float16": torch.float16}[config.dtype]
        self._device = torch.device(context.device)
        self._ids = RowIds()
        self._chunks: Chunks | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def _dim(self) -> int | None:
        return self._chunks.dim if self._chunks else None

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """vectors: array [N, D] float32 or float16, L2-normalised.

        Raises OccframeError, and adds nothing: an id is there already, another D, not finite.
        """
        vectors = check_rows(vectors, self._dim, "vectors to add")
        if len(ids) != len(vectors):
            raise OccframeError(f"{len(ids)} ids for {len(vectors)} vectors", remedy="give one id a vector")
        self._ids.check_new(ids)
        if self._chunks is None:
            self._chunks = Chunks(vectors.shape[1], self._dtype, self._device)
        # torch warns of memory it cannot write, though it only reads this.
        self._chunks.append(torch.from_numpy(vectors if vectors.flags.writeable else vectors.copy()))
        self._ids.append(ids)

    def remove(self, ids: Sequence[str]) -> None:
        """The next search does not find them. Raises OccframeError, and removes nothing, where an id is not there."""
        self._ids.delete(ids)
        if self._ids.must_compact:
            self._compact()

    def search(self, queries: np.ndarray, k: int) -> Hits:
        """queries: array [Q, D] float32 or float16, normalised. k: at least 1; what exceeds the rows is -inf and "".

        Raises OccframeError: another D, or not finite.
        """
        queries = check_rows(queries, self._dim, "queries")
        if k < 1:
            raise OccframeError(f"k is {k}", remedy="ask for one hit at least")
        found = search_past(
            self._search,
            queries,
            k,
            rows=self._ids.rows if len(self) else 0,
            counts=self._ids.counts,
            nothing=-1,
            clean=not self._ids.deleted,
        )
        return self._ids.hits(found.scores, found.items)

    @torch.inference_mode()
    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert self._chunks is not None
        chunks, on_cpu = self._chunks, self._device.type == "cpu"
        # How a product is rounded depends on its shape: scored anew, a row has one score in whichever company, and
        # with some to spare the last place does not hang on it. On a GPU it would wait for the results of each block.
        wanted = min(k + _SPARE, len(chunks)) if on_cpu else k
        scores, rows = np.empty((len(queries), wanted), np.float32), np.empty((len(queries), wanted), np.int64)
        for start in range(0, len(queries), _QUERIES):
            block = slice(start, start + _QUERIES)
            best, where = self._best(chunks, torch.tensor(queries[block]), wanted)
            scores[block], rows[block] = best.cpu().numpy(), where.cpu().numpy()
        if not on_cpu:
            return scores, rows
        wide = queries.astype(np.float32, copy=False)
        return score_rows(wide, rows, lambda at: chunks.take(torch.from_numpy(at)).float().numpy(), k)

    def _best(self, chunks: Chunks, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best rows of all chunks. Returns scores [Q, k] float32, descending, and rows [Q, k] int64."""
        queries = queries.to(self._device, torch.float32)
        scores = queries.new_empty(len(queries), 0)
        rows = torch.empty(len(queries), 0, dtype=torch.int64, device=self._device)
        for first, chunk in chunks:
            found, at = torch.topk(queries @ chunk.float().T, min(k, len(chunk)))
            scores, rows = torch.cat([scores, found], 1), torch.cat([rows, at + first], 1)
            scores, order = torch.topk(scores, min(k, scores.shape[1]))
            rows = rows.gather(1, order)
        return scores, rows

    def save(self, url: str) -> None:
        """Into directory ``url`` of any file system. Removed rows are not in it."""
        self._compact()

        def write(file: BinaryIO) -> None:
            for _, chunk in self._chunks or ():
                file.write(chunk.cpu().numpy().data.cast("B"))

        details = {"dim": self._dim, "dtype": str(self._dtype).removeprefix("torch.")}
        save_index(url, matcher="torch", ids=self._ids.column, details=details, write=write)

    def load(self, url: str) -> None:
        """Replace what is there by a saved index, of either dtype. Raises OccframeError where it is damaged."""
        saved = load_index(url, matcher="torch")
        chunks = None
        with saved.open_vectors() as file:
            dim, dtype = saved.details["dim"], np.dtype(saved.details["dtype"])
            if dim is not None:
                chunks = Chunks(dim, self._dtype, self._device)
                while data := file.read(dim * dtype.itemsize * 8192):
                    chunks.append(torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(-1, dim)))
            if (len(chunks) if chunks else 0) != len(saved.ids):
                raise ValueError(f"{len(chunks) if chunks else 0} vectors for {len(saved.ids)} ids")
        self._ids, self._chunks = RowIds(saved.ids), chunks

    def _compact(self) -> None:
        if self._chunks is not None and self._ids.deleted:
            self._chunks.keep(torch.from_numpy(self._ids.live_rows()))
            self._ids.compact()
