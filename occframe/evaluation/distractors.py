"""Identification among people whom no probe shows, as MegaFace does it (Kemelmacher-Shlizerman et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from occframe.evaluation.drawing import genuine_pairs
from occframe.evaluation.tables import PairSpace
from occframe.types import EmbeddingTable

_BLOCK = 2_000_000  # scores at a time


@dataclass(frozen=True)
class DistractorTrials:
    """Each probe with each of its mates, alone among the first n distractors, for every n of ``sizes``.

    probe_rows: int64 [T]. found: bool [T, len(sizes)], the mate scores above all n. available: distractors in all.
    """

    probe_rows: np.ndarray
    found: np.ndarray
    sizes: Sequence[int]
    available: int


def distractor_trials(
    reference: EmbeddingTable, probe: EmbeddingTable, space: PairSpace, sizes: Sequence[int]
) -> DistractorTrials:
    """Distractors are the references whose person no probe shows, in an order drawn once: the first n are part of the
    first m > n. Sizes beyond what is there are left out. A distractor of equal score counts as ahead."""
    strangers = np.flatnonzero(~np.isin(space.reference_subjects, space.probe_subjects))
    by_id = np.array(sorted(strangers.tolist(), key=lambda row: reference.ids[row]), np.int64)
    order = by_id[np.random.default_rng(0).permutation(by_id.size)]
    given = [size for size in sorted(set(sizes)) if size <= order.size]
    mates, rows = genuine_pairs(space)
    if not given:
        return DistractorTrials(rows, np.empty((rows.size, 0), bool), given, order.size)
    highest = _highest(reference.vectors[order[: given[-1]]], probe.vectors, given)
    scores = np.empty(rows.size, np.float32)
    step = max(1, _BLOCK // probe.vectors.shape[1])
    for start in range(0, rows.size, step):
        part = slice(start, start + step)
        scores[part] = np.einsum("pd,pd->p", reference.vectors[mates[part]], probe.vectors[rows[part]])
    return DistractorTrials(rows, scores[:, None] > highest[rows], given, order.size)


def _highest(distractors: np.ndarray, probes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The highest score of each probe among the first n: float32 [Q, len(sizes)]."""
    highest = np.empty((len(probes), len(sizes)), np.float32)
    step = max(1, _BLOCK // len(distractors))
    for start in range(0, len(probes), step):
        scores = probes[start : start + step] @ distractors.T
        parts = np.maximum.reduceat(scores, [0, *sizes[:-1]], axis=1)
        highest[start : start + step] = np.maximum.accumulate(parts, axis=1)
    return highest
