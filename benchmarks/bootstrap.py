"""Confidence intervals of verification figures: how much would they change with other people, or other pairs?

People, not pairs, are what a test set is a sample of. A round draws subjects with replacement; a pair of two subjects
counts as often as both were drawn together, a pair of one person as often as that person was. The same ``seed`` draws
the same people for every system, so that differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.types import EmbeddingTable


@dataclass(frozen=True)
class Interval:
    """value: over all data. low, high: 2.5 and 97.5 % of the rounds. rounds: array [n], the figure of each."""

    value: float
    low: float
    high: float
    rounds: np.ndarray

    @classmethod
    def of(cls, value: float, rounds: np.ndarray) -> Interval:
        low, high = np.quantile(rounds, [0.025, 0.975])
        return cls(value, float(low), float(high), rounds)


@dataclass(frozen=True)
class AllPairs:
    """Every reference against every probe, but no image against itself.

    subjects: how many. genuine: scores, descending, and whose they are, [G]. impostor: the highest scores, descending,
    and of whom, [T] and [T, 2]. references, probes: images of each subject, [subjects]. total: impostor pairs in all.
    """

    subjects: int
    genuine: np.ndarray
    genuine_subject: np.ndarray
    impostor: np.ndarray
    impostor_subjects: np.ndarray
    references: np.ndarray
    probes: np.ndarray
    total: int

    @classmethod
    def score(cls, reference: EmbeddingTable, probe: EmbeddingTable, *, highest_far: float) -> AllPairs:
        """highest_far: the impostor scores kept are ten times as many as this FAR needs."""
        names = sorted(set(reference.subjects) | set(probe.subjects))
        number = {name: at for at, name in enumerate(names)}
        rows = np.array([number[name] for name in reference.subjects])
        columns = np.array([number[name] for name in probe.subjects])
        own = {name: at for at, name in enumerate(probe.ids)}
        references, probes = (np.bincount(side, minlength=len(names)) for side in (rows, columns))
        total = len(rows) * len(columns) - int(references @ probes)
        keep = max(int(10 * highest_far * total), 1000)
        genuine, genuine_subject, tail, tail_subjects = [], [], np.empty(0, np.float32), np.empty((0, 2), np.int64)
        for start in range(0, len(rows), 512):
            part = slice(start, start + 512)
            scores = reference.vectors[part] @ probe.vectors.T
            same = rows[part, None] == columns
            itself = np.zeros_like(same)
            for at, name in enumerate(reference.ids[part]):
                if name in own:
                    itself[at, own[name]] = True
            mine = same & ~itself
            genuine.append(scores[mine])
            genuine_subject.append(np.broadcast_to(rows[part, None], same.shape)[mine])
            floor = tail[-1] if len(tail) == keep else -np.inf
            at, of = np.nonzero(~same & (scores > floor))
            tail = np.concatenate([tail, scores[at, of]])
            tail_subjects = np.concatenate([tail_subjects, np.stack([rows[part][at], columns[of]], 1)])
            order = np.argsort(-tail, kind="stable")[:keep]
            tail, tail_subjects = tail[order], tail_subjects[order]
        scores, whose = np.concatenate(genuine), np.concatenate(genuine_subject)
        order = np.argsort(-scores, kind="stable")
        return cls(len(names), scores[order], whose[order], tail, tail_subjects, references, probes, total)

    def tar(self, far: float, drawn: np.ndarray | None = None) -> float:
        """Share of genuine pairs that score above every impostor pair beyond the allowed share ``far``.

        drawn: array [subjects], how often each was drawn; once each where left out.
        """
        drawn = np.ones(self.subjects) if drawn is None else drawn.astype(np.float64)
        weights = drawn[self.impostor_subjects].prod(1)
        total = (drawn @ self.references) * (drawn @ self.probes) - drawn**2 @ (self.references * self.probes)
        beyond = np.flatnonzero(np.cumsum(weights) > far * total)
        if not len(beyond):
            raise ValueError(f"too few impostor scores were kept for FAR {far}")
        mine = drawn[self.genuine_subject]
        return float(mine[self.genuine > self.impostor[beyond[0]]].sum() / mine.sum())

    def interval(self, far: float, *, rounds: int, seed: int) -> Interval:
        draw = np.random.default_rng(seed)
        people = (
            np.bincount(draw.integers(self.subjects, size=self.subjects), minlength=self.subjects)
            for _ in range(rounds)
        )
        return Interval.of(self.tar(far), np.array([self.tar(far, drawn) for drawn in people]))


def tar_of_pairs(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """scores: array [P]. same: array [P] bool. Share of genuine pairs above every impostor beyond the allowed share."""
    impostors = np.sort(scores[~same])[::-1]
    return float((scores[same] > impostors[int(far * len(impostors))]).mean())


def pairs_interval(scores: np.ndarray, same: np.ndarray, far: float, *, rounds: int, seed: int) -> Interval:
    """Over listed pairs, drawn with replacement among the genuine and among the impostor ones."""
    draw = np.random.default_rng(seed)
    kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
    values = []
    for _ in range(rounds):
        rows = np.concatenate([draw.choice(kind, len(kind)) for kind in kinds])
        values.append(tar_of_pairs(scores[rows], same[rows], far))
    return Interval.of(tar_of_pairs(scores, same, far), np.array(values))
