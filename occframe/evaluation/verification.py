"""Verification figures from genuine and impostor scores.

A pair is accepted where ``score >= threshold``. FAR is the share of impostor pairs accepted, TAR (= 1 - FRR) the share
of genuine pairs accepted. Counts are exact integers and tied scores are one threshold, so no figure depends on the
order of pairs. Definitions and conventions: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.errors import OccframeError
from occframe.evaluation.impostors import ImpostorScores

#: Squared Euclidean distances between unit vectors at which InsightFace's ``verification.py`` and the LFW code before
#: it look for the best accuracy. The grid is part of the convention: a finer one gives other figures.
DISTANCE_GRID = np.arange(0.0, 4.0, 0.01)


@dataclass(frozen=True)
class Roc:
    """Every corner of the ROC, from (0, 0) to (1, 1); between corners it is a straight line.

    thresholds: array [P] float64, falling. false_accepts, true_accepts: arrays [P] int64, rising.
    """

    thresholds: np.ndarray
    false_accepts: np.ndarray
    true_accepts: np.ndarray
    impostors: int
    genuines: int

    @property
    def far(self) -> np.ndarray:
        return self.false_accepts / self.impostors

    @property
    def tar(self) -> np.ndarray:
        return self.true_accepts / self.genuines


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold gives. allowed: how many impostor pairs the asked FAR lets through at most."""

    threshold: float
    far: float
    tar: float
    allowed: int


@dataclass(frozen=True)
class FoldAccuracy:
    """mean, std: over folds (population standard deviation). accuracies, thresholds (cosine): one a fold.

    correct: bool [P], whether each pair was decided rightly at its fold's threshold.
    """

    mean: float
    std: float
    accuracies: np.ndarray
    thresholds: np.ndarray
    correct: np.ndarray


def roc(genuine: np.ndarray, impostor: np.ndarray) -> Roc:
    """genuine: scores [G], impostor: scores [I], any order. Raises OccframeError: one is empty or not finite."""
    genuine, impostor = _sorted_scores(genuine, "genuine"), _sorted_scores(impostor, "impostor")
    levels = np.unique(genuine)
    above, at_least = (impostor.size - np.searchsorted(impostor, levels, side) for side in ("right", "left"))
    return _corners(genuine, levels, above, at_least, impostor.size)


def roc_of_counts(genuine: np.ndarray, impostor: ImpostorScores) -> Roc:
    """The same from counts. genuine: scores [G]. Raises OccframeError: one is empty or not finite."""
    if not impostor.total:
        _sorted_scores(np.empty(0), "impostor")
    return _corners(
        _sorted_scores(genuine, "genuine"), impostor.levels, impostor.above, impostor.at_least, impostor.total
    )


def _corners(genuine: np.ndarray, levels: np.ndarray, above: np.ndarray, at_least: np.ndarray, impostors: int) -> Roc:
    """genuine: scores [G], ascending. above, at_least: impostors > and >= each level. levels: those of ``genuine``.

    TAR only changes at genuine scores. Just above and at each of them are all the corners there are: impostors in
    between lie on a horizontal line."""
    true_above, true_at = (genuine.size - np.searchsorted(genuine, levels, side) for side in ("right", "left"))
    exact = levels[::-1].astype(np.float64)
    thresholds = _interleave(np.inf, np.nextafter(exact, np.inf), exact, -np.inf)
    false_accepts = _interleave(0, above[::-1], at_least[::-1], impostors)
    true_accepts = _interleave(0, true_above[::-1], true_at[::-1], genuine.size)
    moved = np.ones(thresholds.size, bool)
    moved[1:] = (np.diff(false_accepts) > 0) | (np.diff(true_accepts) > 0)
    return Roc(thresholds[moved], false_accepts[moved], true_accepts[moved], impostors, genuine.size)


def sensitivity(genuine: np.ndarray, impostor_mean: float, impostor_std: float) -> float | None:
    """d', how far the means lie apart in units of the mean standard deviation (Daugman, "Biometric decision
    landscapes", 2000); None where no score varies."""
    scores = genuine.astype(np.float64)
    spread = np.sqrt((scores.var() + impostor_std**2) / 2)
    return float((scores.mean() - impostor_mean) / spread) if spread > 1e-9 else None


