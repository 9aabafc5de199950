"""A few queries on a GPU: the same rows as float64 finds, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from occframe_faiss import few_queries


def rows_and_queries(count: int, queries: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    drawn = np.random.default_rng(seed)
    both = drawn.standard_normal((count + queries, 64), dtype=np.float32)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    return torch.from_numpy(both[:count]).half(), both[count:]


@pytest.mark.parametrize("queries", [1, few_queries.FEW])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_finds_what_float64_finds(
    queries: int, device: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if device == "cuda":
        request.getfixturevalue("cuda")
    monkeypatch.setattr(few_queries, "_BLOCK", 700)
    rows, asked = rows_and_queries(3000, queries)
    exact = asked.astype(np.float64) @ rows.numpy().astype(np.float64).T
    assert np.array_equal(few_queries.best_rows(rows.to(device), asked, 20), np.argsort(-exact)[:, :20])


def test_queries_keep_digits_that_float16_has_not() -> None:
    """Two rows whose order depends on a query's lower half."""
    asked = np.array([[1.0, 1.0 + 2.0**-12]], np.float32)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).half()
    assert few_queries.best_rows(rows, asked, 1).tolist() == [[1]]


def test_all_rows_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_queries, "_BLOCK", 4)
    rows, asked = rows_and_queries(10, 2)
    assert np.array_equal(np.sort(few_queries.best_rows(rows, asked, 10)), np.tile(np.arange(10), (2, 1)))


def test_rows_on_a_cpu_are_left_to_faiss() -> None:
    assert not few_queries.reads_once(torch.zeros(1, 2, dtype=torch.float16))
