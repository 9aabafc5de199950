"""Verification figures against scikit-learn's, InsightFace's conventions and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn import metrics
from sklearn.model_selection import KFold

from occframe.errors import OccframeError
from occframe.evaluation.verification import (
    DISTANCE_GRID,
    area_under_curve,
    equal_error_rate,
    fold_accuracy,
    roc,
    sensitivity,
    tar_at_far,
)

# A coarse grid of scores makes ties the rule.
scores = st.lists(st.integers(-4, 4).map(lambda value: value / 4), min_size=1, max_size=30).map(np.array)


def fixed_scores() -> tuple[np.ndarray, np.ndarray]:
    """400 genuine and 2,000 impostor scores on 121 levels, by arithmetic rather than by a generator that may change."""
    genuine = np.round(1 - (np.arange(1, 401) * 0.6180339887498949 % 1.0) ** 2 * 0.9, 2)
    impostor = np.round((np.arange(1, 2001) * 0.7548776662466927 % 1.0) ** 3 - 0.2, 2)
    return genuine, impostor


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    """ROC, AUC and EER to 1e-6 on random scores, with many ties and with none."""
    draw = np.random.default_rng(seed)
    genuine, impostor = draw.normal(0.5, 0.2, 500), draw.normal(0.0, 0.2, 3000)
    if seed:
        genuine, impostor = np.round(genuine, seed), np.round(impostor, seed)
    curve = roc(genuine, impostor)
    labels = np.arange(3500) < 500
    far, tar, thresholds = metrics.roc_curve(labels, np.concatenate([genuine, impostor]), drop_intermediate=False)
    assert area_under_curve(curve) == pytest.approx(
        metrics.roc_auc_score(labels, np.concatenate([genuine, impostor])), abs=1e-6
    )
    eer = brentq(lambda x: 1.0 - x - np.interp(x, far, tar), 0.0, 1.0)
    assert equal_error_rate(curve)[0] == pytest.approx(eer, abs=1e-6)
    for rate in (1e-1, 1e-2, 1e-3):
        point = tar_at_far(curve, rate)
        assert point is not None
        assert point.tar == pytest.approx(tar[far <= rate + 1e-12].max(), abs=1e-6)
    for threshold, rate, share in zip(thresholds[1:], far[1:], tar[1:], strict=True):
        corner = int(np.searchsorted(-curve.thresholds, -threshold, side="right")) - 1
        assert curve.tar[corner] == pytest.approx(share, abs=1e-6)
        assert curve.far[corner] == pytest.approx(rate, abs=1e-6) or threshold not in genuine


def insightface_accuracy(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """InsightFace's convention, written anew from its description: scikit-learn's ten folds in the order of the pairs;
    thresholds 0 to 4 in steps of 0.01 on squared distances, of which the first with the best accuracy on the other nine
    folds decides, a pair being accepted where its distance is less."""
    distances, grid = 2 - 2 * scores, np.arange(0, 4, 0.01)
    found = []
    for train, test in KFold(10, shuffle=False).split(distances):
        rates = [np.mean(same[train] == (distances[train] < level)) for level in grid]
        found.append(np.mean(same[test] == (distances[test] < grid[int(np.argmax(rates))])))
    return float(np.mean(found)), float(np.std(found))


@pytest.mark.parametrize("seed", [0, 1])
def test_fold_accuracy_is_that_of_insightface(seed: int) -> None:
    draw = np.random.default_rng(seed)
    same = draw.permutation(np.arange(600) < 300)
    scores = np.clip(draw.normal(0.15 + 0.3 * same, 0.2), -1, 1)
    result = fold_accuracy(scores, same, np.arange(600) // 60)
    assert (result.mean, result.std) == pytest.approx(insightface_accuracy(scores, same), abs=1e-6)
    assert result.correct.mean() == pytest.approx(result.mean)


def test_published_figures_on_fixed_scores() -> None:
    """scikit-learn 1.9.1 and InsightFace's own loops, run once on these scores."""
    genuine, impostor = fixed_scores()
    curve = roc(genuine, impostor)
    assert area_under_curve(curve) == pytest.approx(0.9337925, abs=1e-12)
    assert equal_error_rate(curve)[0] == pytest.approx(0.16776315789473678, abs=1e-12)
    expected = {1e-1: (0.72, 0.54), 1e-2: (0.4975, 0.78), 1e-3: (0.4625, 0.81), 5e-4: (0.4625, 0.81)}
    for far, (tar, threshold) in expected.items():
        point = tar_at_far(curve, far)
        assert point is not None
        assert (point.tar, point.threshold) == pytest.approx((tar, threshold), abs=1e-12)
    order = np.argsort(np.arange(2400) * 0.5698402909980532 % 1.0)
    result = fold_accuracy(
        np.concatenate([genuine, impostor])[order], (np.arange(2400) < 400)[order], np.arange(2400) // 240
    )
    assert result.mean == pytest.approx(0.9116666666666665, abs=1e-12)
    assert result.std == pytest.approx(0.004082482904638615, abs=1e-12)