def allowed_accepts(rate: float, trials: int) -> int:
    """How many of ``trials`` a rate lets through: 1e-3 of 3,000 is 3 in spite of rounding."""
    return int(np.floor(rate * trials * (1 + 1e-12)))


def tar_at_far(curve: Roc, far: float) -> OperatingPoint | None:
    """The highest TAR whose FAR does not exceed ``far``, never interpolated.

    None where ``far`` is less than one impostor pair in all there are: such a figure would be an extrapolation.
    """
    allowed = allowed_accepts(far, curve.impostors)
    if allowed < 1:
        return None
    at = int(np.searchsorted(curve.false_accepts, allowed, side="right")) - 1
    return OperatingPoint(float(curve.thresholds[at]), float(curve.far[at]), float(curve.tar[at]), allowed)


def equal_error_rate(curve: Roc) -> tuple[float, float]:
    """(EER, threshold). EER is where the ROC, straight between corners, has FAR = 1 - TAR; the threshold is that of
    the first corner, coming from strict thresholds, at which FAR has reached 1 - TAR."""
    far, excess = curve.far, curve.far + curve.tar - 1.0
    # Integers decide the crossing: a rounding error in ``excess`` must not move it to another corner.
    crossed = curve.false_accepts * curve.genuines + (curve.true_accepts - curve.genuines) * curve.impostors >= 0
    after = int(np.argmax(crossed))
    before = after - 1
    share = excess[before] / (excess[before] - excess[after])
    return float(far[before] + share * (far[after] - far[before])), float(curve.thresholds[after])


def area_under_curve(curve: Roc) -> float:
    """The probability that a genuine pair scores above an impostor pair, a tie counting half."""
    heights = curve.true_accepts[1:] + curve.true_accepts[:-1]
    return int(np.dot(np.diff(curve.false_accepts), heights)) / (2 * curve.impostors * curve.genuines)


def fold_accuracy(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> FoldAccuracy:
    """Accuracy on each fold at the threshold that is best on all other folds (LFW, as InsightFace evaluates).

    scores: cosines [P]. same: bool [P]. folds: int [P]. Distance is ``2 - 2 cosine``, a pair is accepted where the
    distance is *below* a value of ``DISTANCE_GRID``, and of equally good values the smallest is taken.
    Raises OccframeError: fewer than two folds, or scores that are not finite.
    """
    labels, fold_of = np.unique(folds, return_inverse=True)
    if labels.size < 2:
        raise OccframeError("accuracy needs at least two folds", remedy="give pairs with folds")
    distances = 2.0 - 2.0 * _finite(scores, "pair").astype(np.float64)
    correct = np.empty((labels.size, DISTANCE_GRID.size), np.int64)
    sizes = np.bincount(fold_of)
    for fold in range(labels.size):
        mine = fold_of == fold
        accepted, wrongly_accepted = (
            np.searchsorted(np.sort(distances[mine & kind]), DISTANCE_GRID, side="left") for kind in (same, ~same)
        )
        correct[fold] = accepted + (mine & ~same).sum() - wrongly_accepted
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    accuracies = correct[np.arange(labels.size), best] / sizes
    right = (distances < DISTANCE_GRID[best][fold_of]) == same
    thresholds = 1.0 - DISTANCE_GRID[best] / 2.0
    return FoldAccuracy(float(accuracies.mean()), float(accuracies.std()), accuracies, thresholds, right)


def _interleave(first: float, above: np.ndarray, at: np.ndarray, last: float) -> np.ndarray:
    return np.concatenate([[first], np.stack([above, at], axis=1).ravel(), [last]])


def _sorted_scores(scores: np.ndarray, what: str) -> np.ndarray:
    scores = _finite(scores, what)
    if scores.size == 0:
        missing = "of the same person" if what == "genuine" else "of different people"
        raise OccframeError(
            f"no {what} pairs to compare",
            remedy=f"verification needs pairs {missing}: check the split and the identities",
        )
    return np.sort(scores, axis=None)


def _finite(scores: np.ndarray, what: str) -> np.ndarray:
    scores = np.asarray(scores)
    bad = int(scores.size - np.isfinite(scores).sum())
    if bad:
        raise OccframeError(
            f"{bad} of {scores.size} {what} scores are NaN or infinite",
            remedy="look at the embeddings: figures from such scores would mean nothing",
        )
    return scores
