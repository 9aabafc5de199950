"""Protocol ``open-set``: who is it, if anybody enrolled? Detection and identification rate at a rate of false alarms.

DIR(t) is the share of known probes whose person is found among the ``rank`` best references with a score >= t; FPIR(t)
the share of strangers whose best reference scores >= t (Phillips, Grother and Micheals, "Evaluation methods in face
recognition", Handbook of Face Recognition, 2011; ISO/IEC 19795-1 calls 1 - DIR the FNIR).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.evaluation.bootstrap import intervals
from occframe.evaluation.configs import OpenSetConfig
from occframe.evaluation.groups import columns_of
from occframe.evaluation.identification import Ranking, rank_by_product
from occframe.evaluation.impostors import HISTOGRAM_EDGES, NO_PAIR, histogram_of
from occframe.evaluation.rates import rate_text
from occframe.evaluation.tables import PairSpace
from occframe.evaluation.verification import OperatingPoint, Roc, roc, tar_at_far
from occframe.types import Curve, EmbeddingTable, Group, Histogram, Hits, Interval, Mistake, ProtocolResult


def build(config: OpenSetConfig, context: BuildContext) -> OpenSet:
    return OpenSet(config)


@dataclass(frozen=True)
class OpenSet:
    config: OpenSetConfig

    @property
    def columns(self) -> Sequence[str]:
        return list(self.config.by)

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """By an exact product; ``hits`` of a search among all references would find those who are not enrolled here."""
        reference, trial = self._search(reference, probe)
        curve = trial.curve()
        points = {rate: point for rate in sorted(self.config.fpirs) if (point := tar_at_far(curve, rate)) is not None}
        metrics = {f"dir@fpir={rate_text(rate)}": point.tar for rate, point in points.items()}
        found = self._intervals(trial, list(points))
        metrics |= {
            f"threshold@fpir={rate_text(rate)}": point.threshold
            for rate, point in points.items()
            if np.isfinite(point.threshold)
        }
        notes = list(trial.notes)
        notes += [
            f"DIR at FPIR {rate_text(rate)} rests on the {point.allowed} highest scores of strangers."
            for rate, point in points.items()
            if point.allowed < 10
        ]
        if too_deep := [rate_text(rate) for rate in sorted(self.config.fpirs) if rate not in points]:
            notes.append(
                f"DIR at FPIR {', '.join(too_deep)} is left out: {curve.impostors:,} probes of strangers say nothing "
                f"about an FPIR below {rate_text(1 / curve.impostors)}."
            )
        return ProtocolResult(
            metrics=metrics,
            curves={"DIR-FPIR": Curve("DIR-FPIR", curve.far, curve.tar, supported=(1 / curve.impostors, 1.0))},
            mistakes=self._mistakes(reference, probe, trial, points),
            counts={
                "known probes": int(trial.known.size),
                "strangers' probes": int(trial.unknown.size),
                "references": len(reference.ids),
                "people enrolled": len(set(reference.subjects)),
            },
            notes=notes,
            intervals=found,
            histograms={"scores": trial.histogram()},
            groups=list(self._groups(reference, probe, trial, points)),
        )

    def _search(self, reference: EmbeddingTable, probe: EmbeddingTable) -> tuple[EmbeddingTable, _Trial]:
        """The references that are enrolled, and what each probe found among them."""
        PairSpace(reference, probe)  # refuses what cannot be compared before anything is taken away
        notes = []
        if self.config.enrolled is not None:
            reference = _enrol(reference, self.config.enrolled, self.config.split_seed)
        space = PairSpace(reference, probe)
        ranking = rank_by_product(reference, probe, space)
        known = np.flatnonzero(space.mates() > 0)
        unknown = np.flatnonzero(~np.isin(space.probe_subjects, space.reference_subjects))
        for rows, what in ((known, "shows an enrolled person"), (unknown, "shows a stranger")):
            if not rows.size:
                raise OccframeError(
                    f"none of the probes {what}",
                    remedy="open-set identification needs probes of enrolled people, in other pictures, and of people "
                    "who are not enrolled: set `enrolled` to a share such as 0.5, or enrol other faces",
                )
        if alone := len(probe.ids) - known.size - unknown.size:
            notes.append(
                f"{alone:,} probes are left out: the only enrolled picture of their person is that picture itself."
            )
        return reference, _Trial(space, ranking, known, unknown, self.config.rank, notes)

    def _intervals(self, trial: _Trial, rates: Sequence[float]) -> dict[str, Interval]:
        """The probes' people are drawn anew; who is enrolled stays."""
        alarms = trial.unknown[np.argsort(-trial.ranking.best_scores[trial.unknown], kind="stable")]
        found = trial.found_scores()
        order = np.argsort(-found, kind="stable")
        whose, descending = trial.space.probe_subjects[trial.known[order]], found[order]
        strangers = trial.space.probe_subjects[alarms]
        above = np.searchsorted(-descending, -trial.ranking.best_scores[alarms], side="left")
        everything = int(np.searchsorted(-descending, -float(NO_PAIR), side="left"))

        def figures(drawn: np.ndarray) -> dict[str, float]:
            accepted = np.concatenate([[0.0], np.cumsum(drawn[whose])])
            false = np.cumsum(drawn[strangers])
            if not accepted[-1] or not false[-1]:
                return {f"dir@fpir={rate_text(rate)}": np.nan for rate in rates}
            beyond = np.searchsorted(false, np.array(rates) * false[-1] * (1 + 1e-12), side="right")
            last = [int(above[place]) if place < false.size else everything for place in beyond.tolist()]
            return {
                f"dir@fpir={rate_text(rate)}": float(accepted[place] / accepted[-1])
                for rate, place in zip(rates, last, strict=True)
            }

        return intervals(trial.space, figures, rounds=self.config.rounds, seed=self.config.seed)

    def _groups(
        self, reference: EmbeddingTable, probe: EmbeddingTable, trial: _Trial, points: dict[float, OperatingPoint]
    ) -> Iterator[Group]:
        found, alarms = trial.found_scores(), trial.ranking.best_scores[trial.unknown]
        for values in columns_of(self.config.by, reference, probe):
            both = zip(values.of_probes(trial.known), values.of_probes(trial.unknown), strict=True)
            for known, unknown in both:
                metrics = {}
                for rate, point in points.items():
                    for name, scores in (("dir", found[known.chosen]), ("fpir", alarms[unknown.chosen])):
                        if scores.size:
                            metrics[f"{name}@fpir={rate_text(rate)}"] = float((scores >= point.threshold).mean())
                counts = {"known probes": int(known.chosen.sum()), "strangers' probes": int(unknown.chosen.sum())}
                yield Group(values.column, known.label, metrics, counts, known.low, known.high)

    def _mistakes(
        self, reference: EmbeddingTable, probe: EmbeddingTable, trial: _Trial, points: dict[float, OperatingPoint]
    ) -> list[Mistake]:
        """At the strictest threshold: known people missed, whose own references score lowest first, and strangers let
        in, highest first."""
        if not points:
            return []
        threshold = points[min(points)].threshold
        ranking = trial.ranking
        missed = trial.known[trial.found_scores() < threshold]
        missed = missed[np.argsort(ranking.mate_scores[missed], kind="stable")][: self.config.mistakes]
        alarms = trial.unknown[np.argsort(-ranking.best_scores[trial.unknown], kind="stable")][: self.config.mistakes]

        def named(kind: str, row: int, hit: int, score: float) -> Mistake:
            return Mistake(kind, reference.ids[hit], probe.ids[row], score)  # type: ignore[arg-type]

        return [
            *(
                named("false reject", row, int(ranking.mate_rows[row]), float(ranking.mate_scores[row]))
                for row in missed.tolist()
            ),
            *(
                named("false accept", row, int(ranking.best_rows[row]), float(ranking.best_scores[row]))
                for row in alarms.tolist()
                if ranking.best_scores[row] >= threshold
            ),
        ]


