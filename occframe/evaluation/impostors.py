"""What is kept of impostor scores too many to keep: exact counts, the highest ones, and a sample of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Of score histograms: 200 bins of cosine, what lies outside by rounding counted at the ends.
HISTOGRAM_EDGES = np.linspace(-1.0, 1.0, 201)
#: Stands where a score must not be counted; below every cosine.
NO_PAIR = np.float32(-2.0)


@dataclass(frozen=True)
class ImpostorScores:
    """levels: float32 [L] ascending, where the scores were counted. above, at_least: int64 [L], how many are > and
    >= a level. total: how many there are. mean, std: of all. histogram: int64 [B] over ``HISTOGRAM_EDGES``.

    scores: float32 [n], descending, of the pairs that were kept, with their rows int64 [n]. weight: float64 [n], for
    how many each stands: the first ``exact`` are the highest of all and stand for themselves.
    """

    levels: np.ndarray
    above: np.ndarray
    at_least: np.ndarray
    total: int
    mean: float
    std: float
    histogram: np.ndarray
    scores: np.ndarray
    reference_rows: np.ndarray
    probe_rows: np.ndarray
    weight: np.ndarray
    exact: int


@dataclass(frozen=True)
class BlockSummary:
    """places: int64, positions in the block: ``tail`` of the highest scores, then those of the sample."""

    above: np.ndarray
    at_least: np.ndarray
    sums: np.ndarray
    histogram: np.ndarray
    places: np.ndarray
    scores: np.ndarray
    tail: int


def histogram_of(ascending: np.ndarray) -> np.ndarray:
    """int64 [B] over ``HISTOGRAM_EDGES``. ascending: scores [n]."""
    inner = np.searchsorted(ascending, HISTOGRAM_EDGES[1:-1].astype(np.float32))
    return np.diff(np.concatenate([[0], inner, [ascending.size]]))


def summarise_block(
    scores: np.ndarray, levels: np.ndarray, *, keep: int, floor: float, sample: np.ndarray
) -> BlockSummary:
    """scores: float32 [n], ``NO_PAIR`` where there is none; sorted in place. keep: how many of the highest may matter.
    floor: lower ones do not. sample: int64, positions drawn."""
    if floor == -np.inf and keep < scores.size:
        floor = _floor_of(scores, keep) if keep else np.inf
    tail = np.flatnonzero(scores >= max(np.float32(floor), np.nextafter(NO_PAIR, np.float32(0))))
    sample = sample[scores[sample] > NO_PAIR]
    places = np.concatenate([tail, sample])
    kept = scores[places]
    scores.sort()
    ascending = scores[np.searchsorted(scores, NO_PAIR, side="right") :]
    below = np.searchsorted(ascending, levels)
    upto = below.copy()
    # A search from the other side only where a score lies on the level.
    tied = np.flatnonzero(below < ascending.size)
    tied = tied[ascending[below[tied]] == levels[tied]]
    upto[tied] = np.searchsorted(ascending, levels[tied], side="right")
    return BlockSummary(
        ascending.size - upto,
        ascending.size - below,
        np.array([ascending.sum(dtype=np.float64), _sum_of_squares(ascending)]),
        histogram_of(ascending),
        places,
        kept,
        tail.size,
    )


def _floor_of(scores: np.ndarray, keep: int) -> float:
    """A score that at least ``keep`` of the block reach: guessed from one in 64, as selecting it takes longer than all
    else that is done with a block."""
    thin = scores[::64]
    place = min(thin.size, 3 * keep // 128 + 1)
    guess = np.partition(thin, -place)[-place]
    if np.count_nonzero(scores >= guess) < keep:
        guess = np.partition(scores, -keep)[-keep]
    return float(guess)


def _sum_of_squares(values: np.ndarray) -> float:
    """Summed in float32 a thousand at a time, then in float64: as exact as needed and no slower."""
    whole = values[: values.size // 1024 * 1024].reshape(-1, 1024)
    rest = values[whole.size :].astype(np.float64)
    return float(np.einsum("ij,ij->i", whole, whole).sum(dtype=np.float64) + np.square(rest).sum())


@dataclass
class ImpostorSummary:
    """Adds blocks up, in order: floating-point sums then come out the same in every run.

    total: how many scores there will be. keep: of the highest, and about as many of the rest.
    """

    levels: np.ndarray
    total: int
    keep: int
    floor: float = -np.inf
    _tail: list[np.ndarray] = field(default_factory=list)
    _rest: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._above, self._at_least = np.zeros((2, self.levels.size), np.int64)
        self._sums, self._histogram = np.zeros(2), np.zeros(HISTOGRAM_EDGES.size - 1, np.int64)

    def add(self, block: BlockSummary, reference_rows: np.ndarray, probe_rows: np.ndarray) -> None:
        """rows: of ``block.places``."""
        self._above += block.above
        self._at_least += block.at_least
        self._sums += block.sums
        self._histogram += block.histogram
        found = np.empty(block.scores.size, _KEPT)
        found["score"], found["reference"], found["probe"] = block.scores, reference_rows, probe_rows
        self._tail.append(found[: block.tail])
        self._rest.append(found[block.tail :])
        if sum(part.size for part in self._tail) > 2 * self.keep:
            self._prune()

    def _prune(self) -> None:
        tail = np.concatenate(self._tail)
        if self.keep:
            self.floor = float(np.partition(tail["score"], -self.keep)[-self.keep])
            tail = tail[tail["score"] >= self.floor]
        self._tail = [tail]
        if tail.size > 2 * self.keep:  # equal scores, without end
            self._cut()

    def _cut(self) -> None:
        tail = np.concatenate([*self._tail, np.empty(0, _KEPT)])
        # Equal scores by their rows: what is kept must not depend on how the work was cut into blocks.
        order = np.lexsort((tail["probe"], tail["reference"], -tail["score"]))[: self.keep]
        self._tail = [tail[order]]

    def finish(self) -> ImpostorScores:
        self._cut()
        tail = self._tail[0]
        left = self.total - tail.size
        rest = np.concatenate([*self._rest, np.empty(0, _KEPT)])
        rest = rest[rest["score"] <= (tail["score"][-1] if tail.size else np.inf)] if left else rest[:0]
        rest = rest[np.argsort(-rest["score"], kind="stable")]
        kept = np.concatenate([tail, rest])
        weight = np.ones(kept.size)
        weight[tail.size :] = left / max(1, rest.size)
        mean = self._sums[0] / max(1, self.total)
        return ImpostorScores(
            self.levels,
            self._above,
            self._at_least,
            self.total,
            float(mean),
            float(np.sqrt(max(0.0, self._sums[1] / max(1, self.total) - mean * mean))),
            self._histogram,
            kept["score"].copy(),
            kept["reference"].astype(np.int64),
            kept["probe"].astype(np.int64),
            weight,
            tail.size,
        )


_KEPT = np.dtype([("score", np.float32), ("reference", np.int32), ("probe", np.int32)])
