"""The bundled evaluation protocols: verification and closed-set identification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.evaluation.configs import IdentificationConfig, VerificationConfig
from occframe.evaluation.drawing import draw_pairs
from occframe.evaluation.identification import Ranking, cumulative_match, rank_by_hits, rank_by_product
from occframe.evaluation.pairs import Pairs, read_pairs
from occframe.evaluation.scoring import PairScores, ScoredPair, score_cross, score_pairs, split_scores
from occframe.evaluation.tables import PairSpace
from occframe.evaluation.verification import (
    FoldAccuracy,
    area_under_curve,
    equal_error_rate,
    fold_accuracy,
    roc,
    tar_at_far,
)
from occframe.types import Curve, EmbeddingTable, Hits, Mistake, ProtocolResult


def verification(config: VerificationConfig, context: BuildContext) -> Verification:
    return Verification(config)


def identification(config: IdentificationConfig, context: BuildContext) -> Identification:
    return Identification(config)


@dataclass(frozen=True)
class Verification:
    """Scores pairs, the first image from the reference table, the second from the probe table."""

    config: VerificationConfig

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """Figures of docs/evaluation.md. ``hits`` hold only the nearest and are of no use here."""
        space = PairSpace(reference, probe)
        notes: list[str] = []
        accuracy = None
        pairs = self._listed_pairs(reference, probe, space)
        if pairs is None:
            scores = score_cross(reference, probe, space, keep=self.config.mistakes)
            notes.append("Every reference was compared with every probe, without folds: no accuracy is given.")
        else:
            listed = score_pairs(reference, probe, pairs)
            scores = split_scores(listed, pairs, keep=self.config.mistakes)
            if pairs.folds is None:
                notes.append("The pair file has no folds: no accuracy is given.")
            else:
                accuracy = fold_accuracy(listed, pairs.same, pairs.folds)
        return self._result(reference, probe, scores, accuracy, notes)

    def _listed_pairs(self, reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace) -> Pairs | None:
        if self.config.pairs is not None:
            return read_pairs(self.config.pairs, reference, probe)
        if self.config.draw is not None:
            return draw_pairs(space, **self.config.draw.model_dump())
        return None

    def _result(
        self,
        reference: EmbeddingTable,
        probe: EmbeddingTable,
        scores: PairScores,
        accuracy: FoldAccuracy | None,
        notes: list[str],
    ) -> ProtocolResult:
        curve = roc(scores.genuine, scores.impostor)
        eer, threshold = equal_error_rate(curve)
        metrics: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        counts = {"genuine pairs": curve.genuines, "impostor pairs": curve.impostors}
        if accuracy is not None:
            metrics |= {"accuracy": accuracy.mean, "accuracy_std": accuracy.std}
            counts["folds"] = accuracy.accuracies.size
        too_deep = []
        for far in sorted(self.config.fars):
            point = tar_at_far(curve, far)
            if point is None:
                too_deep.append(far)
                continue
            metrics[f"tar@far={rate_text(far)}"] = point.tar
            if point.allowed < 10:
                notes.append(f"TAR at FAR {rate_text(far)} rests on the {point.allowed} highest impostor scores.")
            if np.isfinite(point.threshold):
                thresholds[f"threshold@far={rate_text(far)}"] = point.threshold
        if too_deep:
            notes.append(
                f"TAR at FAR {', '.join(map(rate_text, too_deep))} is left out: {curve.impostors:,} impostor pairs say "
                f"nothing about a FAR below {rate_text(1 / curve.impostors)}."
            )
        metrics |= {"eer": eer, "auc": area_under_curve(curve)} | thresholds | {"threshold@eer": threshold}
        return ProtocolResult(
            metrics=metrics,
            curves={"ROC": Curve("ROC", curve.far, curve.tar)},
            mistakes=_verification_mistakes(reference, probe, scores, threshold),
            counts=counts,
            notes=notes,
        )


def _verification_mistakes(
    reference: EmbeddingTable, probe: EmbeddingTable, scores: PairScores, threshold: float
) -> list[Mistake]:
    def named(kind: str, pair: ScoredPair) -> Mistake:
        return Mistake(kind, reference.ids[pair.reference_row], probe.ids[pair.probe_row], pair.score)  # type: ignore[arg-type]

    rejected = [named("false reject", pair) for pair in scores.lowest_genuine if pair.score < threshold]
    accepted = [named("false accept", pair) for pair in scores.highest_impostor if pair.score >= threshold]
    return rejected + accepted


@dataclass(frozen=True)
class Identification:
    """Looks each probe up among all references; every probe that counts has a mate there (closed set)."""

    config: IdentificationConfig

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """From ``hits`` where a search step ran, else by an exact product of the two tables."""
        space = PairSpace(reference, probe)
        enrolled = space.mates() > 0
        if not enrolled.any():
            raise OccframeError(
                "none of the probes has another picture of the same person among the references",
                remedy="check the split: closed-set identification needs the same people on both sides",
            )
        if hits is None:
            ranking = rank_by_product(reference, probe, space)
        else:
            ranking = rank_by_hits(reference, probe, space, hits)
        ranks = ranking.ranks[enrolled]
        notes = []
        if not enrolled.all():
            notes.append(f"{int((~enrolled).sum()):,} probes show people who are not enrolled and are left out.")
        if hits is not None:
            notes.append(f"Ranks are those of the search step, {ranking.depth} deep.")
        depth = min(self.config.max_rank, ranking.depth)
        ranks_given = [rank for rank in sorted(self.config.ranks) if rank <= ranking.depth]
        too_deep = [rank for rank in sorted(self.config.ranks) if rank > ranking.depth]
        match = cumulative_match(ranks, max([depth, *ranks_given]))
        if too_deep:
            notes.append(f"Rank {', '.join(map(str, too_deep))} is left out: the list is only {ranking.depth} deep.")
        return ProtocolResult(
            metrics={f"rank-{rank}": float(match[rank - 1]) for rank in ranks_given},
            curves={"CMC": Curve("CMC", np.arange(1, depth + 1), match[:depth])},
            mistakes=self._mistakes(reference, probe, ranking, enrolled),
            counts={"probes": int(enrolled.sum()), "references": len(reference.ids)},
            notes=notes,
        )

    def _mistakes(
        self, reference: EmbeddingTable, probe: EmbeddingTable, ranking: Ranking, enrolled: np.ndarray
    ) -> list[Mistake]:
        wrong = np.flatnonzero(enrolled & (ranking.ranks != 1) & (ranking.best_rows >= 0))
        worst = wrong[np.argsort(-ranking.best_scores[wrong], kind="stable")][: self.config.mistakes]
        first_hits, scores = ranking.best_rows[worst].tolist(), ranking.best_scores[worst].tolist()
        return [
            Mistake("false accept", reference.ids[hit], probe.ids[row], score)
            for hit, row, score in zip(first_hits, worst.tolist(), scores, strict=True)
        ]


def rate_text(rate: float) -> str:
    """``1e-3``, ``2.5e-4``: as papers write a false accept rate."""
    mantissa, _, exponent = f"{rate:.1e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
