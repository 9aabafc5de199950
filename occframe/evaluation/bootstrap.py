"""Confidence intervals: how much would a figure change with other people?

People, not pairs, are what a test set is a sample of (Bolle, Ratha and Pankanti, "Error analysis of pattern recognition
systems: the subsets bootstrap", 2004). A round draws as many subjects as there are, with replacement. A pair of two
people counts as often as both were drawn together, a pair of one person as often as that person was. The same seed
draws the same people for every system and condition, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from occframe.evaluation.scoring import PairScores
from occframe.evaluation.tables import PairSpace
from occframe.evaluation.verification import DISTANCE_GRID
from occframe.types import Interval

LEVEL = 0.95


def draws(subjects: int, *, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """How often each subject was drawn: float64 [subjects], ``rounds`` times."""
    draw = np.random.default_rng(seed)
    for _ in range(rounds):
        yield np.bincount(draw.integers(subjects, size=subjects), minlength=subjects).astype(np.float64)


def interval(rounds: Sequence[float] | np.ndarray, drawn: str = "") -> Interval | None:
    """The percentile interval; None where fewer than half of the rounds have the figure. drawn: who, as a digest."""
    values = np.asarray(rounds, np.float32)
    known = values[np.isfinite(values)]
    if 2 * known.size <= values.size:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), values, LEVEL, drawn)


def intervals(
    space: PairSpace, figures: Callable[[np.ndarray], Mapping[str, float]], *, rounds: int, seed: int
) -> dict[str, Interval]:
    """figures: of a round, by name, from how often each person was drawn -> their intervals."""
    gathered: dict[str, list[float]] = {}
    for drawn in draws(space.people, rounds=rounds, seed=seed):
        for name, value in figures(drawn).items():
            gathered.setdefault(name, []).append(value)
    who = f"{space.people_digest}-{seed}"
    found = {name: interval(values, who) for name, values in gathered.items()}
    return {name: item for name, item in found.items() if item is not None}


@dataclass(frozen=True)
class WeightedPairs:
    """Scores of pairs and whose they are, ready to be counted again and again with other weights.

    weight of all impostor pairs of a round: ``impostors_of(drawn)``; the sampled part of the kept ones makes up for
    what was not kept.
    """

    scores: PairScores
    genuine_subjects: np.ndarray
    impostor_subjects: np.ndarray  # [2, n]
    impostors_of: Callable[[np.ndarray], float] | None
    above: np.ndarray  # genuine pairs that score above each kept impostor pair
    at_least: np.ndarray

    @classmethod
    def of(cls, scores: PairScores, space: PairSpace) -> WeightedPairs:
        genuine, impostor = scores.genuine, scores.impostor
        ascending = genuine.scores[::-1]
        above, at_least = (
            ascending.size - np.searchsorted(ascending, impostor.scores, side) for side in ("right", "left")
        )
        subjects = np.stack(
            [space.reference_subjects[impostor.reference_rows], space.probe_subjects[impostor.probe_rows]]
        )
        whose = space.probe_subjects[genuine.probe_rows]
        complete = impostor.exact == impostor.total
        return cls(scores, whose, subjects, None if complete else space.weighted_impostors, above, at_least)

    def figures(self, drawn: np.ndarray, fars: Sequence[float]) -> dict[str, float]:
        """``tar@far=…`` by rate (``repr``), ``eer``, ``auc`` and ``d-prime``; NaN where nobody fit was drawn."""
        genuine, impostor = self.scores.genuine, self.scores.impostor
        of_genuine = drawn[self.genuine_subjects]
        accepted = np.concatenate([[0.0], np.cumsum(of_genuine)])
        genuines = accepted[-1]
        weights = drawn[self.impostor_subjects[0]] * drawn[self.impostor_subjects[1]]
        if self.impostors_of is not None:
            exact, sampled = weights[: impostor.exact], weights[impostor.exact :]
            sampled *= max(0.0, self.impostors_of(drawn) - exact.sum()) / max(1.0, sampled.sum())
        false = np.cumsum(weights)
        impostors = false[-1] if false.size else 0.0
        if not genuines or not impostors:
            return dict.fromkeys([*map(repr, fars), "eer", "auc", "d-prime"], np.nan)
        tar_above, tar_at = accepted[self.above] / genuines, accepted[self.at_least] / genuines
        figures = {}
        for far in fars:
            beyond = int(np.searchsorted(false, far * impostors * (1 + 1e-12), side="right"))
            figures[repr(far)] = float(tar_above[beyond]) if beyond < false.size else 1.0
        figures["eer"] = _crossing(false / impostors, 1.0 - tar_at)
        figures["auc"] = float(_sum_of_products(weights, tar_above + tar_at) / (2 * impostors))
        mean, variance = _moments(genuine.scores, of_genuine, genuines)
        other_mean, other_variance = _moments(impostor.scores, weights, impostors)
        spread = np.sqrt((variance + other_variance) / 2)
        figures["d-prime"] = float((mean - other_mean) / spread) if spread > 1e-9 else np.nan
        return figures


@dataclass(frozen=True)
class WeightedFolds:
    """Accuracy over folds with other weights: right decisions by fold and value of ``DISTANCE_GRID``."""

    same: np.ndarray
    subjects: np.ndarray  # [2, P]
    cell: np.ndarray  # int64 [P], fold and first grid value that accepts the pair
    folds: int

    @classmethod
    def of(
        cls, scores: np.ndarray, same: np.ndarray, folds: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> WeightedFolds:
        """scores, same, folds: of the pairs [P]. first, second: their subjects, int64 [P]."""
        labels, fold = np.unique(folds, return_inverse=True)
        accepted_from = np.searchsorted(DISTANCE_GRID, 2.0 - 2.0 * scores.astype(np.float64), side="right")
        return cls(same, np.stack([first, second]), fold * (DISTANCE_GRID.size + 1) + accepted_from, labels.size)

    def accuracy(self, drawn: np.ndarray) -> float:
        one, other = drawn[self.subjects[0]], drawn[self.subjects[1]]
        weights = np.where(self.same, one, one * other)
        shape = (self.folds, DISTANCE_GRID.size + 1)
        right = np.zeros(shape)
        sizes = np.bincount(self.cell // shape[1], weights, self.folds)
        for kind in (True, False):
            chosen = self.same == kind
            found = np.bincount(self.cell[chosen], weights[chosen], shape[0] * shape[1]).reshape(shape)
            accepted = np.cumsum(found, axis=1)
            right += accepted if kind else found.sum(axis=1, keepdims=True) - accepted
        right = right[:, :-1]
        best = np.argmax(right.sum(axis=0) - right, axis=1)
        filled = sizes > 0
        share = right[np.arange(self.folds), best][filled] / sizes[filled]
        return float(share.mean()) if share.size else np.nan


def _crossing(rising: np.ndarray, falling: np.ndarray) -> float:
    """Where two curves over the same points meet."""
    ahead = rising - falling
    after = int(np.argmax(ahead >= 0))
    if ahead[after] < 0:
        return float(rising[-1])
    if after == 0:
        return float(min(rising[0], falling[0]))
    share = ahead[after - 1] / (ahead[after - 1] - ahead[after])
    return float(rising[after - 1] + share * (rising[after] - rising[after - 1]))


def _moments(scores: np.ndarray, weights: np.ndarray, total: float) -> tuple[float, float]:
    mean = float(_sum_of_products(weights, scores) / total)
    return mean, max(0.0, float(_sum_of_products(weights, np.square(scores)) / total) - mean * mean)


def _sum_of_products(first: np.ndarray, second: np.ndarray) -> float:
    """Without BLAS, which wakes its threads for each of a thousand short sums."""
    return float(np.einsum("i,i->", first, second))
