"""Protocol ``verification``: are two pictures of one person?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from occframe.component import BuildContext
from occframe.evaluation.bootstrap import WeightedFolds, WeightedPairs, intervals
from occframe.evaluation.configs import VerificationConfig
from occframe.evaluation.drawing import draw_pairs
from occframe.evaluation.groups import columns_of
from occframe.evaluation.impostors import HISTOGRAM_EDGES, ImpostorScores, histogram_of
from occframe.evaluation.pairs import Pairs, read_pairs
from occframe.evaluation.rates import rate_text
from occframe.evaluation.scoring import GenuineScores, PairScores, score_cross, score_pairs, split_scores
from occframe.evaluation.tables import PairSpace
from occframe.evaluation.verification import (
    FoldAccuracy,
    OperatingPoint,
    Roc,
    area_under_curve,
    equal_error_rate,
    fold_accuracy,
    roc_of_counts,
    sensitivity,
    tar_at_far,
)
from occframe.types import Curve, EmbeddingTable, Group, Histogram, Hits, Interval, Mistake, ProtocolResult, Trials


def build(config: VerificationConfig, context: BuildContext) -> Verification:
    return Verification(config)


@dataclass(frozen=True)
class Verification:
    """Scores pairs, the first image from the reference table, the second from the probe table."""

    config: VerificationConfig

    @property
    def columns(self) -> Sequence[str]:
        return list(self.config.by)

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """Figures of docs/evaluation.md. ``hits`` hold only the nearest and are of no use here."""
        space = PairSpace(reference, probe)
        pairs = self._listed_pairs(reference, probe, space)
        if pairs is None:
            scores = score_cross(reference, probe, space)
            trial = _Trial(reference, probe, space, scores)
            result = self._figures(trial, None)
            note = "Every reference was compared with every probe, without folds: no accuracy is given."
            return replace(result, notes=[note, *result.notes])
        listed = score_pairs(reference, probe, pairs)
        trial = _Trial(reference, probe, space, split_scores(listed, pairs))
        if pairs.folds is None:
            result = self._figures(trial, None)
            correct = (listed >= result.metrics["threshold@eer"]) == pairs.same
            outcomes = _trials(trial, pairs, listed, correct, "decided rightly at the threshold of equal errors")
            return replace(
                result, trials=outcomes, notes=["The pairs have no folds: no accuracy is given.", *result.notes]
            )
        accuracy = fold_accuracy(listed, pairs.same, pairs.folds)
        weighted = WeightedFolds.of(
            listed,
            pairs.same,
            pairs.folds,
            space.reference_subjects[pairs.reference_rows],
            space.probe_subjects[pairs.probe_rows],
        )
        rule = "decided rightly at the threshold that is best on the other folds"
        outcomes = _trials(trial, pairs, listed, accuracy.correct, rule)
        return replace(self._figures(trial, (accuracy, weighted)), trials=outcomes)

    def _listed_pairs(self, reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace) -> Pairs | None:
        if self.config.pairs is not None:
            return read_pairs(self.config.pairs, reference, probe)
        if self.config.draw is not None:
            return draw_pairs(space, **self.config.draw.model_dump())
        return None

    def _figures(self, trial: _Trial, folds: tuple[FoldAccuracy, WeightedFolds] | None) -> ProtocolResult:
        scores = trial.scores
        curve = roc_of_counts(scores.genuine.scores, scores.impostor)
        eer, threshold = equal_error_rate(curve)
        points = {far: point for far in sorted(self.config.fars) if (point := tar_at_far(curve, far)) is not None}
        metrics: dict[str, float] = {}
        if folds is not None:
            metrics |= {"accuracy": folds[0].mean, "accuracy_std": folds[0].std}
        metrics |= {f"tar@far={rate_text(far)}": point.tar for far, point in points.items()}
        metrics |= {"eer": eer, "auc": area_under_curve(curve)}
        distance = sensitivity(scores.genuine.scores, scores.impostor.mean, scores.impostor.std)
        if distance is not None:
            metrics["d-prime"] = distance
        found = self._intervals(trial, folds, metrics)
        metrics |= {
            f"threshold@far={rate_text(far)}": point.threshold
            for far, point in points.items()
            if np.isfinite(point.threshold)
        }
        metrics["threshold@eer"] = threshold
        counts = {
            "genuine pairs": curve.genuines,
            "impostor pairs": curve.impostors,
            "people": int(np.unique(trial.subjects()).size),
        }
        if folds is not None:
            counts["folds"] = folds[0].accuracies.size
        return ProtocolResult(
            metrics=metrics,
            curves={"ROC": Curve("ROC", curve.far, curve.tar, supported=(1 / curve.impostors, 1.0))},
            mistakes=trial.mistakes(threshold, self.config.mistakes),
            counts=counts,
            notes=[*_depth_notes(curve, points, self.config.fars), *self._group_notes(trial)],
            intervals=found,
            histograms={"scores": trial.histogram()},
            groups=list(self._groups(trial, points)),
        )

    def _intervals(
        self, trial: _Trial, folds: tuple[FoldAccuracy, WeightedFolds] | None, metrics: dict[str, float]
    ) -> dict[str, Interval]:
        if not self.config.rounds:
            return {}
        weighted = WeightedPairs.of(trial.scores, trial.space)
        fars = [far for far in sorted(self.config.fars) if f"tar@far={rate_text(far)}" in metrics]

        def figures(drawn: np.ndarray) -> dict[str, float]:
            found = weighted.figures(drawn, fars)
            named = {f"tar@far={rate_text(far)}": found.pop(repr(far)) for far in fars} | found
            return ({"accuracy": folds[1].accuracy(drawn)} if folds else {}) | named

        everybody = figures(np.ones(trial.space.people))
        # Where impostors were sampled, what the sample says of everybody is a little off, and the rounds with it.
        bias = {name: metrics[name] - value for name, value in everybody.items() if name in metrics}

        def unbiased(drawn: np.ndarray) -> dict[str, float]:
            found = figures(drawn)
            return {name: found[name] + shift for name, shift in bias.items()}

        return intervals(trial.space, unbiased, rounds=self.config.rounds, seed=self.config.seed)

    def _groups(self, trial: _Trial, points: dict[float, OperatingPoint]) -> Iterator[Group]:
        genuine, impostor = trial.scores.genuine, trial.scores.impostor
        for values in columns_of(self.config.by, trial.reference, trial.probe):
            parts = zip(
                values.of_pairs(genuine.reference_rows, genuine.probe_rows),
                values.of_pairs(impostor.reference_rows, impostor.probe_rows),
                strict=True,
            )
            for own, others in parts:
                same, weights = genuine.scores[own.chosen], impostor.weight[others.chosen]
                different = impostor.scores[others.chosen]
                metrics = {}
                for far, point in points.items():
                    if same.size:
                        metrics[f"tar@far={rate_text(far)}"] = float((same >= point.threshold).mean())
                    if different.size:
                        accepted = float(weights[different >= point.threshold].sum() / weights.sum())
                        metrics[f"far@far={rate_text(far)}"] = accepted
                counts = {"genuine pairs": int(same.size), "impostor pairs": round(float(weights.sum()))}
                yield Group(values.column, own.label, metrics, counts, own.low, own.high)

    def _group_notes(self, trial: _Trial) -> list[str]:
        impostor = trial.scores.impostor
        if not self.config.by or impostor.exact == impostor.total:
            return []
        sampled = impostor.scores.size - impostor.exact
        return [
            f"Impostor pairs of groups are estimated: the {impostor.exact:,} highest scores are counted, {sampled:,} "
            "others, drawn at random, stand for the rest."
        ]


@dataclass(frozen=True)
class _Trial:
    """The tables and the scores of their pairs."""

    reference: EmbeddingTable
    probe: EmbeddingTable
    space: PairSpace
    scores: PairScores

    def subjects(self) -> np.ndarray:
        """Of all faces that were compared, as far as kept."""
        if self.scores.everything:
            return np.concatenate([self.space.reference_subjects, self.space.probe_subjects])
        return np.concatenate(
            [
                *(self.space.reference_subjects[side.reference_rows] for side in self._sides),
                *(self.space.probe_subjects[side.probe_rows] for side in self._sides),
            ]
        )

    @property
    def _sides(self) -> tuple[GenuineScores, ImpostorScores]:
        return self.scores.genuine, self.scores.impostor

    def mistakes(self, threshold: float, keep: int) -> list[Mistake]:
        """The lowest genuine scores below the threshold, then the highest impostor scores from it on."""
        genuine, impostor = self._sides
        rejected = [row for row in range(genuine.scores.size)[::-1][:keep] if genuine.scores[row] < threshold]
        accepted = [row for row in range(impostor.scores.size)[:keep] if impostor.scores[row] >= threshold]
        return [
            *(self._mistake("false reject", genuine, row) for row in rejected),
            *(self._mistake("false accept", impostor, row) for row in accepted),
        ]

    def _mistake(
        self, kind: Literal["false reject", "false accept"], side: GenuineScores | ImpostorScores, row: int
    ) -> Mistake:
        return Mistake(
            kind,
            self.reference.ids[int(side.reference_rows[row])],
            self.probe.ids[int(side.probe_rows[row])],
            float(side.scores[row]),
        )

    def histogram(self) -> Histogram:
        return Histogram(
            HISTOGRAM_EDGES,
            {"genuine": histogram_of(self.scores.genuine.scores[::-1]), "impostor": self.scores.impostor.histogram},
        )


def _trials(trial: _Trial, pairs: Pairs, scores: np.ndarray, correct: np.ndarray, rule: str) -> Trials:
    digest = hashlib.sha256()
    for first, second, same in zip(
        pairs.reference_rows.tolist(), pairs.probe_rows.tolist(), pairs.same.tolist(), strict=True
    ):
        digest.update(f"{trial.reference.ids[first]}\t{trial.probe.ids[second]}\t{same:d}\n".encode())
    return Trials(digest.hexdigest()[:16], correct, scores, rule)


def _depth_notes(curve: Roc, points: dict[float, OperatingPoint], fars: Sequence[float]) -> Iterator[str]:
    for far, point in points.items():
        if point.allowed < 10:
            yield f"TAR at FAR {rate_text(far)} rests on the {point.allowed} highest impostor scores."
    too_deep = [far for far in sorted(fars) if far not in points]
    if too_deep:
        yield (
            f"TAR at FAR {', '.join(map(rate_text, too_deep))} is left out: {curve.impostors:,} impostor pairs say "
            f"nothing about a FAR below {rate_text(1 / curve.impostors)}."
        )