def test_sensitivity() -> None:
    """d' of two normal distributions one standard deviation wide and two apart is 2."""
    draw = np.random.default_rng(0)
    assert sensitivity(draw.normal(2, 1, 200_000), 0.0, 1.0) == pytest.approx(2, abs=0.02)
    assert sensitivity(np.full(3, 0.5), 0.5, 0.0) is None


@given(scores, scores)
def test_roc_has_every_corner_and_nothing_else(genuine: np.ndarray, impostor: np.ndarray) -> None:
    curve = roc(genuine, impostor)
    for threshold, far, tar in zip(curve.thresholds, curve.far, curve.tar, strict=True):
        assert far == np.mean(impostor >= threshold)
        assert tar == np.mean(genuine >= threshold)
    assert (curve.far[0], curve.tar[0]) == (0, 0)
    assert (curve.far[-1], curve.tar[-1]) == (1, 1)
    reached = {(np.mean(impostor >= level), np.mean(genuine >= level)) for level in genuine}
    assert reached <= set(zip(curve.far, curve.tar, strict=True))


@given(scores, scores)
def test_area_is_the_chance_of_a_right_order(genuine: np.ndarray, impostor: np.ndarray) -> None:
    wins = (genuine[:, None] > impostor).mean() + (genuine[:, None] == impostor).mean() / 2
    assert area_under_curve(roc(genuine, impostor)) == pytest.approx(wins, abs=1e-12)


@given(scores, scores, st.integers(1, 40))
def test_tar_at_far_never_lets_more_through(genuine: np.ndarray, impostor: np.ndarray, one_in: int) -> None:
    point = tar_at_far(roc(genuine, impostor), 1 / one_in)
    if one_in > impostor.size:
        assert point is None
        return
    assert point is not None
    levels = np.concatenate([genuine, impostor, [np.inf]])
    best = max(np.mean(genuine >= level) for level in levels if np.mean(impostor >= level) * one_in <= 1)
    assert point.tar == best
    assert np.mean(impostor >= point.threshold) == point.far <= 1 / one_in
    assert np.mean(genuine >= point.threshold) == point.tar


@given(scores, scores)
def test_equal_error_rate_balances_both_errors(genuine: np.ndarray, impostor: np.ndarray) -> None:
    curve = roc(genuine, impostor)
    eer, threshold = equal_error_rate(curve)
    # FAR and FRR both step over the EER between the threshold and the next stricter corner.
    assert np.mean(impostor >= threshold) >= eer - 1e-12
    assert np.mean(genuine < threshold) <= eer + 1e-12
    assert np.interp(eer, curve.far, curve.tar) >= 1 - eer - 1e-9


@given(st.permutations(range(40)), st.integers(2, 5))
@settings(max_examples=25)
def test_fold_accuracy_is_the_loop_written_out(order: list[int], folds: int) -> None:
    cosines = (np.arange(40) * 0.618 % 1.0 * 2 - 1)[order]
    same, fold_of = np.arange(40) % 3 == 0, np.arange(40) % folds
    result = fold_accuracy(cosines, same, fold_of)
    for fold in range(folds):
        test = fold_of == fold
        right = [np.mean(((2 - 2 * cosines[~test]) < level) == same[~test]) for level in DISTANCE_GRID]
        level = DISTANCE_GRID[int(np.argmax(right))]
        assert result.accuracies[fold] == np.mean(((2 - 2 * cosines[test]) < level) == same[test])
        assert result.thresholds[fold] == pytest.approx(1 - level / 2)


def test_equal_scores_say_nothing() -> None:
    curve = roc(np.full(5, 0.3), np.full(7, 0.3))
    assert area_under_curve(curve) == 0.5
    assert equal_error_rate(curve) == (0.5, 0.3)
    point = tar_at_far(curve, 0.5)
    assert point is not None
    assert point.tar == 0


def test_perfect_scores_are_perfect() -> None:
    curve = roc(np.array([0.9, 0.8], np.float32), np.array([0.1, 0.2, 0.3], np.float32))
    assert area_under_curve(curve) == 1
    assert equal_error_rate(curve)[0] == 0
    point = tar_at_far(curve, 1 / 3)
    assert point is not None
    assert point.tar == 1


def test_the_deepest_far_is_one_impostor_pair() -> None:
    curve = roc(np.ones(10), np.linspace(-1, 0, 3000))
    point = tar_at_far(curve, 1e-3)
    assert point is not None
    assert point.allowed == 3
    assert tar_at_far(curve, 1 / 3000) is not None
    assert tar_at_far(curve, 1e-4) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(OccframeError, match="1 of 2 genuine scores are NaN or infinite"):
        roc(np.array([0.5, bad]), np.array([0.1]))
    with pytest.raises(OccframeError, match="1 of 2 pair scores"):
        fold_accuracy(np.array([bad, 0.5]), np.array([True, False]), np.array([0, 1]))


def test_one_class_is_refused() -> None:
    with pytest.raises(OccframeError, match="no genuine pairs"):
        roc(np.array([]), np.array([0.1]))
    with pytest.raises(OccframeError, match="no impostor pairs"):
        roc(np.array([0.1]), np.array([]))
    with pytest.raises(OccframeError, match="at least two folds"):
        fold_accuracy(np.array([0.1, 0.2]), np.array([True, False]), np.array([0, 0]))
