"""Real glasses: what the cells of ``suites/glasses.yaml`` embedded, before and after removal, and both fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from occframe.types import EmbeddingTable

FAR = 0.01
ROUNDS = 300
#: A genuine pair is harmed that loses more than this.
HARM = 0.05
Tables = tuple[EmbeddingTable, EmbeddingTable]
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Weights:
    """How often each pair counts: of one person with glasses on one side, of two so, of two who both wear them."""

    genuine: np.ndarray
    impostor: np.ndarray
    both: np.ndarray


@dataclass(frozen=True)
class RealPairs:
    """worn, bare: number of the person of each face with and without glasses. people: how many. again: [worn, bare]
    bool, where both are one picture, which makes no pair."""

    worn: np.ndarray
    bare: np.ndarray
    people: int
    again: np.ndarray

    @classmethod
    def of(cls, worn: EmbeddingTable, bare: EmbeddingTable) -> RealPairs:
        names = {name: at for at, name in enumerate(sorted(set(worn.subjects) | set(bare.subjects)))}
        first, second = (np.array([names[name] for name in table.subjects]) for table in (worn, bare))
        return cls(first, second, len(names), np.array(worn.ids)[:, None] == np.array(bare.ids))

    @cached_property
    def same(self) -> np.ndarray:
        return (self.worn[:, None] == self.bare) & ~self.again

    @cached_property
    def others(self) -> np.ndarray:
        return self.worn[:, None] != self.bare

    @cached_property
    def strangers(self) -> np.ndarray:
        """Each pair of two people who both wear glasses, once."""
        return np.triu(self.worn[:, None] != self.worn, 1)

    def weights(self, times: np.ndarray) -> Weights:
        """times: how often each person was drawn. A pair of two people counts as often as both were drawn together."""
        worn, bare = times[self.worn], times[self.bare]
        cross = worn[:, None] * bare
        genuine = np.broadcast_to(worn[:, None], cross.shape)[self.same]
        return Weights(genuine, cross[self.others], (worn[:, None] * worn)[self.strangers])

    def scores(self, worn: EmbeddingTable, bare: EmbeddingTable) -> Scores:
        cross = worn.vectors @ bare.vectors.T
        return Scores(cross[self.same], cross[self.others], (worn.vectors @ worn.vectors.T)[self.strangers])


@dataclass(frozen=True)
class Scores:
    """Cosines of the pairs of ``Weights``."""

    genuine: np.ndarray
    impostor: np.ndarray
    both: np.ndarray

    def fused(self, other: Scores, how: str) -> Scores:
        """how: "max" or "mean" of both, pair by pair."""
        fuse = np.maximum if how == "max" else lambda left, right: (left + right) / 2
        return Scores(
            fuse(self.genuine, other.genuine), fuse(self.impostor, other.impostor), fuse(self.both, other.both)
        )

    @cached_property
    def _descending(self) -> np.ndarray:
        return np.argsort(-self.impostor, kind="stable")

    def threshold(self, weights: Weights) -> float:
        """The score that impostors of the share ``FAR`` of all weight exceed."""
        order = self._descending
        beyond = np.searchsorted(np.cumsum(weights.impostor[order]), FAR * weights.impostor.sum(), side="right")
        return float(self.impostor[order[beyond]])


def figures(scores: Scores, before: Scores, weights: Weights) -> dict[str, float]:
    """genuine, impostor: mean cosine of pairs with glasses on one side. tar: share of these genuine pairs accepted at
    a false accept rate of 0.01 of these impostors. both_impostor: mean cosine of two people who both wear glasses.
    both_false_accepts: share of these that the threshold of ``before`` accepts, as an operator sees it who keeps it;
    …_own_threshold: that the threshold of ``scores`` accepts. harmed: share of genuine pairs that lose more than 0.05.
    """
    threshold, kept = scores.threshold(weights), before.threshold(weights)
    genuine, impostor, both = (
        lambda values, of=of: float((values * of).sum() / of.sum())
        for of in (weights.genuine, weights.impostor, weights.both)
    )
    return {
        "genuine": genuine(scores.genuine),
        "impostor": impostor(scores.impostor),
        "tar": genuine(scores.genuine > threshold),
        "both_impostor": both(scores.both),
        "both_false_accepts": both(scores.both > kept),
        "both_false_accepts_own_threshold": both(scores.both > threshold),
        "harmed": genuine(before.genuine - scores.genuine > HARM),
    }


def measured(
    tables: Mapping[str, Tables], baseline: str, fused: Sequence[str] = ("max", "mean")
) -> dict[str, dict[str, Figures]]:
    """tables: system -> (faces with glasses, without). Returns system -> "removed" and ``fused`` -> figures, each as
    [value, low, high], with its difference to the baseline in the same rounds as ``NAME_change``."""
    pairs = RealPairs.of(*tables[baseline])
    before = pairs.scores(*tables[baseline])
    ways = {(baseline, "removed"): before}
    for name, (worn, bare) in tables.items():
        if name != baseline:
            scores = pairs.scores(worn, bare)
            ways |= {(name, "removed"): scores}
            ways |= {(name, how): scores.fused(before, how) for how in fused}

    def at(times: np.ndarray) -> dict[tuple[str, str], dict[str, float]]:
        weights = pairs.weights(times)
        found = {way: figures(scores, before, weights) for way, scores in ways.items()}
        base = found[baseline, "removed"]
        return {
            way: values | {f"{name}_change": value - base[name] for name, value in values.items()}
            for way, values in found.items()
        }

    draw, people = np.random.default_rng(23), pairs.people
    rounds = [
        at(np.bincount(draw.integers(people, size=people), minlength=people).astype(float)) for _ in range(ROUNDS)
    ]
    result: dict[str, dict[str, Figures]] = {}
    for (name, how), values in at(np.ones(people)).items():
        result.setdefault(name, {})[how] = {
            figure: [value, *np.quantile([item[name, how][figure] for item in rounds], [0.025, 0.975]).tolist()]
            for figure, value in values.items()
        }
    return result
