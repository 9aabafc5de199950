"""Protocol ``identification``: who is it, of the people enrolled? Closed set, alone or among distractors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from occframe.component import BuildContext
from occframe.errors import OccframeError
from occframe.evaluation.bootstrap import intervals
from occframe.evaluation.configs import IdentificationConfig
from occframe.evaluation.distractors import DistractorTrials, distractor_trials
from occframe.evaluation.groups import columns_of
from occframe.evaluation.identification import Ranking, cumulative_match, rank_by_hits, rank_by_product
from occframe.evaluation.tables import PairSpace
from occframe.types import Curve, EmbeddingTable, Group, Hits, Interval, Mistake, ProtocolResult, Trials


def build(config: IdentificationConfig, context: BuildContext) -> Identification:
    return Identification(config)


@dataclass(frozen=True)
class Identification:
    """Looks each probe up among all references; every probe that counts has a mate there."""

    config: IdentificationConfig
    uses_distractors = True

    @property
    def columns(self) -> Sequence[str]:
        return list(self.config.by)

    def evaluate(self, reference: EmbeddingTable, probe: EmbeddingTable, hits: Hits | None) -> ProtocolResult:
        """From ``hits`` where a search step ran, else by an exact product of the two tables."""
        space = PairSpace(reference, probe)
        enrolled = np.flatnonzero(space.mates() > 0)
        if not enrolled.size:
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
        if strangers := len(probe.ids) - enrolled.size:
            notes.append(f"{strangers:,} probes show people who are not enrolled and are left out.")
        if hits is not None:
            notes.append(f"Ranks are those of the search step, {ranking.depth} deep.")
        depth = min(self.config.max_rank, ranking.depth)
        given = [rank for rank in sorted(self.config.ranks) if rank <= ranking.depth]
        if too_deep := [str(rank) for rank in sorted(self.config.ranks) if rank > ranking.depth]:
            notes.append(f"Rank {', '.join(too_deep)} is left out: the list is only {ranking.depth} deep.")
        match = cumulative_match(ranks, max([depth, *given]))
        trials = self._among_distractors(reference, probe, space, notes)
        curves = {"CMC": Curve("CMC", np.arange(1, depth + 1), match[:depth])}
        metrics = {f"rank-{rank}": float(match[rank - 1]) for rank in given}
        counts = {
            "probes": int(enrolled.size),
            "references": len(reference.ids),
            "people": int(np.unique(space.probe_subjects[enrolled]).size),
        }
        if trials is not None and trials.sizes:
            shares = trials.found.mean(axis=0)
            metrics |= {
                f"rank-1@distractors={size}": float(share) for size, share in zip(trials.sizes, shares, strict=True)
            }
            curves["rank-1 by distractors"] = Curve("rank-1", np.array(trials.sizes), shares)
            counts["distractors"] = trials.available
        digest = hashlib.sha256("\n".join(probe.ids[row] for row in enrolled.tolist()).encode())
        return ProtocolResult(
            metrics=metrics,
            curves=curves,
            mistakes=self._mistakes(reference, probe, ranking, enrolled),
            counts=counts,
            notes=notes,
            intervals=self._intervals(space, enrolled, ranks, given, trials),
            groups=list(self._groups(reference, probe, enrolled, ranks, given)),
            trials=Trials(digest.hexdigest()[:16], ranks == 1, ranking.best_scores[enrolled], "found at rank 1"),
        )

    def _among_distractors(
        self, reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace, notes: list[str]
    ) -> DistractorTrials | None:
        if self.config.distractors is None:
            return None
        trials = distractor_trials(reference, probe, space, self.config.distractors)
        if missing := [size for size in sorted(set(self.config.distractors)) if size > trials.available]:
            notes.append(
                f"Rank 1 among {', '.join(f'{size:,}' for size in missing)} distractors is left out: "
                f"{trials.available:,} references show people of whom there is no probe."
            )
        return trials

    def _intervals(
        self,
        space: PairSpace,
        enrolled: np.ndarray,
        ranks: np.ndarray,
        given: Sequence[int],
        trials: DistractorTrials | None,
    ) -> dict[str, Interval]:
        """The probes' people are drawn anew; who is enrolled stays."""
        whose = space.probe_subjects[enrolled]
        among = space.probe_subjects[trials.probe_rows] if trials is not None else whose

        def figures(drawn: np.ndarray) -> dict[str, float]:
            found = {}
            weights = drawn[whose]
            total = weights.sum()
            for rank in given:
                right = weights[(ranks >= 1) & (ranks <= rank)].sum()
                found[f"rank-{rank}"] = float(right / total) if total else np.nan
            if trials is not None and trials.sizes:
                weights = drawn[among]
                shares = weights @ trials.found / weights.sum() if weights.sum() else np.full(len(trials.sizes), np.nan)
                for size, share in zip(trials.sizes, shares.tolist(), strict=True):
                    found[f"rank-1@distractors={size}"] = share
            return found

        return intervals(space, figures, rounds=self.config.rounds, seed=self.config.seed)

    def _groups(
        self,
        reference: EmbeddingTable,
        probe: EmbeddingTable,
        enrolled: np.ndarray,
        ranks: np.ndarray,
        given: Sequence[int],
    ) -> Iterator[Group]:
        for values in columns_of(self.config.by, reference, probe):
            for part in values.of_probes(enrolled):
                mine = ranks[part.chosen]
                metrics = {f"rank-{k}": float(((mine >= 1) & (mine <= k)).mean()) for k in given} if mine.size else {}
                yield Group(values.column, part.label, metrics, {"probes": int(mine.size)}, part.low, part.high)

    def _mistakes(
        self, reference: EmbeddingTable, probe: EmbeddingTable, ranking: Ranking, enrolled: np.ndarray
    ) -> list[Mistake]:
        wrong = enrolled[(ranking.ranks[enrolled] != 1) & (ranking.best_rows[enrolled] >= 0)]
        worst = wrong[np.argsort(-ranking.best_scores[wrong], kind="stable")][: self.config.mistakes]
        first_hits, scores = ranking.best_rows[worst].tolist(), ranking.best_scores[worst].tolist()
        return [
            Mistake("false accept", reference.ids[hit], probe.ids[row], score)
            for hit, row, score in zip(first_hits, worst.tolist(), scores, strict=True)
        ]
