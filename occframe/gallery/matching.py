"""What every matcher needs beside its index: which id a row has, which rows are deleted, and hits in a defined order.

Index libraries number their rows and (on a GPU) can neither rename nor remove them, so ids and deletions are kept here.
A deleted row stays in the index, is searched past, and goes when ``must_compact``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from occframe.errors import OccframeError
from occframe.gallery.checks import check_new_ids
from occframe.types import Hits

#: Each deleted row makes every search ask for one more hit; beyond this, rewriting the index is cheaper.
MOST_DELETED = 256


class RowIds:
    """The ids of an index's rows, in the order they were added. ``len`` counts those that are not deleted."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self._row_of: dict[str, int] = {}
        self._rows = 0
        # One spare place at the end stays "": row -1 is "nothing found" in every index library.
        self._ids = np.full(1, "", object)
        self._alive = np.zeros(1, bool)
        self.append(ids)

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def deleted(self) -> int:
        """How many rows of the index are deleted: ask it for this many hits more than are wanted."""
        return self._rows - len(self._row_of)

    @property
    def must_compact(self) -> bool:
        return self.deleted > MOST_DELETED

    @property
    def ids(self) -> list[str]:
        """Of the rows that are not deleted, in order."""
        return list(self._ids[self.live_rows()])

    def live_rows(self) -> np.ndarray:
        """int64, ascending."""
        return np.flatnonzero(self._alive[: self._rows])

    def check_new(self, ids: Sequence[str]) -> None:
        """Raises OccframeError for an id that is empty, repeated, or there already: ask before changing the index."""
        check_new_ids(ids, self._row_of.keys())

    def append(self, ids: Sequence[str]) -> None:
        """The index got these rows at its end."""
        first, self._rows = self._rows, self._rows + len(ids)
        if self._rows >= len(self._ids):
            room = max(self._rows + 1, 2 * len(self._ids))
            self._ids = np.concatenate([self._ids[:first], np.full(room - first, "", object)])
            self._alive = np.concatenate([self._alive[:first], np.zeros(room - first, bool)])
        self._ids[first : self._rows] = ids
        self._alive[first : self._rows] = True
        self._row_of.update(zip(ids, range(first, self._rows), strict=True))

    def delete(self, ids: Sequence[str]) -> None:
        """Raises OccframeError, and deletes nothing, where an id is not there."""
        wanted = set(ids)
        if unknown := [item for item in wanted if item not in self._row_of]:
            raise OccframeError(
                f"the index has no id `{min(unknown)}` ({len(unknown)} of {len(wanted)} are unknown)",
                remedy="nothing was removed; leave out what is not there",
            )
        for item in wanted:
            row = self._row_of.pop(item)
            self._alive[row], self._ids[row] = False, ""

    def compact(self) -> None:
        """The index was rewritten: it holds ``live_rows()`` in their order and nothing else."""
        fresh = RowIds(self.ids)
        self._row_of, self._rows, self._ids, self._alive = fresh._row_of, fresh._rows, fresh._ids, fresh._alive

    def hits(self, scores: np.ndarray, rows: np.ndarray, k: int) -> Hits:
        """What an index found as ``Hits`` of width k. Arguments may be overwritten.

        scores: array [Q, m] float32, descending. rows: array [Q, m] int64, -1 where there was nothing; m is at least
        ``k + deleted``, or all rows. Equal scores come out in the order of their ids.
        """
        if self.deleted:
            rows[~self._alive[rows]] = -1
            kept = np.argsort(rows < 0, axis=1, kind="stable")[:, :k]
            scores, rows = np.take_along_axis(scores, kept, 1), np.take_along_axis(rows, kept, 1)
        if rows.shape[1] < k:
            room = ((0, 0), (0, k - rows.shape[1]))
            scores, rows = np.pad(scores, room), np.pad(rows, room, constant_values=-1)
        ids = self._ids[rows]
        scores[rows < 0] = -np.inf
        tied = (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] >= 0)
        for query in np.flatnonzero(tied.any(axis=1)):
            found = int((rows[query] >= 0).sum())
            order = sorted(range(found), key=lambda at: (-scores[query, at], ids[query, at]))
            ids[query, :found] = ids[query, order]
        return Hits(scores, ids)


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
