"""What every matcher needs beside its index: which id a row has, which rows are deleted, and hits in a defined order.

Index libraries number their rows and (on a GPU) can neither rename nor remove them, so ids and deletions are kept here.
A deleted row stays in the index, is searched past, and goes when ``must_compact``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from occframe.errors import OccframeError
from occframe.gallery.checks import check_new_ids
from occframe.types import Hits

#: Searching past deleted rows costs little while they are few; beyond this share, rewriting the index is cheaper.
MOST_DELETED = 0.1
#: Hits asked for beyond k, so that a few that do not count seldom make a second search necessary.
_SPARE = 4
#: Rows scored anew at a time.
_RESCORED = 65_536

_NONE = np.empty(0, np.int64)
_NO_SCORES = np.empty((0, 0), np.float32)

#: Queries [q, D] and how many hits -> scores [q, n] float32 descending, and items [q, n]: row numbers or ids.
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class RowIds:
    """The ids of an index's rows, in the order they were added. ``len`` counts those that are not deleted.

    Kept as Arrow strings: ten million ids take their letters and eight bytes each, not a Python object.
    """

    def __init__(self, ids: Sequence[str] | pa.Array = ()) -> None:
        self._chunks: list[pa.Array] = []
        self._rows = 0
        self._alive: np.ndarray | None = None  # None while nothing is deleted
        self._known: set[str] | None = None  # made when it is first needed
        self.append(ids)

    def __len__(self) -> int:
        return self._rows if self._alive is None else int(np.count_nonzero(self._alive))

    @property
    def rows(self) -> int:
        """How many rows the index has, deleted ones too."""
        return self._rows

    @property
    def deleted(self) -> int:
        return self._rows - len(self)

    @property
    def must_compact(self) -> bool:
        return self.deleted > MOST_DELETED * self._rows

    @property
    def column(self) -> pa.Array:
        """LargeStringArray of the rows that are not deleted, in order."""
        return self._joined() if self._alive is None else self._joined().filter(pa.array(self._alive))

    @property
    def ids(self) -> list[str]:
        """Of the rows that are not deleted, in order."""
        ids: list[str] = self.column.to_pylist()
        return ids

    def live_rows(self) -> np.ndarray:
        """int64, ascending."""
        return np.arange(self._rows) if self._alive is None else np.flatnonzero(self._alive)

    def check_new(self, ids: Sequence[str]) -> None:
        """Raises OccframeError for an id that is empty, repeated, or there already: ask before changing the index."""
        if self._known is None:
            self._known = set(self.ids)
        check_new_ids(ids, self._known)

    def append(self, ids: Sequence[str] | pa.Array) -> None:
        """The index got these rows at its end."""
        fresh = (ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())).cast(pa.large_string())
        if not len(fresh):
            return
        self._chunks.append(fresh)
        self._rows += len(fresh)
        if self._alive is not None:
            self._alive = np.concatenate([self._alive, np.ones(len(fresh), bool)])
        if self._known is not None:
            self._known.update(fresh.to_pylist())

    def delete(self, ids: Sequence[str]) -> None:
        """Raises OccframeError, and deletes nothing, where an id is not there."""
        wanted = set(ids)
        if not wanted:
            return
        found = pc.is_in(self._joined(), value_set=pa.array(sorted(wanted), pa.large_string()))
        mask = found.to_numpy(zero_copy_only=False)
        if self._alive is not None:
            mask &= self._alive
        if np.count_nonzero(mask) < len(wanted):
            unknown = wanted - set(self._joined().filter(pa.array(mask)).to_pylist())
            raise OccframeError(
                f"the index has no id `{min(unknown)}` ({len(unknown)} of {len(wanted)} are unknown)",
                remedy="nothing was removed; leave out what is not there",
            )
        self._alive = ~mask if self._alive is None else self._alive & ~mask
        if self._known is not None:
            self._known -= wanted

    def compact(self) -> None:
        """The index was rewritten: it holds ``live_rows()`` in their order and nothing else."""
        if self._alive is not None:
            self._chunks, self._rows, self._alive = [self.column], len(self), None

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Which of ``rows`` (int64, any shape, -1 for none) are there and not deleted."""
        return rows >= 0 if self._alive is None else (rows >= 0) & self._alive[rows]

    def hits(self, scores: np.ndarray, rows: np.ndarray) -> Hits:
        """scores: array [Q, k] float32, descending. rows: array [Q, k] int64, -1 and -inf where there was nothing.

        Equal scores come out in the order of their ids.
        """
        flat = rows.ravel()
        missing = flat < 0
        ids = np.full(len(flat), "", object)
        if missing.any():
            ids[~missing] = self._joined().take(pa.array(flat[~missing])).to_pylist()
        else:
            ids[:] = self._joined().take(pa.array(flat)).to_pylist()
        return order_ties(Hits(scores, ids.reshape(rows.shape)))

    def _joined(self) -> pa.Array:
        if len(self._chunks) != 1:
            self._chunks = [pa.concat_arrays(self._chunks) if self._chunks else pa.array([], pa.large_string())]
        return self._chunks[0]


@dataclass(frozen=True)
class Found:
    """scores: array [Q, k] float32. items: array [Q, k], ``nothing`` where fewer were found.

    short: int64, the queries for which more than the index returns at a time would have been needed.
    """

    scores: np.ndarray
    items: np.ndarray
    short: np.ndarray


