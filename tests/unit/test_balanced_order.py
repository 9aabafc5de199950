"""Identities in equal shares: which rows a batch holds, alone and in several processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from occframe.data import FaceLoader
from occframe.data.balance import balanced_rows
from occframe.errors import OccframeError
from occframe_datasets.synthetic import SyntheticFaces


def blocks_of(lengths: list[int]) -> list[range]:
    stops = np.cumsum(lengths).tolist()
    return [range(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=15),
    mixed=st.booleans(),
    block=st.integers(1, 40),
    window=st.integers(1, 4),
    batches=st.integers(1, 20),
    batch_size=st.integers(1, 12),
    images=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_a_batch_holds_nobody_too_often_and_nothing_twice(
    counts, mixed, block, window, batches, batch_size, images, epoch
) -> None:
    assume(sum(min(count, images) for count in counts) >= batch_size)
    identities = np.repeat(np.arange(len(counts)), counts)
    if mixed:
        identities = np.random.default_rng(0).permutation(identities)
    blocks = blocks_of([len(part) for part in np.split(identities, range(block, len(identities), block))])
    options = {"batches": batches, "batch_size": batch_size, "images": images, "seed": 7, "epoch": epoch}
    rows, visits = balanced_rows(blocks, window, identities, **options)
    assert rows.shape == visits.shape == (batches * batch_size,)
    for batch in rows.reshape(batches, batch_size):
        assert len(set(batch.tolist())) == batch_size
        assert max(Counter(identities[batch].tolist()).values()) <= images
    visited = list(zip(rows.tolist(), visits.tolist(), strict=True))
    assert len(set(visited)) == len(visited)  # so that no two visits of a picture look alike
    again = balanced_rows(blocks, window, identities, **options)
    assert np.array_equal(again[0], rows)
    assert np.array_equal(again[1], visits)


@pytest.mark.parametrize("size", [10_000, 60])
def test_people_with_many_pictures_come_no_more_often(size) -> None:
    """In one block, and in windows that hold a few people each."""
    counts = [4, 4, 5, 400, 7, 30, 8, 9, 200, 12] * 4
    identities = np.repeat(np.arange(40), counts)
    blocks = [range(start, min(start + size, len(identities))) for start in range(0, len(identities), size)]
    rows, _ = balanced_rows(blocks, 8, identities, batches=400, batch_size=8, images=4, seed=1, epoch=0)
    seen = Counter(identities[rows].tolist())
    assert len(seen) == 40
    assert max(seen.values()) / min(seen.values()) < (1.01 if size == 10_000 else 2.5)
    often = Counter(rows[identities[rows] == 3].tolist())
    assert set(often.values()) == {1}  # of the 400 another one each time


def test_rows_of_a_window_are_read_together() -> None:
    identities = np.repeat(np.arange(50), 20)
    blocks = blocks_of([100] * 10)
    rows, _ = balanced_rows(blocks, 2, identities, batches=100, batch_size=10, images=2, seed=3, epoch=1)
    for part in rows.reshape(5, 200):
        assert len(set((part // 100).tolist())) == 2


def loader(**options) -> FaceLoader:
    faces = SyntheticFaces(identities=6, images=8, size=24, seed=0)
    defaults = {"height": 24, "width": 24, "batch_size": 12, "threads": 2, "seed": 5, "flip": True, "grey": 0.5}
    return FaceLoader(faces, **defaults | {"images_per_identity": 3} | options)


def test_any_batch_can_be_made_again() -> None:
    for epoch in (0, 2):
        whole = list(loader(threads=1).epoch(epoch))
        assert len(whole) == loader().batches_per_epoch == 4
        for start in range(4):
            rest = loader(threads=4).epoch(epoch, start_batch=start)
            for left, right in zip(whole[start:], rest, strict=True):
                assert torch.equal(left.index, right.index)
                assert torch.equal(left.images, right.images)


@settings(max_examples=10, deadline=None)
@given(processes=st.sampled_from([1, 2, 3, 4, 6]), epoch=st.integers(0, 2))
def test_processes_share_a_batch_without_doubling(processes, epoch) -> None:
    alone = [batch.index.tolist() for batch in loader().epoch(epoch)]
    parts = [
        [batch.index.tolist() for batch in loader(share=(rank, processes)).epoch(epoch)] for rank in range(processes)
    ]
    together = [[row for part in step for row in part] for step in zip(*parts, strict=True)]
    assert together == alone
    for step in together:
        assert len(set(step)) == 12
        assert sorted(Counter(row // 8 for row in step).values()) == [3, 3, 3, 3]


def test_a_picture_that_comes_again_looks_otherwise() -> None:
    faces = SyntheticFaces(identities=12, images=1, size=24, seed=0)
    made = FaceLoader(faces, height=24, width=24, batch_size=4, threads=1, seed=5, flip=True, images_per_identity=1)
    assert made.batches_per_epoch == 3
    rows, visits = balanced_rows([range(12)], 1, np.arange(12), batches=12, batch_size=4, images=1, seed=1, epoch=0)
    assert sorted(Counter(rows.tolist()).values()) == [4] * 12
    assert sorted(set(visits.tolist())) == [0, 1, 2, 3]
    draws = [made._augmentation.draw(0, np.arange(12), np.full(12, visit)).mirrored.tolist() for visit in range(4)]
    assert len({tuple(drawn) for drawn in draws}) == 4


def test_too_few_people_for_a_batch_are_refused() -> None:
    with pytest.raises(OccframeError, match="6 identities with 1 images each at most fill no batch of 12: they have 6"):
        loader(images_per_identity=1)
