"""What a restoration is worth to recognition: whose face it kept, whom it harmed, and what is still seen.

Scores are cosines; ``before`` and ``after`` hold the same pairs, arrays of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.errors import OccframeError
from occframe.types import EmbeddingTable


def firing_rate(probabilities: np.ndarray, threshold: float = 0.5) -> float:
    """Share of faces in which a recogniser of glasses still sees some. probabilities: array [N]."""
    return float(np.mean(np.asarray(probabilities) >= threshold))


def lowest_mean(values: np.ndarray, share: float = 0.05) -> float:
    """Mean of the lowest ``share`` of the values, of one at least: how bad it is where it is bad."""
    ordered = np.sort(np.asarray(values))
    return float(ordered[: max(1, round(share * len(ordered)))].mean())


def harm_rate(before: np.ndarray, after: np.ndarray, epsilon: float = 0.05) -> float:
    """Share of genuine pairs whose score falls by more than ``epsilon``."""
    return float(np.mean(np.asarray(before) - np.asarray(after) > epsilon))


@dataclass(frozen=True)
class FalseAccepts:
    """Of impostor pairs, at the threshold that lets ``far`` of them through before: shares accepted before and after,
    those that are new, and those that are gone."""

    threshold: float
    before: float
    after: float
    new: float
    gone: float


def false_accepts(before: np.ndarray, after: np.ndarray, far: float = 1e-2) -> FalseAccepts:
    """What an operator sees who keeps the threshold. Raises OccframeError where ``far`` is less than one pair."""
    before, after = np.asarray(before).ravel(), np.asarray(after).ravel()
    allowed = int(far * before.size * (1 + 1e-12))
    if allowed < 1:
        raise OccframeError(
            f"{before.size:,} impostor pairs say nothing about a false accept rate of {far:g}",
            remedy="give more faces, or a higher rate",
        )
    # Just above the first pair that may not pass.
    threshold = float(np.partition(before, before.size - allowed - 1)[before.size - allowed - 1])
    accepted, now = before > threshold, after > threshold
    return FalseAccepts(
        threshold,
        float(accepted.mean()),
        float(now.mean()),
        float((now & ~accepted).mean()),
        float((accepted & ~now).mean()),
    )


def impostor_scores(reference: EmbeddingTable, probe: EmbeddingTable) -> np.ndarray:
    """Cosines of all pairs of different people, float32; the same tables' subjects and order give the same pairs.

    For false accepts among people who both wear glasses, give tables of wearers only (``chosen``).
    """
    strangers = np.asarray(reference.subjects)[:, None] != np.asarray(probe.subjects)
    scores: np.ndarray = (reference.vectors @ probe.vectors.T)[strangers]
    return scores


def chosen(table: EmbeddingTable, keep: np.ndarray) -> EmbeddingTable:
    """The rows where ``keep`` (bool [N]) is true, such as those who wear glasses."""
    rows = np.flatnonzero(keep).tolist()
    return EmbeddingTable(
        [table.ids[row] for row in rows],
        [table.subjects[row] for row in rows],
        table.vectors[rows],
        {name: values[rows] for name, values in table.columns.items()},
    )
