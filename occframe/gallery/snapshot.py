"""What an index was built from, and what has become of it: the rows it lacks and those it must not find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occframe.component import Config
from occframe.gallery.manifest import GallerySchema, Manifest, Part


class Snapshot(Config):
    """The contents of a gallery at one moment, as plain JSON (``model_dump(mode="json")``) to be kept with an index.

    Row n of an index is the n-th row of ``iter_batches`` at that moment: the rows of ``parts``, in order, without
    their tombstones.
    """

    rows_schema: GallerySchema
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)


@dataclass(frozen=True)
class Changes:
    """added: parts whose rows the index lacks, in order. deleted: rows of the index, array int64 ascending."""

    added: tuple[Part, ...]
    deleted: np.ndarray

    @property
    def added_count(self) -> int:
        return sum(part.count for part in self.added)


def changes_between(before: Snapshot, now: Manifest) -> Changes | None:
    """None where the rows of ``before`` are not where they were: another gallery, another model, or compacted since."""
    there = {part.sha256: part for part in now.parts}
    if before.rows_schema != now.rows_schema or not all(part.sha256 in there for part in before.parts):
        return None
    deleted, first = [np.empty(0, np.int64)], 0
    for part in before.parts:
        then, since = np.asarray(part.tombstones, np.int64), there[part.sha256].tombstones
        fresh = np.setdiff1d(np.asarray(since, np.int64), then, assume_unique=True)
        if len(fresh) + len(then) != len(since):
            return None  # a row is back that was deleted: an older copy of the gallery
        deleted.append(first + fresh - np.searchsorted(then, fresh))
        first += part.count
    known = {part.sha256 for part in before.parts}
    return Changes(tuple(part for part in now.parts if part.sha256 not in known), np.concatenate(deleted))
