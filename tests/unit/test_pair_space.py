"""Which rows are compared: all of them once, never a picture with itself; and draws from among them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.evaluation.drawing import draw_pairs
from occframe.evaluation.scoring import score_cross, score_pairs, split_scores
from occframe.evaluation.tables import PairSpace
from occframe.types import EmbeddingTable


def table(ids: list[str], subjects: list[str] | None = None, *, seed: int = 0) -> EmbeddingTable:
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 8)).astype(np.float32)
    return EmbeddingTable(
        ids, subjects or [name[0] for name in ids], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )


names = st.lists(st.from_regex(r"[abc][0-9]", fullmatch=True), min_size=1, max_size=12, unique=True)


@given(names, names)
@settings(deadline=None)
def test_every_pair_is_scored_once_and_none_with_itself(first: list[str], second: list[str]) -> None:
    reference, probe = table(first), table(second, seed=1)
    space = PairSpace(reference, probe)
    scores = score_cross(reference, probe, space)
    expected: dict[bool, list[tuple[float, str, str]]] = {True: [], False: []}
    for row, a in enumerate(first):
        for column, b in enumerate(second):
            if a < b if set(first) == set(second) else a != b:
                expected[a[0] == b[0]].append((float(reference.vectors[row] @ probe.vectors[column]), a, b))
    assert space.counts() == (len(expected[True]), len(expected[False]))
    np.testing.assert_allclose(scores.genuine.scores[::-1], sorted(score for score, _, _ in expected[True]), atol=1e-6)
    np.testing.assert_allclose(
        scores.impostor.scores[::-1], sorted(score for score, _, _ in expected[False]), atol=1e-6
    )
    for side, listed in ((scores.genuine, sorted(expected[True])), (scores.impostor, sorted(expected[False]))):
        rows = zip(side.reference_rows, side.probe_rows, strict=True)
        assert [(first[row], second[column]) for row, column in rows] == [(a, b) for _, a, b in listed[::-1]]


def test_many_blocks_give_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, probe = (
        table([f"{'abc'[n % 3]}{n}" for n in range(40)]),
        table([f"{'abc'[n % 3]}{n}" for n in range(10, 70)]),
    )
    space = PairSpace(reference, probe)
    whole = score_cross(reference, probe, space)
    monkeypatch.setattr("occframe.evaluation.scoring._BLOCK", 90)
    parts = score_cross(reference, probe, space)
    np.testing.assert_allclose(parts.impostor.scores, whole.impostor.scores, atol=1e-6)
    np.testing.assert_array_equal(parts.impostor.probe_rows, whole.impostor.probe_rows)
    np.testing.assert_array_equal(parts.genuine.reference_rows, whole.genuine.reference_rows)


@pytest.mark.parametrize("both", [True, False])
def test_what_is_not_kept_is_counted(both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, histogram and moments are of all pairs, however few are kept; those kept are the highest and a sample
    that stands for the rest."""
    faces = table([f"{'abc'[n % 3]}{n:03d}" for n in range(120)])
    other = faces if both else table([f"{'abc'[n % 3]}{n:03d}" for n in range(60, 160)], seed=2)
    space = PairSpace(faces, other)
    whole = score_cross(faces, other, space).impostor
    monkeypatch.setattr("occframe.evaluation.scoring._BLOCK", 900)
    few = score_cross(faces, other, space, keep=50).impostor
    for name in ("above", "at_least", "histogram"):
        np.testing.assert_array_equal(getattr(few, name), getattr(whole, name))
    assert (few.mean, few.std) == pytest.approx((whole.mean, whole.std), abs=1e-6)
    assert (few.mean, few.std) == pytest.approx((whole.scores.mean(), whole.scores.std()), abs=1e-6)
    assert whole.above.tolist() == [(whole.scores > level).sum() for level in whole.levels]
    assert whole.at_least.tolist() == [(whole.scores >= level).sum() for level in whole.levels]
    assert few.exact == 50
    np.testing.assert_allclose(few.scores[:50], whole.scores[:50], atol=1e-6)
    np.testing.assert_array_equal(few.probe_rows[:50], whole.probe_rows[:50])
    assert few.scores.size > 60
    assert few.weight.sum() == pytest.approx(few.total)
    assert (np.diff(few.scores) <= 0).all()


def test_drawn_pairs_are_distinct_right_and_dealt_out() -> None:
    reference = table([f"{'abcd'[n % 4]}{n}" for n in range(60)])
    probe = table([f"{'abcd'[n % 4]}{n}" for n in range(40, 90)], seed=1)
    space = PairSpace(reference, probe)
    pairs = draw_pairs(space, genuine=200, impostor=500, folds=10, seed=3)
    both = list(zip(pairs.reference_rows.tolist(), pairs.probe_rows.tolist(), strict=True))
    assert len(set(both)) == 700
    for (row, column), same in zip(both, pairs.same.tolist(), strict=True):
        assert (reference.subjects[row] == probe.subjects[column]) == same
        assert reference.ids[row] != probe.ids[column]
    assert pairs.folds is not None
    assert set(Counter(pairs.folds[pairs.same].tolist()).values()) == {20}
    assert set(Counter(pairs.folds[~pairs.same].tolist()).values()) == {50}


def test_a_draw_does_not_depend_on_the_order_of_rows() -> None:
    ids = [f"{'abc'[n % 3]}{n:02d}" for n in range(30)]
    shuffled = [ids[place] for place in np.random.default_rng(5).permutation(30)]
    drawn = []
    for order in (ids, shuffled):
        pairs = draw_pairs(PairSpace(table(order), table(order)), genuine=40, impostor=60, folds=5, seed=1)
        drawn.append(
            [(order[row], order[column]) for row, column in zip(pairs.reference_rows, pairs.probe_rows, strict=True)]
        )
    assert drawn[0] == drawn[1]
    assert all(first < second for first, second in drawn[0])


def test_all_pairs_can_be_drawn_but_not_more() -> None:
    faces = table(["a1", "a2", "b1", "b2"])
    space = PairSpace(faces, faces)
    pairs = draw_pairs(space, genuine=2, impostor=4, folds=2, seed=0)
    drawn = split_scores(score_pairs(faces, faces, pairs), pairs)
    everything = score_cross(faces, faces, space)
    np.testing.assert_allclose(drawn.impostor.scores, everything.impostor.scores, atol=1e-6)
    np.testing.assert_allclose(drawn.genuine.scores, everything.genuine.scores, atol=1e-6)
    with pytest.raises(OccframeError, match="5 impostor pairs asked for, the embeddings make 4"):
        draw_pairs(space, genuine=2, impostor=5, folds=2, seed=0)
    with pytest.raises(OccframeError, match="3 genuine pairs asked for, the embeddings make 2"):
        draw_pairs(space, genuine=3, impostor=4, folds=2, seed=0)


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    broken = table(["a1", "b1"])
    broken.vectors[1, 3] = np.nan
    with pytest.raises(OccframeError, match=r"1 of 2 probe embeddings are NaN or infinite, e.g. of 'b1'"):
        PairSpace(table(["a2"]), broken)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OccframeError, match="the probe table has no embeddings"):
        PairSpace(table(["a1"]), EmbeddingTable([], [], np.empty((0, 8), np.float32)))
    with pytest.raises(OccframeError, match="references have 8 dimensions, probes 4"):
        PairSpace(table(["a1"]), EmbeddingTable(["b1"], ["b"], np.eye(4, dtype=np.float32)[:1]))
    with pytest.raises(OccframeError, match="'a1' is 'a' among the references and 'z' among the probes"):
        PairSpace(table(["a1"]), table(["a1"], ["z"]))
