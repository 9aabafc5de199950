"""Ids, deletions and the order of hits, without any index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occframe.errors import OccframeError
from occframe.gallery.matching import RowIds, check_rows


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
    hits = rows.hits(scores, found, 3)
    assert hits.ids.tolist() == [["a", "", ""]]
    assert hits.scores.tolist() == [[np.float32(0.8), -np.inf, -np.inf]]


def test_equal_scores_are_ordered_by_id() -> None:
    rows = RowIds(["d", "c", "b", "a"])
    scores = np.array([[0.9, 0.5, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]], np.float32)
    hits = rows.hits(scores, np.array([[2, 0, 3, 1], [0, 1, 2, 3]]), 4)
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
