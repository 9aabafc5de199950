"""Orders in which all identities of a data set have a turn equally often, however many images they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from occframe.data.order import windows_of
from occframe.random import derive_seed, mix

# An identity with less of its rows in a window than this part of what others have there cannot help to fill a batch.
_RARE = 0.1


def balanced_rows(
    blocks: Sequence[range],
    window: int,
    identities: np.ndarray,
    *,
    batches: int,
    batch_size: int,
    images: int,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``batches`` whole batches. A turn of an identity is ``images`` of its rows, or all it has; the last of a
    batch gives what there is room for. No batch holds a row twice, or an identity in two turns.

    identities: int64 [N], of the rows of ``blocks``, which are visited in windows as by ``shuffled_rows``, or in wider
    ones where those hold too few identities. All identities together have to fill a batch.
    Returns two int64 [batches * batch_size]: the rows, and how often each was visited before.
    """
    totals = np.bincount(identities)
    while True:
        windows = [
            _Window.of(rows, identities, totals, images, seed, epoch)
            for rows in windows_of(blocks, window, seed, epoch)
            if len(rows)
        ]
        if window >= len(blocks) or all(each.reliable >= batch_size for each in windows):
            break
        window *= 2
    # A window is visited for as long as the shares of identities in it take.
    reached = np.cumsum([(each.share * each.turn).sum() * each.weight for each in windows])
    ends = np.floor(reached / reached[-1] * batches + 1e-9).astype(np.int64)
    visits = [
        each.visit(int(count), batch_size, seed, epoch)
        for each, count in zip(windows, np.diff(ends, prepend=0), strict=True)
        if count
    ]
    return np.concatenate([rows for rows, _ in visits]), np.concatenate([before for _, before in visits])


@dataclass(frozen=True)
class _Window:
    """Rows grouped by identity. starts, counts: of each group in ``rows``. turn: rows a turn. keys: seeds of each.

    share: of an identity's rows that lie in here, over the largest such share, ``weight``: how often it has a turn.
    """

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    turn: np.ndarray
    keys: np.ndarray
    share: np.ndarray
    weight: float

    @staticmethod
    def of(rows: np.ndarray, identities: np.ndarray, totals: np.ndarray, images: int, seed: int, epoch: int) -> _Window:
        rows = rows[np.argsort(mix(derive_seed(seed, "rows"), epoch, rows), kind="stable")]
        kinds, number, counts = np.unique(identities[rows], return_inverse=True, return_counts=True)
        part = counts / totals[kinds]
        return _Window(
            rows=rows[np.argsort(number, kind="stable")],
            starts=np.cumsum(counts) - counts,
            counts=counts,
            turn=np.minimum(counts, images),
            keys=mix(derive_seed(seed, "identities"), epoch, kinds),
            share=part / part.max(),
            weight=float(part.max()),
        )

    @property
    def reliable(self) -> int:
        """Rows that the identities can give together, without waiting for rare ones."""
        return int(self.turn[self.share > _RARE].sum())

    def visit(self, batches: int, batch_size: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        turns = list(self._turns(batches, batch_size, seed, epoch))
        number, given = (np.concatenate(each) for each in zip(*turns, strict=True))
        # An identity goes on in its rows where its last turn ended.
        order = np.argsort(number, kind="stable")
        before = np.cumsum(given[order]) - given[order]
        first = np.searchsorted(number[order], number[order])
        begin = np.empty_like(before)
        begin[order] = before - before[first]
        place = np.arange(given.sum()) + np.repeat(begin - (np.cumsum(given) - given), given)
        number = np.repeat(number, given)
        return self.rows[self.starts[number] + place % self.counts[number]], place // self.counts[number]

    def _turns(self, batches: int, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers of identities and how many rows each gives, in pieces that make up batch after batch."""
        queue, rounds = np.empty(0, np.int64), 0
        phase = (self.keys.view(np.uint64) >> np.uint64(11)) * 2.0**-53
        for _ in range(batches):
            room, inside = batch_size, np.empty(0, np.int64)
            while room:
                if not len(queue):  # a round: all who are due, in an order of its own
                    due = np.floor((rounds + 1) * self.share + phase) > np.floor(rounds * self.share + phase)
                    queue = np.flatnonzero(due)
                    queue = queue[np.argsort(mix(derive_seed(seed, "turns"), epoch, self.keys[queue] + rounds))]
                    rounds += 1
                if len(inside):  # between two rounds; who has a second turn in one batch loses it
                    queue = queue[~np.isin(queue, inside)]
                given = self.turn[queue[:room]]
                reached = np.cumsum(given)
                given = given[: int(np.searchsorted(reached, room)) + 1].copy()
                number, queue = queue[: len(given)], queue[len(given) :]
                if len(given):
                    given[-1] -= max(0, int(given.sum()) - room)
                room -= int(given.sum())
                inside = np.concatenate([inside, number])
                yield number, given
