"""Vectors of single rows, by number: what re-ranking needs, in any order and without reading their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from occframe.gallery.manifest import GallerySchema, Part
from occframe.gallery.pages import find_runs
from occframe.gallery.parts import live_rows, open_part, read_groups
from occframe.storage import join, local_path


class RowReader:
    """Row n is the n-th of ``parts`` without their tombstones, as in ``Snapshot``.

    On a local disk the files are mapped and memory holds nothing; elsewhere a part is fetched, and kept, when one of
    its rows is asked for.
    """

    def __init__(self, url: str, schema: GallerySchema, parts: Sequence[Part]) -> None:
        self._url, self._schema, self._parts = url, schema, tuple(parts)
        self._ends = np.cumsum([part.count for part in self._parts], dtype=np.int64)
        self._opened: dict[int, _Mapped | _Held] = {}

    def take(self, rows: np.ndarray) -> np.ndarray:
        """rows: array int64 of any shape. Returns their vectors, array [*rows.shape, D] of the gallery's dtype.

        Raises OccframeError where a part is missing or damaged, IndexError where there is no such row.
        """
        flat = np.asarray(rows, np.int64).ravel()
        if len(flat) and (flat.min() < 0 or flat.max() >= self._ends[-1:].sum()):
            raise IndexError(f"rows {flat.min()} to {flat.max()}, there are {self._ends[-1:].sum()}")
        found = np.empty((len(flat), self._schema.dim), self._schema.dtype)
        numbers = np.searchsorted(self._ends, flat, side="right")
        for number in np.unique(numbers):
            at = np.flatnonzero(numbers == number)
            part = self._parts[number]
            found[at] = self._part(int(number)).take(flat[at] - (self._ends[number] - part.count))
        return found.reshape(*np.shape(rows), self._schema.dim)

    def _part(self, number: int) -> _Mapped | _Held:
        if number not in self._opened:
            part = self._parts[number]
            self._opened[number] = _map(self._url, part, self._schema) or _Held(
                np.concatenate([group.vectors for group in read_groups(self._url, part, self._schema)]), part
            )
        return self._opened[number]


class _Mapped:
    def __init__(self, raw: np.ndarray, runs: np.ndarray, part: Part, schema: GallerySchema) -> None:
        self._schema, self._runs = schema, runs
        self._live = live_rows(part) if part.tombstones else None
        # Overlapping items, one for every byte of the file: an index array of offsets picks vectors wherever they lie.
        width = schema.row_bytes
        self._items = np.ndarray((max(0, len(raw) - width + 1),), f"V{width}", raw, strides=(1,))

    def take(self, rows: np.ndarray) -> np.ndarray:
        rows = rows if self._live is None else self._live[rows]
        first, _, offset = self._runs[np.searchsorted(self._runs[:, 0], rows, side="right") - 1].T
        picked = self._items[offset + (rows - first) * self._schema.row_bytes]
        vectors: np.ndarray = picked.view(np.dtype(self._schema.dtype).newbyteorder("<"))
        return vectors.reshape(len(rows), self._schema.dim)


class _Held:
    def __init__(self, vectors: np.ndarray, part: Part) -> None:
        self._vectors = vectors[live_rows(part)] if part.tombstones else vectors

    def take(self, rows: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self._vectors[rows]
        return taken


def _map(url: str, part: Part, schema: GallerySchema) -> _Mapped | None:
    path = local_path(join(url, part.file))
    if path is None:
        return None
    with open_part(url, part) as (file, source):
        runs = find_runs(file, source, "embedding", schema.row_bytes)
    return None if runs is None else _Mapped(np.memmap(path, np.uint8, "r"), runs, part, schema)
