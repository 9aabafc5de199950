"""In which order an epoch visits the rows of a data set: shuffled, yet reading each block of it once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from occframe.random import derive_seed, mix


def shuffled_rows(blocks: Sequence[range], window: int, seed: int, epoch: int) -> np.ndarray:
    """All rows of ``blocks``, int64, in the order of one epoch.

    Blocks are shuffled, then the rows within each run of ``window`` blocks: no more of them are in use at a time.
    """
    windows = windows_of(blocks, window, seed, epoch)
    return np.concatenate([_shuffle(rows, derive_seed(seed, "rows"), epoch) for rows in windows])


def windows_of(blocks: Sequence[range], window: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The rows of each ``window`` blocks, which are shuffled before."""
    order = _shuffle(np.arange(len(blocks)), derive_seed(seed, "blocks"), epoch)
    windows = [order[start : start + window] for start in range(0, len(blocks), window)]
    return [np.concatenate([np.arange(blocks[at].start, blocks[at].stop) for at in chosen]) for chosen in windows]


def _shuffle(numbers: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Sorted by a hash: the same order on every machine and with every version of NumPy."""
    shuffled: np.ndarray = numbers[np.argsort(mix(seed, epoch, numbers), kind="stable")]
    return shuffled
