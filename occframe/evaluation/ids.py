"""Finding the images that a pair file names among the ids of a data set, however either writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from occframe.errors import OccframeError

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff", ".gif")
_AMBIGUOUS = -2


class LfwImage(NamedTuple):
    """An image as LFW's files name it: ``Abel_Pacheco`` and 1 mean ``Abel_Pacheco/Abel_Pacheco_0001.jpg``."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}_{self.number:04d}"


class IdIndex:
    """Rows by id. An image is looked for under its exact id, then without extension, then without folders too."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        forms = (str, _without_extension, _file_name, _folder_and_number)
        self._levels = [(form, _unique(ids, form)) for form in forms]

    def rows(self, names: Sequence[str | LfwImage]) -> tuple[np.ndarray, list[str]]:
        """(rows int64 [P], names that were not found).

        Raises OccframeError: a name fits several ids equally well.
        """
        rows = [self._row(str(name)) for name in names]
        return np.array(rows, np.int64), [str(name) for name, row in zip(names, rows, strict=True) if row < 0]

    def _row(self, name: str) -> int:
        for form, rows in self._levels:
            row = rows.get(form(name), -1)
            if row == _AMBIGUOUS:
                fitting = [known for known in self._ids if form(known) == form(name)]
                raise OccframeError(
                    f"{name!r} may be {fitting[0]!r} or {fitting[1]!r}", remedy="write ids in the pair file in full"
                )
            if row >= 0:
                return row
        return -1


def _unique(ids: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        key = form(name)
        rows[key] = _AMBIGUOUS if key in rows else row
    return rows


def _without_extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return stem if (dot + extension).lower() in _EXTENSIONS else name


def _file_name(name: str) -> str:
    return _without_extension(name).rpartition("/")[2]


def _folder_and_number(name: str) -> str:
    """``Abel_Pacheco/1.jpg`` as ``Abel_Pacheco_0001``: sets with a folder a person and numbers as file names."""
    folder, _, number = _without_extension(name).rpartition("/")
    return f"{folder.rpartition('/')[2]}_{int(number):04d}" if folder and number.isdecimal() else name
