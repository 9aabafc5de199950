"""Searching a gallery: an index, what was added since beside it, and nothing that was deleted.

The index is searched first. Rows that are deleted or filtered out are searched past; rows that came since are in a
second, exact matcher, whose hits are merged by score; and where an index cannot give as many hits as there are, the
rows are compared one by one, read from the Parquet parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from occframe.component import BuildContext, MatcherBlock
from occframe.errors import OccframeError
from occframe.gallery.filters import Allowed, Filter, allowed_rows
from occframe.gallery.fusion import Searchable
from occframe.gallery.indexing import (
    IndexRecord,
    build_matcher,
    fill,
    ids_of_rows,
    index_names,
    live_rows,
    load_index,
    read_record,
)
from occframe.gallery.manifest import MANIFEST, Part
from occframe.gallery.matching import check_rows, merge_hits, order_ties, search_past
from occframe.gallery.rows import RowReader
from occframe.gallery.snapshot import Snapshot
from occframe.gallery.store import Gallery
from occframe.storage import filesystem, join, local_path
from occframe.types import Hits, Matcher

#: A filter that leaves this many rows, or this share of them, is answered by comparing them one by one.
_FEW_ROWS = 20_000
_FEW_SHARE = 0.05
#: Rows compared at a time.
_BLOCK = 16_384
#: Where more rows than this tie for the last place, those among them that came first are taken.
_MOST_TIED = 1024
_NONE = np.empty(0, np.int64)


class GallerySearcher:
    """Finds what is in the gallery at the moment of the search, whoever added or deleted it."""

    def __init__(
        self, gallery: Gallery, matcher: Searchable, snapshot: Snapshot, beside: Callable[[], Matcher], name: str
    ) -> None:
        """matcher: holds the rows of ``snapshot``. beside: makes an empty exact matcher. Use ``open_searcher``."""
        self.gallery, self.name = gallery, name
        self._matcher, self._snapshot, self._make_beside = matcher, snapshot, beside
        self._dead: set[str] = set()  # ids of the index's rows that were deleted since
        self._dead_rows = 0
        self._beside = _Beside(beside)
        self._version: object = None
        self._manifest_version = manifest_watch(gallery.url)
        self._count = gallery.count
        self._allowed: tuple[Filter, int, Allowed] | None = None
        self._rows: tuple[int, RowReader, pa.Array] | None = None
        self.refresh()

    def __len__(self) -> int:
        return self.gallery.count

    def refresh(self) -> None:
        """See what was committed since; ``search`` does so itself.

        Raises OccframeError where the gallery was compacted or replaced: then the searcher has to be opened anew.
        """
        version = self._manifest_version()
        if version == self._version:
            return
        self.gallery.reload()
        changes = self.gallery.changes_since(self._snapshot)
        if changes is None:
            raise OccframeError(
                f"the index `{self.name}` was built from other contents than {self.gallery.url} now has",
                remedy=f"`occframe gallery index {self.gallery.url}` builds it anew, after compacting too",
            )
        if len(changes.deleted) != self._dead_rows:
            self._dead = set(ids_of_rows(self.gallery, self._snapshot, changes.deleted))
            self._dead_rows = len(changes.deleted)
        self._beside.follow(self.gallery, changes.added)
        self._version, self._count = version, self.gallery.count

    @property
    def beside(self) -> int:
        """Rows that the index lacks."""
        return len(self._beside)

    @property
    def deleted(self) -> int:
        """Rows of the index that must not be found."""
        return self._dead_rows

    def search(self, queries: np.ndarray, k: int, only: Filter | None = None) -> Hits:
        """queries: array [Q, D] float32 or float16, normalised. k: at least 1; what exceeds the rows is -inf and "".

        only: whom the search may find. Raises OccframeError: another D, not finite, or a damaged gallery.
        """
        self.refresh()
        queries = check_rows(queries, self.gallery.dim, "queries")
        if k < 1:
            raise OccframeError(f"k is {k}", remedy="ask for one hit at least")
        if only is None:
            return self._search(queries, k, None)
        allowed = self._allowed_rows(only)
        if len(allowed.rows) <= max(_FEW_ROWS, _FEW_SHARE * self.gallery.count):
            return self.compare(queries, k, allowed.rows)
        return self._search(queries, k, allowed)

    def _search(self, queries: np.ndarray, k: int, allowed: Allowed | None) -> Hits:
        """Where equal scores reach across the last place, more is asked for until all of them are known: so the first
        ids are taken, in whichever order rows came or were shared out."""
        most = getattr(self._matcher, "most_hits", None)
        wanted = k if most is not None and k >= most else k + 1
        hits = self._nearest(queries, wanted, k, allowed)
        tied = _tied(hits, k)
        last = min(_MOST_TIED + k, most or self._count, self._count)
        while len(tied) and wanted < last:
            wanted = min(4 * wanted, last)
            wider = self._nearest(queries[tied], wanted, k, allowed)
            hits.scores[tied, :k], hits.ids[tied, :k] = wider.scores[:, :k], wider.ids[:, :k]
            tied = tied[_tied(wider, k)]
        return hits if hits.ids.shape[1] == k else Hits(hits.scores[:, :k].copy(), hits.ids[:, :k].copy())

    def _nearest(self, queries: np.ndarray, wanted: int, k: int, allowed: Allowed | None) -> Hits:
        """The best ``wanted``, of which k must be found if there are so many."""
        counts = _Counts(self._dead, allowed)
        found = search_past(
            lambda asked, count: _pair(self._matcher.search(asked, count)),
            queries,
            wanted,
            rows=len(self._matcher),
            counts=counts,
            nothing="",
            clean=not self._dead and allowed is None,
            most=getattr(self._matcher, "most_hits", None),
        )
        hits, short = Hits(found.scores, found.items), found.short
        if len(self._beside):
            fresh = search_past(
                lambda asked, count: _pair(self._beside.matcher.search(asked, count)),
                queries,
                wanted,
                rows=len(self._beside),
                counts=_Counts(set(), allowed),
                nothing="",
                clean=allowed is None,
                most=getattr(self._beside.matcher, "most_hits", None),
            )
            hits = merge_hits(hits, Hits(fresh.scores, fresh.items), wanted)
            short = np.union1d(short, fresh.short) if len(short) or len(fresh.short) else short
        there = self._count if allowed is None else len(allowed.rows)
        # An approximate index stops looking: with a filter, or past deleted rows, that may be before k were found.
        lacking = hits.ids[:, min(k, there) - 1] == "" if there else _NONE
        if len(short) or lacking.any():
            short = np.union1d(short, np.flatnonzero(lacking))
            rows = np.arange(there) if allowed is None else allowed.rows
            exact = self.compare(queries[short], wanted, rows)
            hits.scores[short], hits.ids[short] = exact.scores, exact.ids
        return hits

    def compare(self, queries: np.ndarray, k: int, rows: np.ndarray) -> Hits:
        """Exact search among some rows, read from the parts. rows: int64, ascending, as in ``Gallery.open_rows``."""
        if self._rows is None or self._rows[0] != self.gallery.generation:
            self._rows = self.gallery.generation, self.gallery.open_rows(), self.gallery.read_ids()
        _, reader, ids = self._rows
        wide = queries.astype(np.float32, copy=False)
        scores, found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            product = wide @ reader.take(block).astype(np.float32, copy=False).T
            scores = np.concatenate([scores, product], 1)
            found = np.concatenate([found, np.broadcast_to(block, product.shape)], 1)
            if scores.shape[1] > k:
                best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                scores, found = np.take_along_axis(scores, best, 1), np.take_along_axis(found, best, 1)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, found = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        names = ids.take(pa.array(found.ravel())).to_numpy(zero_copy_only=False).reshape(found.shape).astype(object)
        room = ((0, 0), (0, k - scores.shape[1]))
        return order_ties(Hits(np.pad(scores, room, constant_values=-np.inf), np.pad(names, room, constant_values="")))

    def _allowed_rows(self, only: Filter) -> Allowed:
        if self._allowed is None or self._allowed[:2] != (only, self.gallery.generation):
            self._allowed = only, self.gallery.generation, allowed_rows(self.gallery, only)
        return self._allowed[2]


class _Beside:
    """The rows added since the index was built, in an exact matcher of their own."""

    def __init__(self, make: Callable[[], Matcher]) -> None:
        self._make = make
        self.matcher = make()
        self._parts: dict[str, Part] = {}

    def __len__(self) -> int:
        return len(self.matcher)

    def follow(self, gallery: Gallery, parts: tuple[Part, ...]) -> None:
        now = {part.sha256: part for part in parts}
        if not self._parts.keys() <= now.keys() or any(
            not set(before.tombstones) <= set(now[digest].tombstones) for digest, before in self._parts.items()
        ):
            self.matcher, self._parts = self._make(), {}  # small parts were joined by compacting
        for digest, before in self._parts.items():
            if before != now[digest]:
                self.matcher.remove(_ids_gone(gallery, before, now[digest]))
        fill(self.matcher, live_rows(gallery, [part for part in parts if part.sha256 not in self._parts]))
        self._parts = now


def _ids_gone(gallery: Gallery, before: Part, now: Part) -> list[str]:
    alive = np.delete(np.arange(before.rows), np.asarray(before.tombstones, np.int64))
    gone = np.flatnonzero(np.isin(alive, now.tombstones))
    return ids_of_rows(gallery, Snapshot(rows_schema=gallery.schema, parts=(before,)), gone)


@dataclass(frozen=True)
class _Counts:
    """Which hits count: a mask over an array of ids."""

    dead: set[str]
    allowed: Allowed | None

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        flat, dead, allowed = ids.ravel().tolist(), self.dead, self.allowed
        if allowed is None:
            mask = [bool(name) and name not in dead for name in flat]
        else:
            mask = [bool(name) and name in allowed and name not in dead for name in flat]
        return np.array(mask, bool).reshape(ids.shape)


def _tied(hits: Hits, k: int) -> np.ndarray:
    """The queries whose score at place k is also that of the last hit: there may be more of it. int64."""
    scores = hits.scores
    if scores.shape[1] <= k:
        return _NONE
    return np.flatnonzero((scores[:, k - 1] == scores[:, -1]) & (scores[:, k - 1] > -np.inf))


def _pair(hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    return hits.scores, hits.ids


def subjects_of(gallery: Gallery, ids: Collection[str]) -> dict[str, str]:
    """The subject of each of ``ids``, which are in the gallery."""
    wanted = pa.array(sorted(ids), pa.large_string())
    found: dict[str, str] = {}
    for part in gallery.parts if len(wanted) else ():
        names = gallery.read_ids([part])
        at = pa.array(np.flatnonzero(pc.is_in(names, value_set=wanted).to_numpy(zero_copy_only=False)))
        subjects = gallery.read_ids([part], column="subject").take(at)
        found |= dict(zip(names.take(at).to_pylist(), subjects.to_pylist(), strict=True))
    return found


def manifest_watch(url: str) -> Callable[[], object]:
    """A function whose result changes when the gallery is committed to: cheap enough to ask before every search."""
    where = join(url, MANIFEST)
    path = local_path(where)

    def gone() -> OccframeError:
        return OccframeError(f"the gallery {url} is gone: no {MANIFEST}", remedy="check the path")

    def local() -> object:
        try:
            status = os.stat(name)  # noqa: PTH116 - a Path costs more than the call
        except FileNotFoundError as error:
            raise gone() from error
        return status.st_mtime_ns, status.st_ino, status.st_size

    def remote() -> object:
        fs.invalidate_cache(name)
        try:
            info = fs.info(name)
        except FileNotFoundError as error:
            raise gone() from error
        return tuple(str(info.get(key)) for key in ("ETag", "LastModified", "mtime", "created", "size"))

    if path is not None:
        name = str(path)
        return local
    fs, name = filesystem(where)
    return remote


def open_searcher(url: str, build: BuildContext, *, index: str | None = None) -> GallerySearcher:
    """A searcher of the gallery at ``url``. index: its name; None for the only one there is.

    Raises OccframeError: no gallery, no index of that name, several and none named, or one that does not fit: built
    from other contents, of another model, or by another version of its library.
    """
    gallery = Gallery.open(url)
    names = index_names(url)
    if index is None:
        if len(names) != 1:
            raise OccframeError(
                f"the gallery {url} has {len(names) or 'no'} indexes{': ' if names else ''}{', '.join(names)}",
                remedy=f"name one with --index, or build one: `occframe gallery index {url}`",
            )
        index = names[0]
    record: IndexRecord = read_record(url, index)
    if gallery.changes_since(record.details.snapshot) is None:
        raise OccframeError(
            f"the index `{index}` was built from other contents than {url} now has",
            remedy=f"`occframe gallery index {url}` builds it anew, after compacting too",
        )
    block, matcher = load_index(gallery, index, record, build)
    return GallerySearcher(
        gallery, matcher, record.details.snapshot, lambda: beside_of(matcher, block, build, gallery.dim), index
    )


def search_in_memory(
    url: str, block: MatcherBlock, build: BuildContext, advance: Callable[[int], None] = lambda rows: None
) -> GallerySearcher:
    """A searcher whose index is built now and kept nowhere: for galleries small enough to read every time."""
    gallery = Gallery.open(url)
    matcher = build_matcher(gallery, block, build, advance)
    return GallerySearcher(
        gallery, matcher, gallery.snapshot, lambda: beside_of(matcher, block, build, gallery.dim), "in memory"
    )


def beside_of(matcher: Matcher, block: MatcherBlock, build: BuildContext, dim: int) -> Matcher:
    """An empty exact matcher for what comes after the index."""
    offered = getattr(matcher, "beside", None)
    made: Matcher = offered() if offered is not None else build.build(block, embedding_dim=dim)
    return made
