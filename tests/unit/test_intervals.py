"""Confidence intervals over people, and paired tests, against figures counted pair by pair."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from occframe.errors import OccframeError
from occframe.evaluation.bootstrap import WeightedFolds, WeightedPairs, draws
from occframe.evaluation.configs import DrawnPairs, VerificationConfig
from occframe.evaluation.scoring import score_cross
from occframe.evaluation.significance import bootstrap_difference, compare_results, mcnemar
from occframe.evaluation.tables import PairSpace
from occframe.evaluation.verification import area_under_curve, equal_error_rate, fold_accuracy, roc, tar_at_far
from occframe.evaluation.verification_protocol import Verification
from occframe.types import EmbeddingTable, Interval


def faces(people: int = 30, each: int = 4, noise: float = 0.9, *, seed: int = 0, centres: int = 0) -> EmbeddingTable:
    centre = np.random.default_rng(centres).normal(size=(people, 16))
    vectors = np.repeat(centre, each, 0) + noise * np.random.default_rng(seed + 100).normal(size=(people * each, 16))
    ids = [f"p{at // each:02}/{at % each}" for at in range(people * each)]
    return EmbeddingTable(
        ids,
        [name.partition("/")[0] for name in ids],
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
    )


def repeated(table: EmbeddingTable, drawn: np.ndarray) -> EmbeddingTable:
    """The pictures of those drawn, once for each time."""
    names = sorted(set(table.subjects))
    rows = [
        (row, copy) for row, subject in enumerate(table.subjects) for copy in range(int(drawn[names.index(subject)]))
    ]
    return EmbeddingTable(
        [f"{table.ids[row]}#{copy}" for row, copy in rows],
        [f"{table.subjects[row]}#{copy}" for row, copy in rows],
        table.vectors[[row for row, _ in rows]],
    )


@pytest.mark.parametrize("same_table", [True, False])
def test_a_round_is_the_figure_of_the_people_drawn(same_table: bool) -> None:
    """Two copies of one person are no pair of two people."""
    reference = faces(12)
    probe = reference if same_table else replace(faces(12, seed=1), ids=[f"q{n}" for n in range(48)])
    space = PairSpace(reference, probe)
    weighted = WeightedPairs.of(score_cross(reference, probe, space), space)
    drawn = next(draws(12, rounds=1, seed=4))
    found = weighted.figures(drawn, [0.1, 0.01])
    many, others = repeated(reference, drawn), repeated(probe, drawn)
    scores = many.vectors @ others.vectors.T
    copy, other_copy = (np.array(table.subjects)[:, None] for table in (many, others))
    person, other_person = (np.char.partition(item, "#")[..., 0] for item in (copy, other_copy))
    same, different = copy == other_copy.T, person != other_person.T
    if same_table:
        before = np.array(many.ids)[:, None] < np.array(others.ids)
        same, different = same & before, different & before
    curve = roc(scores[same], scores[different])
    for far in (0.1, 0.01):
        point = tar_at_far(curve, far)
        assert point is not None
        assert found[repr(far)] == pytest.approx(point.tar, abs=1e-6)
    assert found["auc"] == pytest.approx(area_under_curve(curve), abs=1e-6)
    assert found["eer"] == pytest.approx(equal_error_rate(curve)[0], abs=2e-3)
    spread = math.sqrt((scores[same].var() + scores[different].var()) / 2)
    assert found["d-prime"] == pytest.approx((scores[same].mean() - scores[different].mean()) / spread, abs=1e-4)


def test_a_sample_of_impostors_gives_much_the_same_rounds() -> None:
    table = faces(60, 6, noise=1.2)
    space = PairSpace(table, table)
    whole, few = (WeightedPairs.of(score_cross(table, table, space, keep=keep), space) for keep in (100_000, 3000))
    assert few.scores.impostor.scores.size < 0.15 * few.scores.impostor.total
    for drawn in draws(60, rounds=5, seed=0):
        one, other = whole.figures(drawn, [0.1, 0.01]), few.figures(drawn, [0.1, 0.01])
        assert one["0.01"] == pytest.approx(other["0.01"], abs=1e-6)  # within the highest, which are exact
        for name in ("0.1", "eer", "auc"):
            assert one[name] == pytest.approx(other[name], abs=0.04)


def test_accuracy_with_everybody_drawn_once_is_the_accuracy() -> None:
    draw = np.random.default_rng(0)
    same, folds = np.arange(300) % 2 == 0, np.arange(300) // 30
    scores = np.clip(draw.normal(0.4 * same, 0.3), -1, 1).astype(np.float32)
    first, second = draw.integers(0, 40, (2, 300))
    weighted = WeightedFolds.of(scores, same, folds, first, np.where(same, first, second))
    assert weighted.accuracy(np.ones(40)) == pytest.approx(fold_accuracy(scores, same, folds).mean)
    # A person drawn twice: genuine pairs count twice, pairs with others twice, and the fold's size with them.
    drawn = np.ones(40)
    drawn[3] = 2
    times = np.where(same, drawn[first], drawn[first] * drawn[np.where(same, first, second)]).astype(int)
    expected = fold_accuracy(np.repeat(scores, times), np.repeat(same, times), np.repeat(folds, times))
    assert weighted.accuracy(drawn) == pytest.approx(expected.mean)
    assert np.isnan(weighted.accuracy(np.zeros(40)))


def test_an_interval_holds_its_value_and_narrows_with_more_people() -> None:
    widths = []
    for people in (20, 100):
        result = Verification(VerificationConfig(fars=[0.1, 0.01], rounds=60)).evaluate(
            faces(people, 2), faces(people, 2), None
        )
        assert set(result.intervals) == {"tar@far=1e-1", "tar@far=1e-2", "eer", "auc", "d-prime"}
        for name, item in result.intervals.items():
            assert item.low <= result.metrics[name] <= item.high
            assert item.rounds.shape == (60,)
        widths.append(result.intervals["tar@far=1e-2"].high - result.intervals["tar@far=1e-2"].low)
    assert widths[1] < 0.7 * widths[0]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Forty test sets of 25 people each: the AUC over 300 people lies within most of their intervals."""
    truth = (
        Verification(VerificationConfig(rounds=0))
        .evaluate(big := faces(300, 3, noise=1.5, centres=99), big, None)
        .metrics["auc"]
    )
    inside = 0
    for number in range(40):
        table = faces(25, 3, noise=1.5, seed=number, centres=number)
        item = Verification(VerificationConfig(rounds=60)).evaluate(table, table, None).intervals["auc"]
        inside += item.low <= truth <= item.high
    assert 31 <= inside <= 40