def search_past(
    search: Search,
    queries: np.ndarray,
    k: int,
    *,
    rows: int,
    counts: Callable[[np.ndarray], np.ndarray],
    nothing: int | str,
    clean: bool = False,
    most: int | None = None,
) -> Found:
    """The best k hits that count, from an index that also returns others.

    A query that came back with too few is asked again for four times as many, so the result is what an index without
    the others would give. rows: in the index. counts: which items do, a mask like its argument. clean: all of them.
    most: what the index returns at a time.
    """
    wanted = min(k if clean else k + _SPARE, rows, most or rows)
    scores, items = search(queries, wanted) if wanted and len(queries) else (_NO_SCORES, _NO_SCORES)
    good = None if clean else counts(items)
    if wanted >= k and len(queries) and (good is None or good[:, :k].all()):
        return Found(scores[:, :k], items[:, :k], _NONE)  # by far the most frequent case, and the quickest
    found = Found(
        np.full((len(queries), k), -np.inf, np.float32),
        np.full((len(queries), k), nothing, object if isinstance(nothing, str) else np.int64),
        _NONE,
    )
    left = np.arange(len(queries)) if wanted else _NONE
    while len(left):
        good = counts(items) if good is None else good
        # Fewer than were asked for: the index has no more, or an approximate one did not look further.
        done = (good.sum(axis=1) >= k) | (items[:, -1] == nothing) | (wanted == rows)
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]
        scores, items, good = (np.take_along_axis(array, order, 1) for array in (scores, items, good))
        width = scores.shape[1]
        found.scores[left, :width] = np.where(good, scores, -np.inf)
        found.items[left, :width] = np.where(good, items, nothing)
        left = left[~done]
        if not len(left) or wanted == most:
            break
        wanted = min(4 * wanted, rows, most or rows)
        scores, items = search(queries[left], wanted)
        good = None
    return Found(found.scores, found.items, left)


def score_rows(
    queries: np.ndarray, rows: np.ndarray, reconstruct: Callable[[np.ndarray], np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of ``rows`` by exact scores, always computed in the same order of additions: a row has the same score
    whichever way and in whichever company it was found.

    rows: int64 [Q, n], -1 for none. reconstruct: rows int64 [m] -> array [m, D] float32. Returns both as [Q, k].
    """
    scores = np.empty(rows.shape, np.float32)
    missing = rows < 0
    any_missing = bool(missing.any())
    step = max(1, _RESCORED // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        vectors = reconstruct((np.maximum(block, 0) if any_missing else block).ravel()).reshape(*block.shape, -1)
        np.einsum("qd,qnd->qn", queries[start : start + step], vectors, out=scores[start : start + step])
    if any_missing:
        scores[missing] = -np.inf
    if (scores[:, 1:] <= scores[:, :-1]).all():
        return scores[:, :k], rows[:, :k]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def order_ties(hits: Hits) -> Hits:
    """``hits``, whose arrays are changed: equal scores in the order of their ids."""
    scores, ids = hits.scores, hits.ids
    tied = scores[:, 1:] == scores[:, :-1]
    if not tied.any():
        return hits
    tied &= scores[:, 1:] > -np.inf
    for query in np.flatnonzero(tied.any(axis=1)):
        found = int((scores[query] > -np.inf).sum())
        order = sorted(range(found), key=lambda at: (-scores[query, at], ids[query, at]))
        ids[query, :found] = ids[query, order]
    return hits


def merge_hits(left: Hits, right: Hits, k: int) -> Hits:
    """The best k of both, equal scores in the order of their ids. Rows are the same queries; no id is in both."""
    scores = np.concatenate([left.scores, right.scores], axis=1)
    ids = np.concatenate([left.ids, right.ids], axis=1)
    if scores.shape[1] < k:
        room = ((0, 0), (0, k - scores.shape[1]))
        scores, ids = np.pad(scores, room, constant_values=-np.inf), np.pad(ids, room, constant_values="")
    # A little wider than k: what ties for the last place is chosen by id, too.
    order = np.argsort(-scores, axis=1, kind="stable")
    merged = order_ties(Hits(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)))
    return Hits(np.ascontiguousarray(merged.scores[:, :k]), np.ascontiguousarray(merged.ids[:, :k]))


def check_rows(vectors: np.ndarray, dim: int | None, what: str) -> np.ndarray:
    """``vectors`` as a C-contiguous array [n, D], float16 or float32 as it came.

    dim: of the index, None where nothing was added yet. Raises OccframeError: another shape or dtype, or not finite.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or dim not in (None, vectors.shape[1]) or vectors.shape[1] < 1:
        wanted = f"[n, {dim or 'D'}]"
        raise OccframeError(
            f"{what} have the shape {list(vectors.shape)}, not {wanted}", remedy="are they of this model?"
        )
    if vectors.dtype not in (np.float16, np.float32):
        raise OccframeError(f"{what} are {vectors.dtype}", remedy="convert them to float32 or float16")
    if not _all_finite(vectors):
        row = np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]
        raise OccframeError(f"{what}: row {row} is not finite", remedy="embed with `precision: fp32`")
    return np.ascontiguousarray(vectors)


def _all_finite(vectors: np.ndarray) -> bool:
    if not vectors.size:
        return True
    if vectors.dtype == np.float32:
        return bool(np.isfinite(vectors.max()) and np.isfinite(vectors.min()))
    # NumPy converts float16 one by one; its bits compare thirty times faster. Exponent bits all set: 0x7c00 and above
    # as signed numbers with the sign bit clear, 0xfc00 and above as unsigned ones with it set.
    return bool(vectors.view(np.int16).max() < 0x7C00 and vectors.view(np.uint16).max() < 0xFC00)
