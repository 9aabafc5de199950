"""Real glasses: what the cells of ``suites/glasses.yaml`` embedded, before and after removal, and both fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from occframe.types import EmbeddingTable

FAR = 0.01
ROUNDS = 300
#: A genuine pair is harmed that loses more than this.
HARM = 0.05
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Scores:
    """One remover's cosines. worn_bare: [W, R] of each face with glasses to each without; worn_worn: [W, W]."""

    worn_bare: np.ndarray
    worn_worn: np.ndarray

    @classmethod
    def of(cls, worn: EmbeddingTable, bare: EmbeddingTable) -> Scores:
        return cls(worn.vectors @ bare.vectors.T, worn.vectors @ worn.vectors.T)

    def fused(self, other: Scores, how: str) -> Scores:
        """how: "max" or "mean" of both, pair by pair."""
        fuse = np.maximum if how == "max" else lambda left, right: (left + right) / 2
        return Scores(fuse(self.worn_bare, other.worn_bare), fuse(self.worn_worn, other.worn_worn))


@dataclass(frozen=True)
class RealTest:
    """worn, bare: number of the person of each face with and without glasses. people: how many."""

    worn: np.ndarray
    bare: np.ndarray
    people: int

    @classmethod
    def of(cls, worn: EmbeddingTable, bare: EmbeddingTable) -> RealTest:
        names = {name: at for at, name in enumerate(sorted(set(worn.subjects) | set(bare.subjects)))}
        return cls(np.array([names[s] for s in worn.subjects]), np.array([names[s] for s in bare.subjects]), len(names))

    def measure(self, scores: Scores, before: Scores) -> dict[str, list[float]]:
        """Each figure as [value, low, high], and its difference to ``before`` in the same rounds as ``NAME_change``.

        genuine, impostor: mean cosine of pairs with glasses on one side. tar: share of these genuine pairs accepted at
        a false accept rate of 0.01 of these impostors. both_false_accepts: share of the pairs of strangers who both
        wear glasses that the threshold of ``before`` for 0.01 accepts: the rate an operator would see who keeps it.
        harmed: share of genuine pairs that lose more than 0.05.
        """
        now, then, draw = self._figures(scores, before, None), self._figures(before, before, None), self._draws()
        rounds = [(self._figures(scores, before, drawn), self._figures(before, before, drawn)) for drawn in draw]
        result: Figures = {}
        for name in now:
            result[name] = _interval(now[name], [after[name] for after, _ in rounds])
            result[f"{name}_change"] = _interval(now[name] - then[name], [a[name] - b[name] for a, b in rounds])
        return result

    def _draws(self) -> list[np.ndarray]:
        draw = np.random.default_rng(23)
        return [np.bincount(draw.integers(self.people, size=self.people), minlength=self.people) for _ in range(ROUNDS)]

    def _figures(self, scores: Scores, before: Scores, drawn: np.ndarray | None) -> dict[str, float]:
        times = np.ones(self.people) if drawn is None else drawn.astype(float)
        same = self.worn[:, None] == self.bare
        # A pair of one person counts as often as that person was drawn, one of two as often as both were together.
        weights = np.where(same, times[self.worn][:, None], times[self.worn][:, None] * times[self.bare])
        genuine, impostor = weights[same], weights[~same]
        threshold = _threshold(scores.worn_bare[~same], impostor)
        kept = _threshold(before.worn_bare[~same], impostor)
        strangers = np.triu(self.worn[:, None] != self.worn, 1)
        both = (times[self.worn][:, None] * times[self.worn])[strangers]
        lost = before.worn_bare[same] - scores.worn_bare[same]
        return {
            "genuine": _mean(scores.worn_bare[same], genuine),
            "impostor": _mean(scores.worn_bare[~same], impostor),
            "tar": _mean(scores.worn_bare[same] > threshold, genuine),
            "both_impostor": _mean(scores.worn_worn[strangers], both),
            "both_false_accepts": _mean(scores.worn_worn[strangers] > kept, both),
            "both_false_accepts_own_threshold": _mean(scores.worn_worn[strangers] > threshold, both),
            "harmed": _mean(lost > HARM, genuine),
        }


def _threshold(impostors: np.ndarray, weights: np.ndarray) -> float:
    """The score that impostors of the share ``FAR`` of all weight exceed."""
    order = np.argsort(-impostors)
    beyond = np.flatnonzero(np.cumsum(weights[order]) > FAR * weights.sum())
    return float(impostors[order[beyond[0]]])


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum())


def _interval(value: float, rounds: list[float]) -> list[float]:
    low, high = np.quantile(rounds, [0.025, 0.975])
    return [float(value), float(low), float(high)]


def measured(
    tables: Mapping[str, tuple[EmbeddingTable, EmbeddingTable]], baseline: str
) -> dict[str, dict[str, Figures]]:
    """tables: system -> (with glasses, without). Returns system -> "removed", "max", "mean" -> figures."""
    test = RealTest.of(*tables[baseline])
    before = Scores.of(*tables[baseline])
    found: dict[str, dict[str, Figures]] = {}
    for name, (worn, bare) in tables.items():
        scores = Scores.of(worn, bare)
        found[name] = {"removed": test.measure(scores, before)}
        if name != baseline:
            found[name] |= {how: test.measure(scores.fused(before, how), before) for how in ("max", "mean")}
    return found
