"""Whom a search may find: subjects that are in or not in a set, and conditions on further columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from occframe.errors import OccframeError
from occframe.gallery.manifest import GallerySchema
from occframe.gallery.parts import read_groups
from occframe.gallery.store import Gallery

_OPERATORS = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_CONDITION = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """operator: one of =, !=, <, <=, >, >=. value: of the column's type. A row without a value fulfils none."""

    column: str
    operator: str
    value: str | int | float | bool

    @classmethod
    def parse(cls, text: str, schema: GallerySchema) -> Condition:
        """``camera=door``, ``year >= 2020``. Raises OccframeError: no such column, or not a value of its type."""
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise OccframeError(f"`{text}` is no condition", remedy="write COLUMN=VALUE, or one of != < <= > >=")
        column, operator, written = match.groups()
        types = {"id": "string", "subject": "string", **schema.columns}
        if column not in types:
            raise OccframeError(f"the gallery has no column `{column}`", remedy=f"it has {', '.join(types)}")
        if types[column] == "list<float>":
            raise OccframeError(f"`{column}` holds lists, which no condition compares", remedy="name another column")
        try:
            return cls(column, operator, _value(written, types[column]))
        except ValueError as error:
            raise OccframeError(f"`{text}`: `{column}` holds {types[column]}, not `{written}`") from error


def _value(written: str, kind: str) -> str | int | float | bool:
    if kind == "bool":
        if written.lower() not in ("true", "false"):
            raise ValueError(written)
        return written.lower() == "true"
    return written if kind == "string" else int(written) if kind == "int64" else float(written)


@dataclass(frozen=True)
class Filter:
    """subjects: only these, None for all. not_subjects: none of these. where: conditions that all must hold."""

    subjects: frozenset[str] | None = None
    not_subjects: frozenset[str] = frozenset()
    where: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls,
        schema: GallerySchema,
        *,
        subjects: Iterable[str] = (),
        not_subjects: Iterable[str] = (),
        where: Iterable[str] = (),
    ) -> Filter | None:
        """From what a command line gives; None where that is nothing."""
        chosen = frozenset(subjects)
        conditions = tuple(Condition.parse(text, schema) for text in where)
        made = cls(chosen or None, frozenset(not_subjects), conditions)
        return None if made == cls() else made


@dataclass(frozen=True)
class Allowed:
    """Rows of a gallery that a filter lets through. rows: int64, ascending, as in ``Gallery.open_rows``.

    ids: LargeStringArray, of these rows. others: of the rest.
    """

    rows: np.ndarray
    ids: pa.Array
    others: pa.Array

    def __contains__(self, name: str) -> bool:
        return (name in self._fewer) == (len(self.ids) <= len(self.others))

    @cached_property
    def _fewer(self) -> set[str]:
        return set(min(self.ids, self.others, key=len).to_pylist())


def allowed_rows(gallery: Gallery, chosen: Filter) -> Allowed:
    """Raises OccframeError where a part lacks a column that the filter asks for."""
    columns = sorted({"id", "subject", *(condition.column for condition in chosen.where)})
    masks: list[np.ndarray] = []
    ids: list[pa.Array] = []
    for part in gallery.parts:
        dead = np.asarray(part.tombstones, np.int64)
        for group in read_groups(gallery.url, part, gallery.schema, columns, vectors=False):
            mask = _mask(group.columns, chosen)
            alive = np.ones(group.rows, bool)
            low, high = np.searchsorted(dead, [group.first, group.first + group.rows])
            alive[dead[low:high] - group.first] = False
            masks.append(mask[alive])
            ids.append(group.columns["id"].filter(pa.array(alive)).cast(pa.large_string()))
    mask = np.concatenate(masks) if masks else np.empty(0, bool)
    names = pa.concat_arrays(ids) if ids else pa.array([], pa.large_string())
    return Allowed(np.flatnonzero(mask), names.filter(pa.array(mask)), names.filter(pa.array(~mask)))


def _mask(columns: dict[str, pa.Array], chosen: Filter) -> np.ndarray:
    subjects = columns["subject"]
    mask = np.ones(len(subjects), bool)
    if chosen.subjects is not None:
        mask &= _is_in(subjects, chosen.subjects)
    if chosen.not_subjects:
        mask &= ~_is_in(subjects, chosen.not_subjects)
    for condition in chosen.where:
        column: Any = columns[condition.column]
        holds = _OPERATORS[condition.operator](column, pa.scalar(condition.value, column.type))
        mask &= holds.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _is_in(column: pa.Array, values: frozenset[str]) -> np.ndarray:
    found: np.ndarray = pc.is_in(column, value_set=pa.array(sorted(values), column.type)).to_numpy(zero_copy_only=False)
    return found
