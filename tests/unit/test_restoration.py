"""Figures of what a restoration does to recognition, against small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.evaluation.restoration import chosen, false_accepts, firing_rate, harm_rate, impostor_scores, lowest_mean
from occframe.types import EmbeddingTable


def test_rates_by_hand() -> None:
    assert firing_rate(np.array([0.1, 0.5, 0.9, 0.2])) == 0.5
    assert firing_rate(np.array([0.1, 0.5, 0.9, 0.2]), threshold=0.95) == 0
    assert harm_rate(np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.6, 0.46, 0.4, -0.1])) == 0.5
    assert lowest_mean(np.arange(40.0)) == 0.5
    assert lowest_mean(np.array([3.0, 1.0])) == 1.0


def test_false_accepts_at_the_threshold_from_before() -> None:
    before = np.arange(100) / 100
    after = before.copy()
    after[98], after[3], after[4] = 0.0, 0.995, 0.985
    found = false_accepts(before, after, far=0.02)
    assert found.threshold == pytest.approx(0.97)
    assert (found.before, found.after) == (0.02, 0.03)
    assert found.new == pytest.approx(0.02)
    assert found.gone == pytest.approx(0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.05, 0.3]))
def test_false_accepts_add_up(seed: int, far: float) -> None:
    draw = np.random.default_rng(seed)
    before = draw.normal(size=200).round(1)  # with ties
    after = before + draw.normal(size=200) * 0.1
    found = false_accepts(before, after, far)
    assert found.before <= far + 1e-9
    assert found.after == pytest.approx(found.before + found.new - found.gone)
    assert false_accepts(before, before, far).new == 0


def test_too_few_pairs_for_a_rate() -> None:
    with pytest.raises(OccframeError, match="50 impostor pairs say nothing"):
        false_accepts(np.zeros(50), np.zeros(50), 1e-2)


def test_pairs_of_strangers_who_both_wear_glasses() -> None:
    vectors = np.eye(4, dtype=np.float32) * 0.6 + 0.1
    table = EmbeddingTable(["a1", "a2", "b1", "c1"], ["a", "a", "b", "c"], vectors, {"age": np.arange(4)})
    assert impostor_scores(table, table).size == 16 - 4 - 2
    wearers = chosen(table, np.array([True, False, True, True]))
    assert list(wearers.ids) == ["a1", "b1", "c1"]
    assert wearers.columns["age"].tolist() == [0, 2, 3]
    scores = impostor_scores(wearers, wearers)
    assert scores.size == 6
    assert scores.tolist() == pytest.approx([float(vectors[0] @ vectors[2])] * 6)
