"""Which rows are compared: all of them once, never a picture with itself; and draws from among them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
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
def test_every_pair_is_scored_once_and_none_with_itself(first: list[str], second: list[str]) -> None:
    reference, probe = table(first), table(second, seed=1)
    space = PairSpace(reference, probe)
    scores = score_cross(reference, probe, space, keep=3)
    expected: dict[bool, list[tuple[float, str, str]]] = {True: [], False: []}
    for row, a in enumerate(first):
        for column, b in enumerate(second):
            if a < b if set(first) == set(second) else a != b:
                expected[a[0] == b[0]].append((float(reference.vectors[row] @ probe.vectors[column]), a, b))
    assert space.counts() == (len(expected[True]), len(expected[False]))
    np.testing.assert_allclose(np.sort(scores.genuine), sorted(score for score, _, _ in expected[True]), atol=1e-6)
    np.testing.assert_allclose(np.sort(scores.impostor), sorted(score for score, _, _ in expected[False]), atol=1e-6)
    for worst, listed in (
        (scores.lowest_genuine, sorted(expected[True])),
        (scores.highest_impostor, sorted(expected[False])[::-1]),
    ):
        assert [(first[pair.reference_row], second[pair.probe_row]) for pair in worst] == [
            (a, b) for _, a, b in listed[:3]
        ]


def test_many_blocks_give_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, probe = (
        table([f"{'abc'[n % 3]}{n}" for n in range(40)]),
        table([f"{'abc'[n % 3]}{n}" for n in range(10, 70)]),
    )
    space = PairSpace(reference, probe)
    whole = score_cross(reference, probe, space, keep=5)
    monkeypatch.setattr("occframe.evaluation.scoring._BLOCK", 90)
    parts = score_cross(reference, probe, space, keep=5)
    np.testing.assert_allclose(np.sort(parts.impostor), np.sort(whole.impostor), atol=1e-6)
    assert [pair[:2] for pair in parts.highest_impostor] == [pair[:2] for pair in whole.highest_impostor]
    assert [pair[:2] for pair in parts.lowest_genuine] == [pair[:2] for pair in whole.lowest_genuine]


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
    drawn = split_scores(score_pairs(faces, faces, pairs), pairs, keep=0)
    everything = score_cross(faces, faces, space, keep=0)
    np.testing.assert_allclose(np.sort(drawn.impostor), np.sort(everything.impostor), atol=1e-6)
    assert drawn.lowest_genuine == everything.lowest_genuine == []
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
