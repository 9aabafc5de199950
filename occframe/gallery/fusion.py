"""Two embeddings of one probe, such as with its glasses removed and as it was photographed, searched as one.

The score of a face is the greater or the mean of its two cosines. Both are exact for a matcher that is: the k faces of
the greatest maximum are among the k nearest of either embedding, and the mean of two cosines with a face is its product
with the mean of the two embeddings.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from occframe.types import Hits

Fusion = Literal["removed", "original", "max", "mean"]


class Searchable(Protocol):
    """A matcher, one in shares, or a gallery's searcher."""

    def __len__(self) -> int: ...
    def search(self, queries: np.ndarray, k: int) -> Hits: ...


def fuse_scores(removed: np.ndarray, original: np.ndarray, how: Fusion) -> np.ndarray:
    """Scores of the same pairs, arrays of one shape, as one score each: for pairs that are listed, not searched."""
    if how in ("removed", "original"):
        return removed if how == "removed" else original
    fused: np.ndarray = np.maximum(removed, original) if how == "max" else (removed + original) / 2
    return fused


def fused_search(matcher: Searchable, removed: np.ndarray, original: np.ndarray, k: int, how: Fusion) -> Hits:
    """The k faces of the highest fused score for each probe. removed, original: arrays [Q, D], normalised."""
    if how == "max":
        return _greater(matcher.search(removed, k), matcher.search(original, k))
    if how == "mean":
        middle = (removed.astype(np.float32) + original.astype(np.float32)) / 2
        length = np.linalg.norm(middle, axis=1, keepdims=True)
        found = matcher.search(middle / np.maximum(length, 1e-12), k)
        # Where nothing was found the score is minus infinity, which times a length of nought were no number.
        return Hits(np.where(found.ids == "", found.scores, found.scores * length).astype(np.float32), found.ids)
    return matcher.search(removed if how == "removed" else original, k)


def _greater(first: Hits, second: Hits) -> Hits:
    """Each face once, by the greater of its scores; equal scores by id."""
    k = first.ids.shape[1]
    scores, ids = np.full(first.scores.shape, -np.inf, np.float32), np.full(first.ids.shape, "", object)
    for query in range(len(ids)):
        best: dict[str, float] = {}
        for hits in (first, second):
            for name, score in zip(hits.ids[query].tolist(), hits.scores[query].tolist(), strict=True):
                if name:
                    best[name] = max(score, best.get(name, score))
        for rank, (name, score) in enumerate(sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]):
            ids[query, rank], scores[query, rank] = name, score
    return Hits(scores, ids)
