"""Some rows of a data set, seen as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from occframe.errors import OccframeError
from occframe.types import Dataset


class Subset:
    """rows: int [M], positions in ``dataset``, ascending so that blocks stay together. Fulfils ``Dataset``."""

    def __init__(self, dataset: Dataset, rows: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.rows = np.asarray(rows, np.int64)
        if len(self.rows) and (
            np.any(np.diff(self.rows) <= 0) or self.rows[0] < 0 or self.rows[-1] >= len(dataset.ids)
        ):
            raise OccframeError(f"the rows of a subset ascend and lie in 0..{len(dataset.ids) - 1}")

    @cached_property
    def ids(self) -> Sequence[str]:
        ids = self.dataset.ids
        return [ids[row] for row in self.rows]

    @cached_property
    def subjects(self) -> Sequence[str]:
        subjects = self.dataset.subjects
        return [subjects[row] for row in self.rows]

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        landmarks = self.dataset.landmarks
        return None if landmarks is None else landmarks[self.rows]

    @cached_property
    def attributes(self) -> Mapping[str, np.ndarray]:
        return {name: values[self.rows] for name, values in self.dataset.attributes.items()}

    @cached_property
    def blocks(self) -> Sequence[range]:
        blocks = self.dataset.blocks
        edges = np.searchsorted(self.rows, [(block.start, block.stop) for block in blocks]).tolist() if blocks else []
        return [range(start, stop) for start, stop in edges if stop > start]

    @property
    def aligned(self) -> bool:
        return self.dataset.aligned

    @property
    def cached_blocks(self) -> int | None:
        return getattr(self.dataset, "cached_blocks", None)

    @property
    def notes(self) -> Sequence[str]:
        return getattr(self.dataset, "notes", ())

    def read(self, rows: Sequence[int]) -> list[bytes | np.ndarray]:
        return self.dataset.read(self.rows[np.asarray(rows, np.int64)].tolist())

    def fingerprint(self) -> str:
        chosen = hashlib.blake2b(self.rows.astype("<i8").tobytes(), digest_size=8).hexdigest()
        return f"{self.dataset.fingerprint()}[{len(self.rows)} rows, {chosen}]"
