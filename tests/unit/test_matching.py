"""Ids, deletions and the order of hits, without any index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.gallery.matching import RowIds, check_rows, merge_hits, search_past
from occframe.types import Hits


def test_rows_keep_their_ids_until_compacted() -> None:
    rows = RowIds(["a", "b"])
    rows.append(["c"])
    rows.delete(["b"])
    assert (len(rows), rows.deleted, rows.ids, rows.live_rows().tolist()) == (2, 1, ["a", "c"], [0, 2])
    rows.check_new(["b"])
    rows.compact()
    assert (len(rows), rows.deleted, rows.live_rows().tolist()) == (2, 0, [0, 1])
    rows.append(["b"])
    with pytest.raises(OccframeError, match="the id `b` is there already"):
        rows.check_new(["x", "b"])


def test_hits_skip_deleted_rows_and_pad() -> None:
    rows = RowIds(["a", "b", "c"])
    rows.delete(["b"])
    scores, found = np.array([[0.9, 0.8, 0.1]], np.float32), np.array([[1, 0, -1]])

    def index(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return scores[:, :k], found[:, :k]

    past = search_past(index, np.zeros((1, 2)), 3, rows=3, counts=rows.counts, nothing=-1)
    hits = rows.hits(past.scores, past.items)
    assert hits.ids.tolist() == [["a", "", ""]]
    assert hits.scores.tolist() == [[np.float32(0.8), -np.inf, -np.inf]]


def test_equal_scores_are_ordered_by_id() -> None:
    rows = RowIds(["d", "c", "b", "a"])
    scores = np.array([[0.9, 0.5, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]], np.float32)
    hits = rows.hits(scores, np.array([[2, 0, 3, 1], [0, 1, 2, 3]]))
    assert hits.ids.tolist() == [["b", "a", "c", "d"], ["d", "c", "b", "a"]]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_any_sequence_of_adds_and_deletes_is_a_dictionary(steps: list[tuple[bool, int]]) -> None:
    rows, model = RowIds(), {}
    for is_add, number in steps:
        name = f"id{number}"
        if is_add and name not in model:
            rows.append([name])
            model[name] = None
        elif not is_add and name in model:
            rows.delete([name])
            del model[name]
        if rows.deleted > 5:
            rows.compact()
    assert rows.ids == list(model)
    assert len(rows) == len(model)
    assert len(rows.live_rows()) == len(model)


@given(
    st.integers(1, 60),
    st.integers(1, 70),
    st.sets(st.integers(0, 59)),
    st.sampled_from([None, 8, 16]),
    st.integers(0, 2**31),
)
def test_searching_past_what_does_not_count_is_searching_the_rest(
    rows: int, k: int, gone: set[int], most: int | None, seed: int
) -> None:
    scores = np.random.default_rng(seed).permuted(np.tile(np.arange(rows, dtype=np.float32), (3, 1)), axis=1)
    asked = []

    def index(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(n)
        assert n <= min(rows, most or rows)
        order = np.argsort(-queries, axis=1)[:, :n]
        return np.take_along_axis(queries, order, 1), order

    def counts(items: np.ndarray) -> np.ndarray:
        return ~np.isin(items, list(gone)) & (items >= 0)

    found = search_past(index, scores, k, rows=rows, counts=counts, nothing=-1, most=most)
    for query in range(3):
        wanted = [row for row in np.argsort(-scores[query]) if row not in gone][:k]
        got = [row for row in found.items[query] if row >= 0]
        if query in found.short:
            assert most is not None
            assert got == wanted[: len(got)]
        else:
            assert got == wanted
            assert found.scores[query][: len(got)].tolist() == scores[query][wanted].tolist()
    assert asked == sorted(asked)


def test_merged_hits_are_the_best_of_both_with_ties_by_id() -> None:
    left = Hits(np.array([[0.9, 0.5]], np.float32), np.array([["d", "c"]], object))
    right = Hits(np.array([[0.5, -np.inf]], np.float32), np.array([["a", ""]], object))
    merged = merge_hits(left, right, 2)
    assert merged.ids.tolist() == [["d", "a"]]
    wide = merge_hits(left, right, 5)
    assert wide.ids.tolist() == [["d", "a", "c", "", ""]]
    assert wide.scores.tolist() == [[np.float32(0.9), 0.5, 0.5, -np.inf, -np.inf]]


@given(
    st.sampled_from([np.float16, np.float32]),
    st.integers(0, 3),
    st.sampled_from([np.nan, -np.nan, np.inf, -np.inf, 1.0, -1.0, -0.0, 6e4, -6e4, 6e-8]),
)
def test_every_number_that_is_not_finite_is_found(dtype: type, row: int, value: float) -> None:
    vectors = np.zeros((4, 3), dtype)
    vectors[row, 1] = value
    if np.isfinite(value):
        assert check_rows(vectors, 3, "vectors") is not None
    else:
        with pytest.raises(OccframeError, match=f"vectors: row {row} is not finite"):
            check_rows(vectors, 3, "vectors")
