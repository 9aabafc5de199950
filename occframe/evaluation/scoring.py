"""Scores of pairs: cosines of listed pairs, or of every reference with every probe, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from occframe.evaluation.pairs import Pairs
from occframe.evaluation.tables import PairSpace
from occframe.types import EmbeddingTable

_BLOCK = 2_000_000  # scores at a time: 8 MB, with its masks about the size of a last-level cache


class ScoredPair(NamedTuple):
    reference_row: int
    probe_row: int
    score: float


@dataclass(frozen=True)
class PairScores:
    """genuine: float32 [G], impostor: float32 [I], any order; lowest_genuine, highest_impostor: worst first."""

    genuine: np.ndarray
    impostor: np.ndarray
    lowest_genuine: list[ScoredPair]
    highest_impostor: list[ScoredPair]


def score_pairs(reference: EmbeddingTable, probe: EmbeddingTable, pairs: Pairs) -> np.ndarray:
    """Cosine of each listed pair: float32 [P]."""
    scores = np.empty(pairs.same.size, np.float32)
    step = max(1, _BLOCK // reference.vectors.shape[1])
    for start in range(0, scores.size, step):
        part = slice(start, start + step)
        first, second = reference.vectors[pairs.reference_rows[part]], probe.vectors[pairs.probe_rows[part]]
        scores[part] = np.einsum("pd,pd->p", first, second)
    return scores


def split_scores(scores: np.ndarray, pairs: Pairs, *, keep: int) -> PairScores:
    """Genuine and impostor apart. keep: how many of the worst of each to name."""
    worst = {True: _Worst(keep, sign=1), False: _Worst(keep, sign=-1)}
    for kind, list_ in worst.items():
        of_kind = np.flatnonzero(pairs.same == kind)
        list_.add(scores[of_kind], pairs.reference_rows[of_kind], pairs.probe_rows[of_kind])
    return PairScores(scores[pairs.same], scores[~pairs.same], worst[True].pairs(), worst[False].pairs())


def score_cross(reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace, *, keep: int) -> PairScores:
    """Every pair of ``space``. Needs four bytes a pair, never a matrix of all of them."""
    genuine_count, impostor_count = space.counts()
    scores_of = {True: np.empty(genuine_count, np.float32), False: np.empty(impostor_count, np.float32)}
    worst = {True: _Worst(keep, sign=1), False: _Worst(keep, sign=-1)}
    filled = {True: 0, False: 0}
    rows = np.arange(len(reference.ids))
    step = max(1, _BLOCK // rows.size)
    for start in range(0, len(probe.ids), step):
        columns = np.arange(start, min(start + step, len(probe.ids)))[:, None]
        scores = probe.vectors[columns[:, 0]] @ reference.vectors.T
        valid, same = space.valid(rows, columns), space.same(rows, columns)
        for kind, of_kind in ((True, valid & same), (False, valid & ~same)):
            found = scores[of_kind]
            scores_of[kind][filled[kind] : filled[kind] + found.size] = found
            filled[kind] += found.size
            near = np.flatnonzero(worst[kind].admits(scores) & of_kind)
            worst[kind].add(scores.ravel()[near], near % rows.size, near // rows.size + start)
    return PairScores(scores_of[True], scores_of[False], worst[True].pairs(), worst[False].pairs())


class _Worst:
    """The ``keep`` lowest (sign 1) or highest (sign -1) scores seen so far, with their rows."""

    def __init__(self, keep: int, *, sign: int) -> None:
        self._keep, self._sign = keep, sign
        self._scores, self._rows = np.empty(0, np.float32), np.empty((2, 0), np.int64)

    def admits(self, scores: np.ndarray) -> np.ndarray:
        if self._scores.size < self._keep:
            return np.ones(scores.shape, bool)
        return scores * self._sign < (self._scores[-1] * self._sign if self._keep else -np.inf)

    def add(self, scores: np.ndarray, reference_rows: np.ndarray, probe_rows: np.ndarray) -> None:
        scores = np.concatenate([self._scores, scores])
        rows = np.concatenate([self._rows, np.stack([reference_rows, probe_rows])], axis=1)
        order = np.argsort(scores * self._sign, kind="stable")[: self._keep]
        self._scores, self._rows = scores[order], rows[:, order]

    def pairs(self) -> list[ScoredPair]:
        columns = (*self._rows.tolist(), self._scores.tolist())
        return [ScoredPair(*pair) for pair in zip(*columns, strict=True)]
