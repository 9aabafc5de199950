"""Confidence intervals of the studies, against figures counted pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bootstrap import AllPairs, pairs_interval, tar_of_pairs
from occframe.types import EmbeddingTable


def tables(people: int = 30, each: int = 3, noise: float = 0.9) -> tuple[EmbeddingTable, EmbeddingTable]:
    draw = np.random.default_rng(0)
    centres = np.repeat(draw.normal(size=(people, 16)), each, 0)
    subjects = [f"p{at // each}" for at in range(people * each)]
    ids = [f"i{at}" for at in range(people * each)]

    def noisy() -> np.ndarray:
        vectors = centres + noise * draw.normal(size=centres.shape)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return EmbeddingTable(ids, subjects, noisy()), EmbeddingTable(ids, subjects, noisy())


def counted(reference: EmbeddingTable, probe: EmbeddingTable, far: float) -> float:
    """TAR at FAR with every pair in one list; equal ids are one image and left out."""
    scores = reference.vectors @ probe.vectors.T
    same = np.array(reference.subjects)[:, None] == np.array(probe.subjects)
    other = np.array(reference.ids)[:, None] != np.array(probe.ids)
    impostor = np.sort(scores[~same])[::-1]
    return float((scores[same & other] > impostor[int(far * len(impostor))]).mean())


@pytest.mark.parametrize("far", [0.1, 0.01, 0.001])
def test_all_pairs_give_the_counted_figure(far: float) -> None:
    reference, probe = tables()
    assert AllPairs.score(reference, probe, highest_far=far).tar(far) == pytest.approx(counted(reference, probe, far))


def test_a_round_is_the_figure_of_the_people_drawn() -> None:
    reference, probe = tables(people=8)
    drawn = np.array([2, 0, 1, 3, 0, 0, 1, 1])
    names = sorted(set(reference.subjects))
    copies = [(name, copy) for name, times in zip(names, drawn, strict=True) for copy in range(times)]

    def repeated(table: EmbeddingTable) -> EmbeddingTable:
        rows = [(at, copy) for name, copy in copies for at, of in enumerate(table.subjects) if of == name]
        return EmbeddingTable(
            [f"{table.ids[at]}/{copy}" for at, copy in rows],
            [f"{table.subjects[at]}/{copy}" for at, copy in rows],
            table.vectors[[at for at, _ in rows]],
        )

    pairs = AllPairs.score(reference, probe, highest_far=1.0)
    scores = repeated(reference).vectors @ repeated(probe).vectors.T
    people, of = (np.array(repeated(table).subjects) for table in (reference, probe))
    ids, others = (np.array(repeated(table).ids) for table in (reference, probe))
    plain = np.char.partition(people[:, None].astype(str), "/")[..., 0], np.char.partition(of.astype(str), "/")[:, 0]
    impostor = np.sort(scores[plain[0] != plain[1]])[::-1]  # two copies of one person are no impostor pair
    genuine = scores[(people[:, None] == of) & (ids[:, None] != others)]
    expected = float((genuine > impostor[int(0.05 * len(impostor))]).mean())
    assert pairs.tar(0.05, drawn) == pytest.approx(expected)


def test_an_interval_holds_its_value_and_narrows_with_more_people() -> None:
    few, many = (AllPairs.score(*tables(people), highest_far=0.01) for people in (12, 120))
    spans = []
    for pairs in (few, many):
        found = pairs.interval(0.01, rounds=100, seed=1)
        assert found.low <= found.value <= found.high
        spans.append(found.high - found.low)
    assert spans[1] < spans[0]


def test_listed_pairs() -> None:
    draw = np.random.default_rng(0)
    same = np.arange(400) < 200
    scores = draw.normal(size=400) + 2 * same
    assert tar_of_pairs(scores, same, 0.01) == (scores[same] > np.sort(scores[~same])[-3]).mean()
    found = pairs_interval(scores, same, 0.01, rounds=100, seed=1)
    assert found.low < found.value < found.high
