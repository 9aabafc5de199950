"""Ranks from a search and from the product of the tables, against a list sorted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.evaluation.identification import cumulative_match, rank_by_hits, rank_by_product
from occframe.evaluation.tables import PairSpace
from occframe.types import EmbeddingTable, Hits


@st.composite
def tables(draw: st.DrawFn) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Few directions, so that ties abound; some pictures on both sides, with the same person."""
    pictures = draw(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=14, unique_by=lambda p: p[0])
    )
    sides = draw(
        st.lists(st.sampled_from(["reference", "probe", "both"]), min_size=len(pictures), max_size=len(pictures))
    )
    sides[0], sides[-1] = "reference", "probe"
    made = []
    for side in ("reference", "probe"):
        chosen = [picture for picture, place in zip(pictures, sides, strict=True) if place in (side, "both")]
        directions = draw(st.lists(st.integers(0, 3), min_size=len(chosen), max_size=len(chosen)))
        made.append(
            EmbeddingTable(
                [f"{name:02d}" for name, _ in chosen],
                [f"person {who}" for _, who in chosen],
                np.eye(4, dtype=np.float32)[directions],
            )
        )
    return made[0], made[1]


def search(reference: EmbeddingTable, probe: EmbeddingTable, k: int) -> Hits:
    scores, ids = np.full((len(probe.ids), k), -np.inf, np.float32), np.full((len(probe.ids), k), "", object)
    for row, vector in enumerate(probe.vectors):
        order = sorted(zip(-(reference.vectors @ vector), reference.ids, strict=True))[:k]
        for place, (score, name) in enumerate(order):
            scores[row, place], ids[row, place] = -score, name
    return Hits(scores, ids)


@given(tables())
def test_product_and_search_rank_alike(both: tuple[EmbeddingTable, EmbeddingTable]) -> None:
    reference, probe = both
    space = PairSpace(reference, probe)
    exact = rank_by_product(reference, probe, space)
    found = rank_by_hits(reference, probe, space, search(reference, probe, len(reference.ids)))
    np.testing.assert_array_equal(exact.ranks, found.ranks)
    np.testing.assert_array_equal(exact.best_rows, found.best_rows)
    np.testing.assert_array_equal(exact.best_scores, found.best_scores)
    assert exact.depth == found.depth
    for row, (name, subject) in enumerate(zip(probe.ids, probe.subjects, strict=True)):
        candidates = sorted(
            (-score, other, who)
            for score, other, who in zip(
                reference.vectors @ probe.vectors[row], reference.ids, reference.subjects, strict=True
            )
            if other != name
        )
        right = [place for place, (_, _, who) in enumerate(candidates, 1) if who == subject]
        assert exact.ranks[row] == (right[0] if right else 0)
        assert space.mates()[row] == len(right)


def test_a_shallow_search_finds_what_lies_within_it() -> None:
    reference = EmbeddingTable(["a", "b", "c"], ["x", "y", "y"], np.eye(3, dtype=np.float32))
    probe = EmbeddingTable(["p"], ["y"], np.array([[0.9, 0.1, 0.2]], np.float32))
    space = PairSpace(reference, probe)
    assert rank_by_hits(reference, probe, space, search(reference, probe, 1)).ranks.tolist() == [0]
    assert rank_by_hits(reference, probe, space, search(reference, probe, 2)).ranks.tolist() == [2]


def test_cumulative_match_counts_probes_not_found() -> None:
    np.testing.assert_allclose(cumulative_match(np.array([1, 3, 0, 1]), 3), [0.5, 0.5, 0.75])


def test_hits_of_other_tables_are_refused() -> None:
    reference = EmbeddingTable(["a", "b"], ["x", "y"], np.eye(2, dtype=np.float32))
    probe = EmbeddingTable(["p"], ["x"], np.eye(2, dtype=np.float32)[:1])
    space = PairSpace(reference, probe)
    stranger = Hits(np.ones((1, 1), np.float32), np.array([["zebra"]], object))
    with pytest.raises(OccframeError, match=r"1 ids of the hits are not among the references, e.g. 'zebra'"):
        rank_by_hits(reference, probe, space, stranger)
    with pytest.raises(OccframeError, match="hits are of 2 queries, there are 1 probes"):
        rank_by_hits(reference, probe, space, Hits(np.ones((2, 1), np.float32), np.array([["a"], ["b"]], object)))
