"""Scores of pairs: of listed ones, or of every reference with every probe, of which only what the figures need is kept.

A hundred million impostor scores are counted, not stored. Every corner of a ROC lies at a genuine score, so what must
be known of the impostors is how many lie above each of those: block by block, exactly, by sorting the block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from occframe.evaluation.drawing import genuine_pairs
from occframe.evaluation.impostors import NO_PAIR, BlockSummary, ImpostorScores, ImpostorSummary, summarise_block
from occframe.evaluation.pairs import Pairs
from occframe.evaluation.tables import PairSpace
from occframe.machine import usable_cores
from occframe.types import EmbeddingTable

_BLOCK = 4_000_000  # scores at a time: 16 MB, and as much again while they are sorted
_GATHER = 2_000_000  # numbers gathered at a time where pairs are listed
_WORKERS = 4  # a fifth would wait for the product


@dataclass(frozen=True)
class GenuineScores:
    """Descending. scores: float32 [G]. reference_rows, probe_rows: int64 [G]."""

    scores: np.ndarray
    reference_rows: np.ndarray
    probe_rows: np.ndarray


@dataclass(frozen=True)
class PairScores:
    """What verification is computed from; ``impostor`` is counted at the scores of ``genuine``.

    everything: these are all pairs of two tables, not a list.
    """

    genuine: GenuineScores
    impostor: ImpostorScores
    everything: bool


def score_pairs(reference: EmbeddingTable, probe: EmbeddingTable, pairs: Pairs) -> np.ndarray:
    """Cosine of each listed pair: float32 [P]."""
    return _cosines(reference, probe, pairs.reference_rows, pairs.probe_rows)


def split_scores(scores: np.ndarray, pairs: Pairs) -> PairScores:
    """Genuine and impostor apart, none left out. scores: float32 [P], of the pairs."""
    genuine = _genuine(scores[pairs.same], pairs.reference_rows[pairs.same], pairs.probe_rows[pairs.same])
    rows = np.flatnonzero(~pairs.same)
    summary = ImpostorSummary(np.unique(genuine.scores), total=rows.size, keep=rows.size)
    block = summarise_block(scores[rows], summary.levels, keep=rows.size, floor=-np.inf, sample=rows[:0])
    found = rows[block.places]
    summary.add(block, pairs.reference_rows[found], pairs.probe_rows[found])
    return PairScores(genuine, summary.finish(), everything=False)


def score_cross(
    reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace, *, keep: int = 100_000
) -> PairScores:
    """Every pair of ``space``. keep: how many of the highest impostor scores to keep with their rows, and about how
    many of all others, drawn at random (the same ones in every run), for bootstraps and worst pairs."""
    rows, columns = genuine_pairs(space)
    genuine = _genuine(_cosines(reference, probe, rows, columns), rows, columns)
    summary = ImpostorSummary(np.unique(genuine.scores), total=space.counts()[1], keep=keep)
    waiting: deque[tuple[_Block, Future[BlockSummary]]] = deque()
    workers = min(usable_cores(), _WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        # Products here, in BLAS's own threads; the pool sorts what was multiplied before.
        # Buffers are used again: on fresh memory the kernel's clearing of pages costs as much as the sorting.
        size = max(min(_BLOCK, len(reference.ids) * len(probe.ids)), len(reference.ids))
        buffers = [np.empty(size, np.float32) for _ in range(workers + 1)]
        for block in _blocks(reference, probe, space, np.random.default_rng(0), keep, buffers):
            waiting.append((block, pool.submit(block.summarise, summary.levels, keep, summary.floor)))
            if not buffers:
                buffers.append(_take(summary, *waiting.popleft()))
        while waiting:
            _take(summary, *waiting.popleft())
    return PairScores(genuine, summary.finish(), everything=True)


@dataclass(frozen=True)
class _Block:
    """scores: float32 [probes, references], in ``buffer``. references, probes: rows and subjects, int64. square: the
    first reference that is no earlier than the first probe, where each two pictures are compared once; None where all
    are compared."""

    buffer: np.ndarray
    scores: np.ndarray
    references: tuple[np.ndarray, np.ndarray]
    probes: tuple[np.ndarray, np.ndarray]
    square: int | None
    sample: np.ndarray

    def summarise(self, levels: np.ndarray, keep: int, floor: float) -> BlockSummary:
        scores = self.scores
        scores[self.probes[1][:, None] == self.references[1]] = NO_PAIR
        if self.square is not None:
            half = scores[:, self.square :]
            half[np.triu_indices(*half.shape[:1])] = NO_PAIR
        return summarise_block(scores.ravel(), levels, keep=keep, floor=floor, sample=self.sample)

    def rows(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        width = self.references[0].size
        return self.references[0][places % width], self.probes[0][places // width]


def _blocks(
    reference: EmbeddingTable,
    probe: EmbeddingTable,
    space: PairSpace,
    draw: np.random.Generator,
    keep: int,
    buffers: list[np.ndarray],
) -> Iterator[_Block]:
    """Each block takes one of ``buffers``."""
    columns = space.reference_order if space.once else np.arange(len(reference.ids))
    rows = space.probe_order if space.once else np.arange(len(probe.ids))
    enrolled, sought = _in_order(reference.vectors, columns), _in_order(probe.vectors, rows)
    subjects = [space.reference_subjects[columns].astype(np.int32), space.probe_subjects[rows].astype(np.int32)]
    # With both sides in the order of their ids, what is compared once lies before the diagonal.
    area = rows.size * columns.size / (2 if space.once else 1)
    for start, stop in block_heights(rows.size, columns.size, once=space.once):
        width = stop if space.once else columns.size
        buffer = buffers.pop()
        scores = buffer[: (stop - start) * width].reshape(stop - start, width)
        np.matmul(sought[start:stop], enrolled[:width].T, out=scores)
        yield _Block(
            buffer,
            scores,
            (columns[:width], subjects[0][:width]),
            (rows[start:stop], subjects[1][start:stop]),
            start if space.once else None,
            draw.integers(0, scores.size, int(np.ceil(keep * scores.size / area))),
        )


def block_heights(rows: int, columns: int, *, once: bool) -> Iterator[tuple[int, int]]:
    """From and to which row each block goes. once: only what lies before the diagonal is needed, so that blocks get
    lower as they get wider."""
    start = 0
    while start < rows:
        height = (np.sqrt(start**2 + 4 * _BLOCK) - start) / 2 if once else _BLOCK / columns
        stop = min(start + max(1, int(height)), rows)
        yield start, stop
        start = stop


def _in_order(vectors: np.ndarray, order: np.ndarray) -> np.ndarray:
    return vectors if np.array_equal(order, np.arange(order.size)) else vectors[order]


def _take(summary: ImpostorSummary, block: _Block, future: Future[BlockSummary]) -> np.ndarray:
    """Returns the buffer that is free now."""
    found = future.result()
    summary.add(found, *block.rows(found.places))
    return block.buffer


def _cosines(reference: EmbeddingTable, probe: EmbeddingTable, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    scores = np.empty(rows.size, np.float32)
    step = max(1, _GATHER // reference.vectors.shape[1])
    for start in range(0, scores.size, step):
        part = slice(start, start + step)
        scores[part] = np.einsum("pd,pd->p", reference.vectors[rows[part]], probe.vectors[columns[part]])
    return scores


def _genuine(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> GenuineScores:
    order = np.argsort(-scores, kind="stable")
    return GenuineScores(scores[order], rows[order], columns[order])
