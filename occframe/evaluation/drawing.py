"""Drawing pairs from two embedding tables, the same ones whatever the order of their rows."""

from __future__ import annotations

import numpy as np

from occframe.errors import OccframeError
from occframe.evaluation.pairs import Pairs
from occframe.evaluation.tables import PairSpace


def draw_pairs(space: PairSpace, *, genuine: int, impostor: int, folds: int, seed: int) -> Pairs:
    """Distinct pairs, uniform among all genuine and all impostor pairs, dealt out to ``folds`` in turn.

    Raises OccframeError: there are not as many.
    """
    for kind, wanted, available in zip(("genuine", "impostor"), (genuine, impostor), space.counts(), strict=True):
        if available < wanted:
            raise OccframeError(
                f"{wanted} {kind} pairs asked for, the embeddings make {available}",
                remedy=f"ask for at most {available}, or embed more faces",
            )
    rng = np.random.default_rng(seed)
    rows, columns = genuine_pairs(space)
    chosen = rng.choice(rows.size, genuine, replace=False)
    other_rows, other_columns = _draw_impostors(space, impostor, rng)
    return Pairs(
        np.concatenate([rows[chosen], other_rows]),
        np.concatenate([columns[chosen], other_columns]),
        same=np.arange(genuine + impostor) < genuine,
        folds=np.concatenate([np.arange(genuine), np.arange(impostor)]) % folds,
    )


def genuine_pairs(space: PairSpace) -> tuple[np.ndarray, np.ndarray]:
    """All of them: reference and probe rows, int64 [G], ordered by the probe's id."""
    by_subject = space.reference_order[np.argsort(space.reference_subjects[space.reference_order], kind="stable")]
    wanted = space.probe_subjects[space.probe_order]
    start, stop = (np.searchsorted(space.reference_subjects[by_subject], wanted, side) for side in ("left", "right"))
    sizes = stop - start
    columns = np.repeat(space.probe_order, sizes)
    rows = by_subject[np.arange(columns.size) + np.repeat(start - (np.cumsum(sizes) - sizes), sizes)]
    keep = space.valid(rows, columns)
    return rows[keep], columns[keep]


def _draw_impostors(space: PairSpace, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """By rejection: nearly every cross pair is an impostor pair, and there are too many to list."""
    references, probes = space.reference_order.size, space.probe_order.size
    drawn = np.empty(0, np.int64)
    while drawn.size < count:
        more = rng.integers(0, references * probes, size=2 * (count - drawn.size) + 64)
        rows, columns = space.reference_order[more // probes], space.probe_order[more % probes]
        more = more[space.valid(rows, columns) & ~space.same(rows, columns)]
        drawn = np.concatenate([drawn, more])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # first occurrences, in the order drawn
    drawn = drawn[:count]
    return space.reference_order[drawn // probes], space.probe_order[drawn % probes]