@dataclass(frozen=True)
class _Trial:
    """known, unknown: rows of the probes that show enrolled people and strangers."""

    space: PairSpace
    ranking: Ranking
    known: np.ndarray
    unknown: np.ndarray
    rank: int
    notes: Sequence[str]

    def found_scores(self) -> np.ndarray:
        """The score of each known probe's person, below every cosine where it is not among the ``rank`` best."""
        scores: np.ndarray = np.where(
            self.ranking.ranks[self.known] <= self.rank, self.ranking.mate_scores[self.known], NO_PAIR
        )
        return scores

    def curve(self) -> Roc:
        """FPIR as ``far``, DIR as ``tar``; without the corner at which those not found would be let in."""
        curve = roc(self.found_scores(), self.ranking.best_scores[self.unknown])
        kept = curve.thresholds > NO_PAIR
        last = np.flatnonzero(kept)[-1]
        if curve.false_accepts[last] < curve.impostors:
            # Everybody is let in, but for those who were not found at all.
            lowest = float(self.ranking.best_scores[self.unknown].min())
            found = int((self.found_scores() > NO_PAIR).sum())
            return Roc(
                np.append(curve.thresholds[kept], lowest),
                np.append(curve.false_accepts[kept], curve.impostors),
                np.append(curve.true_accepts[kept], found),
                curve.impostors,
                curve.genuines,
            )
        return replace(
            curve,
            thresholds=curve.thresholds[kept],
            false_accepts=curve.false_accepts[kept],
            true_accepts=curve.true_accepts[kept],
        )

    def histogram(self) -> Histogram:
        mates = np.sort(self.ranking.mate_scores[self.known])
        return Histogram(
            HISTOGRAM_EDGES,
            {
                "known": histogram_of(mates),
                "unknown": histogram_of(np.sort(self.ranking.best_scores[self.unknown])),
            },
        )


def _enrol(reference: EmbeddingTable, share: float, seed: int) -> EmbeddingTable:
    """The references of a share of the people, drawn by name: the same for every model and order of rows."""
    people = sorted(set(reference.subjects))
    count = min(len(people) - 1, max(1, round(share * len(people))))
    chosen = {people[place] for place in np.random.default_rng(seed).permutation(len(people))[:count]}
    rows = np.array([row for row, subject in enumerate(reference.subjects) if subject in chosen], np.int64)
    return EmbeddingTable(
        [reference.ids[row] for row in rows],
        [reference.subjects[row] for row in rows],
        reference.vectors[rows],
        {name: values[rows] for name, values in reference.columns.items()},
    )