def test_two_systems_are_compared_in_pairs() -> None:
    """The better one is better beyond doubt, though both vary more with the people than they differ."""
    config = VerificationConfig(draw=DrawnPairs(genuine=150, impostor=600, folds=5), fars=[0.01], rounds=200)
    clean = faces(40, noise=0.9)
    noisy = replace(clean, vectors=clean.vectors + 0.12 * faces(40, seed=9, centres=5).vectors)
    noisy = replace(noisy, vectors=noisy.vectors / np.linalg.norm(noisy.vectors, axis=1, keepdims=True))
    worse, better = (Verification(config).evaluate(table, table, None) for table in (noisy, clean))
    found = compare_results(worse, better)
    assert {item.metric for item in found.differences} == {"accuracy", "tar@far=1e-2", "eer", "auc", "d-prime"}
    auc = next(item for item in found.differences if item.metric == "auc")
    assert auc.difference == better.metrics["auc"] - worse.metrics["auc"]
    spread = better.intervals["auc"].high - better.intervals["auc"].low
    assert auc.high - auc.low < spread
    assert found.mcnemar is not None
    assert found.mcnemar.trials == 750
    same = compare_results(better, better)
    assert all(item.difference == 0 and item.p == 1 for item in same.differences)
    assert same.mcnemar is not None
    assert same.mcnemar.p == 1


def test_what_was_not_asked_alike_is_not_compared() -> None:
    config = VerificationConfig(draw=DrawnPairs(genuine=30, impostor=30, folds=2), fars=[0.1], rounds=20)
    one, other = (Verification(config).evaluate(faces(n), faces(n), None) for n in (20, 21))
    found = compare_results(one, other)
    assert found.differences == []
    assert found.mcnemar is None
    assert "bootstraps are of different people" in found.notes[0]
    assert "not asked the same trials" in found.notes[1]
    cross = Verification(VerificationConfig(rounds=0)).evaluate(faces(20), faces(20), None)
    assert "every trial" in compare_results(cross, cross).notes[-1]
    with pytest.raises(OccframeError, match="drew different people"):
        bootstrap_difference("auc", 0.5, Interval(0, 1, np.ones(3), drawn="a"), 0.5, Interval(0, 1, np.ones(3)))
    with pytest.raises(OccframeError, match="2 trials of one system, 3 of the other"):
        mcnemar(np.ones(2, bool), np.ones(3, bool))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 3), (1, 8), (0, 6), (40, 90), (900, 1000)])
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    both = 5
    first = np.array([True] * both + [True] * only_first + [False] * only_second)
    second = np.array([True] * both + [False] * only_first + [True] * only_second)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    count = only_first + only_second
    expected = stats.binomtest(only_first, count).pvalue if count else 1.0
    assert found.p == pytest.approx(expected, rel=1e-9)
