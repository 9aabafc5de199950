"""Which of some ids a gallery has, and where, without keeping all of them as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from occframe.gallery.manifest import Part
from occframe.gallery.parts import part_column, rows_where

#: So many ids are looked up in a scan as fast as one.
_FEW = 100_000


class KnownIds:
    """Answers exactly. A first question for a few is a scan of the ids; then 12 bytes a row say where to look."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked = False
        self._files: list[str] = []
        # Pairs of arrays, each at most half as long as the one before: Python's hashes of ids, ascending, and the
        # numbers of their parts in _files. One array alone would be sorted again with every part.
        self._levels: list[tuple[np.ndarray, np.ndarray]] = []

    def find(self, ids: Iterable[str], parts: Sequence[Part]) -> dict[str, tuple[str, int]]:
        """Those of ``ids`` that are in ``parts`` and not deleted: the file and row of each."""
        wanted = list(ids)
        if not wanted or not parts:
            return {}
        if not self._asked and len(wanted) <= _FEW:
            self._asked = True
            return find_ids(self._url, parts, wanted)
        self._learn(parts)
        hashes = np.fromiter(map(hash, wanted), np.int64, len(wanted))
        suspects: dict[int, list[str]] = {}
        for known, numbers in self._levels:
            low, high = np.searchsorted(known, hashes), np.searchsorted(known, hashes, side="right")
            for at in np.flatnonzero(low < high):
                for number in set(numbers[low[at] : high[at]].tolist()):
                    suspects.setdefault(number, []).append(wanted[at])
        by_file = {part.file: part for part in parts}
        found: dict[str, tuple[str, int]] = {}
        for number, names in suspects.items():
            if part := by_file.get(self._files[number]):
                found |= find_ids(self._url, [part], names)
        return found

    def _learn(self, parts: Sequence[Part]) -> None:
        """Take in the parts not seen before. Of one that is gone the hashes stay, and are asked for in vain."""
        for part in parts:
            if part.file not in self._files:
                ids = part_column(self._url, part, "id").to_pylist()
                hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
                self._levels.append(_ascending(hashes, np.full(len(ids), len(self._files), np.int32)))
                self._files.append(part.file)
                while len(self._levels) > 1 and len(self._levels[-2][0]) < 2 * len(self._levels[-1][0]):
                    (left, left_parts), (right, right_parts) = self._levels.pop(), self._levels.pop()
                    self._levels.append(
                        _ascending(np.concatenate([left, right]), np.concatenate([left_parts, right_parts]))
                    )


def _ascending(hashes: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(hashes)
    return hashes[order], parts[order]


def find_ids(url: str, parts: Sequence[Part], ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The file and row of each of ``ids`` that is in ``parts`` and not deleted."""
    wanted = pa.array(ids, pa.large_string())
    found: dict[str, tuple[str, int]] = {}
    for part in parts:
        rows, names = rows_where(url, part, "id", wanted)
        found |= {name: (part.file, row) for name, row in zip(names.to_pylist(), rows.tolist(), strict=True)}
    return found


def by_part(found: dict[str, tuple[str, int]]) -> dict[str, list[int]]:
    """What ``find_ids`` found as rows by file."""
    rows: dict[str, list[int]] = {}
    for file, row in found.values():
        rows.setdefault(file, []).append(row)
    return rows
