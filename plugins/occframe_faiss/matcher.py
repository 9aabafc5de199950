"""The matcher ``faiss``: FAISS holds the rows of a profile; ids and deletions are kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.gallery.index_files import load_index, save_index
from occframe.gallery.matching import RowIds, check_rows, search_past
from occframe.storage import local_path
from occframe.types import Hits
from occframe_faiss.backend import gpu_numbers, load_faiss
from occframe_faiss.configs import FaissConfig
from occframe_faiss.inverted import Fetch
from occframe_faiss.profiles import make_rows, offers

_BLOCK = 1 << 20
#: Profiles whose results are those of a full search.
EXACT = ("flat", "fp16")


class FaissMatcher:
    """Search by inner product, which is the cosine of normalised vectors. Fulfils ``occframe.types.Matcher``.

    Raises OccframeError where FAISS is not installed or broken. On a GPU k is at most 2048.
    """

    offers = staticmethod(offers)

    def __init__(self, config: FaissConfig, context: BuildContext) -> None:
        self._faiss = load_faiss()
        self._config, self._context = config, context
        self._gpus = gpu_numbers(self._faiss, context.device, config.gpus)
        self._ids = RowIds()
        self._rows: Any = None
        self._dim: int | None = None
        self._fetch: Fetch | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def most_hits(self) -> int | None:
        """How many hits a search returns at most, None where any number."""
        return self._rows.most_hits if self._rows is not None else None

    @property
    def library(self) -> str:
        """What wrote the index files: another version may not read them alike."""
        return f"faiss {self._faiss.__version__}"

    def prepare(self, count: int, dim: int, sample: Callable[[int], np.ndarray]) -> None:
        """Before the first ``add`` of ``count`` rows: memory is taken once, and what must be trained is.

        sample: draws that many of the rows to come, at random over all of them; array [n, D].
        """
        self._dim = dim
        self._rows = make_rows(self._faiss, self._config, dim, self._gpus, self._context.device)
        if not self._rows.trained and count:
            drawn = check_rows(sample(min(count, self._rows.training_rows(count))), dim, "training vectors")
            self._rows.train(drawn, count, self._context.seed)
        self._rows.reserve(count)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """vectors: array [N, D] float32 or float16, L2-normalised; float16 goes into profile fp16 bit by bit.

        A profile that is trained and was not prepared learns from the first rows it is given.
        Raises OccframeError, and adds nothing: an id is there already, another D, not finite.
        """
        vectors = check_rows(vectors, self._dim, "vectors to add")
        self._check_count(ids, vectors)
        self._ids.check_new(ids)
        self._add(ids, vectors)

    def add_known(self, ids: pa.Array, vectors: np.ndarray) -> None:
        """As ``add``, for rows of a gallery: their ids, as Arrow strings, are known to be unique."""
        vectors = check_rows(vectors, self._dim, "vectors to add")
        self._check_count(ids, vectors)
        self._add(ids, vectors)

    @staticmethod
    def _check_count(ids: Sequence[str] | pa.Array, vectors: np.ndarray) -> None:
        if len(ids) != len(vectors):
            raise OccframeError(f"{len(ids)} ids for {len(vectors)} vectors", remedy="give one id a vector")

    def _add(self, ids: Sequence[str] | pa.Array, vectors: np.ndarray) -> None:
        if self._rows is None or not self._rows.trained:
            self.prepare(len(vectors), vectors.shape[1], lambda count: _some(vectors, count, self._context.seed))
        if len(vectors):
            self._rows.add(vectors)
            self._ids.append(ids)
            self._attach(None)

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
        wide = queries.astype(np.float32, copy=False)
        found = self._found(wide, k)
        if len(found.short) and self._ids.deleted:
            self._compact()  # too many deleted rows to search past within what a GPU returns
            found = self._found(wide, k)
        if len(found.short) and min(k, len(self)) > (self.most_hits or k):
            raise OccframeError(
                f"k is {k}, and FAISS returns at most {self.most_hits} hits on a GPU",
                remedy="ask for fewer, run on `device: cpu`, or write `matcher: torch`",
            )
        return self._ids.hits(found.scores, found.items)

    def _found(self, queries: np.ndarray, k: int) -> Any:
        return search_past(
            self._rows.search if self._rows is not None else _never,
            queries,
            k,
            rows=self._ids.rows if len(self) else 0,
            counts=self._ids.counts,
            nothing=-1,
            clean=not self._ids.deleted,
            most=self.most_hits,
        )

    def beside(self) -> FaissMatcher:
        """An empty exact matcher, for rows added after an index was built; its scores compare with this one's."""
        exact = self._config.profile if self._config.profile in EXACT else "fp16"
        return FaissMatcher(self._config.model_copy(update={"profile": exact}), self._context)

    def rerank_from(self, fetch: Fetch) -> None:
        """fetch: row numbers int64 [n], in the order rows were added -> array [n, D], their exact embeddings.

        Good until further rows are added, which it does not know. Without it ivf-rabitq gives estimated scores.
        """
        self._attach(fetch)

    def save(self, url: str) -> None:
        """Into directory ``url`` of any file system. Removed rows are not in it."""
        self._compact()
        index = self._rows.as_cpu() if self._rows is not None and self._rows.trained else None

        def write(file: BinaryIO) -> None:
            if index is not None:
                self._faiss.write_index(index, self._faiss.PyCallbackIOWriter(file.write, _BLOCK))

        details = {
            "profile": self._config.profile,
            "dim": self._dim,
            "library": self.library,
            "trained": index is not None,
        }
        save_index(url, matcher="faiss", ids=self._ids.column, details=details, write=write)

    def load(self, url: str) -> None:
        """Replace what is there by a saved index, mapped from a local file. Raises OccframeError: of another profile,
        or damaged."""
        saved = load_index(url, matcher="faiss")
        profile = saved.details.get("profile")
        if profile != self._config.profile:
            raise OccframeError(
                f"the index {url} has the profile {profile}, this matcher {self._config.profile}",
                remedy="write the same profile, or run the `index` step again",
            )
        dim, rows = saved.details.get("dim"), None
        if dim is not None:
            rows = make_rows(self._faiss, self._config, dim, self._gpus, self._context.device)
            if saved.details.get("trained", True):
                path = local_path(saved.vectors)
                with saved.open_vectors() as file:
                    if path is not None:
                        flags = self._faiss.IO_FLAG_MMAP_IFC
                        stored = self._faiss.read_index(str(path), flags)
                        reopen = partial(self._faiss.read_index, str(path))
                    else:
                        stored = self._faiss.read_index(self._faiss.PyCallbackIOReader(file.read, _BLOCK))
                        reopen = None
                    if (stored.d, stored.ntotal) != (dim, len(saved.ids)):
                        raise ValueError(f"it holds {stored.ntotal} × {stored.d}, not {len(saved.ids)} × {dim}")
                    rows.load(stored, reopen)
        self._ids, self._dim, self._rows, self._fetch = RowIds(saved.ids), dim, rows, None

    def _compact(self) -> None:
        if self._rows is not None and self._ids.deleted:
            kept, fetch = self._ids.live_rows(), self._fetch
            self._rows.keep(kept)
            self._ids.compact()
            if fetch is not None:
                self._attach(lambda rows: fetch(kept[rows]))

    def _attach(self, fetch: Fetch | None) -> None:
        if self._config.profile == "ivf-rabitq":
            self._fetch = fetch
            if self._rows is not None:
                self._rows.fetch = fetch


def _some(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    picked = np.random.default_rng(seed).choice(len(vectors), min(count, len(vectors)), replace=False)
    return vectors[np.sort(picked)]


def _never(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError("an index without rows is not searched")
