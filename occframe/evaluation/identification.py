"""Closed-set identification: at which rank is the right person found?

The rank of a probe is the position of the first reference of its own identity in the list of all references, best
score first and equal scores by id (the order of ``Hits``). A reference with the probe's own id is no candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.errors import OccframeError
from occframe.evaluation.tables import PairSpace
from occframe.types import EmbeddingTable, Hits

_BLOCK = 2_000_000  # scores at a time


@dataclass(frozen=True)
class Ranking:
    """ranks: int64 [Q], 1 is best, 0 means not among the first ``depth``.

    best_rows: int64 [Q], the reference row of the first hit, -1 where there is none; best_scores: float32 [Q].
    mate_rows, mate_scores: of the first hit that shows the probe's person, -1 and -inf where the rank is 0.
    """

    ranks: np.ndarray
    best_rows: np.ndarray
    best_scores: np.ndarray
    mate_rows: np.ndarray
    mate_scores: np.ndarray
    depth: int


def rank_by_product(reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace) -> Ranking:
    """Exact ranks over all references, block by block. A probe without a mate gets rank 0."""
    order = space.reference_order  # columns by id, so that ties resolve by column
    vectors, subjects = reference.vectors[order], space.reference_subjects[order]
    column_of = np.argsort(order)
    ranks, best_rows = np.zeros(len(probe.ids), np.int64), np.empty(len(probe.ids), np.int64)
    mate_rows = np.empty(len(probe.ids), np.int64)
    best_scores, mate_scores = np.empty((2, len(probe.ids)), np.float32)
    step = max(1, _BLOCK // order.size)
    for start in range(0, len(probe.ids), step):
        rows = np.arange(start, min(start + step, len(probe.ids)))
        block = np.arange(rows.size)
        scores = probe.vectors[rows] @ vectors.T
        with_twin = np.flatnonzero(space.twins[rows] >= 0)
        scores[with_twin, column_of[space.twins[rows[with_twin]]]] = -np.inf
        first = scores.argmax(axis=1)
        best_scores[rows] = scores[block, first]
        best_rows[rows] = np.where(best_scores[rows] > -np.inf, order[first], -1)
        right = np.where(subjects == space.probe_subjects[rows, None], scores, -np.inf)
        mate = right.argmax(axis=1)[:, None]
        score = np.take_along_axis(right, mate, axis=1)
        ahead = (scores > score) | ((scores == score) & (np.arange(order.size) < mate))
        ranks[rows] = np.where(score[:, 0] > -np.inf, ahead.sum(axis=1) + 1, 0)
        mate_scores[rows], mate_rows[rows] = score[:, 0], np.where(ranks[rows] > 0, order[mate[:, 0]], -1)
    depth = order.size - int((space.twins >= 0).any())
    return Ranking(ranks, best_rows, best_scores, mate_rows, mate_scores, depth)


def rank_by_hits(reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace, hits: Hits) -> Ranking:
    """Ranks from a search of ``probe``'s rows among ``reference``; as deep as the search went.

    Raises OccframeError where the hits are not of these tables.
    """
    if hits.ids.shape[0] != len(probe.ids):
        raise OccframeError(
            f"the hits are of {hits.ids.shape[0]} queries, there are {len(probe.ids)} probes",
            remedy="search with the same embeddings that the condition names",
        )
    row_of: dict[str, int] = {name: row for row, name in enumerate(reference.ids)} | {"": -1}
    unknown = set(hits.ids.ravel()) - row_of.keys()
    if unknown:
        raise OccframeError(
            f"{len(unknown)} ids of the hits are not among the references, e.g. {min(unknown)!r}",
            remedy="search in an index of the reference embeddings",
        )
    rows = np.fromiter((row_of[name] for name in hits.ids.ravel()), np.int64, hits.ids.size).reshape(hits.ids.shape)
    # Its own picture, found among the hits, does not take a place from those behind it.
    counts = (rows >= 0) & (rows != space.twins[:, None])
    place = np.cumsum(counts, axis=1)
    right = counts & space.same(rows, np.arange(len(probe.ids))[:, None])
    queries = np.arange(len(probe.ids))
    first = counts.argmax(axis=1)
    any_hit, any_mate, mate = counts.any(axis=1), right.any(axis=1), right.argmax(axis=1)
    return Ranking(
        ranks=np.where(any_mate, place[queries, mate], 0),
        best_rows=np.where(any_hit, rows[queries, first], -1),
        best_scores=np.where(any_hit, hits.scores[queries, first], -np.inf).astype(np.float32),
        mate_rows=np.where(any_mate, rows[queries, mate], -1),
        mate_scores=np.where(any_mate, hits.scores[queries, mate], -np.inf).astype(np.float32),
        depth=min(hits.ids.shape[1], len(reference.ids)) - int((space.twins >= 0).any()),
    )


def cumulative_match(ranks: np.ndarray, depth: int) -> np.ndarray:
    """CMC: the share of probes found at rank k or better, for k = 1 … depth. ranks: int [Q], 0 = not found."""
    found = np.bincount(ranks[(ranks >= 1) & (ranks <= depth)], minlength=depth + 1)[1:]
    return np.cumsum(found) / ranks.size
