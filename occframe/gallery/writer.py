"""Adding rows to a gallery: streamed into a part, and there for readers once the part is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from occframe.errors import OccframeError
from occframe.gallery.checks import check_new_ids, check_vectors
from occframe.gallery.known_ids import KnownIds, by_part, find_ids
from occframe.gallery.layout import arrow_schema, embedding_array, rows_per_group
from occframe.gallery.manifest import GallerySchema, Manifest
from occframe.gallery.part_file import NewPart
from occframe.gallery.publishing import commit, create, read_manifest
from occframe.storage import make_dirs

ROWS_PER_PART = 131_072


class GalleryWriter:
    """Appends rows to the gallery at ``url``, which is made where there is none.

    A context manager: leaving it commits what is left, an exception discards the rows since the last commit. Memory
    holds one row group of vectors, the ids of one part, and 12 bytes for each row of the gallery, whose ids are unique.
    Other writers may commit meanwhile; what they added or deleted stays.

    replace: a row whose id is there already takes its place (an upsert) in the same commit; else that is an error.
    Raises OccframeError where the gallery there has another dimension, dtype, columns, treatment or model.
    """

    def __init__(
        self, url: str, schema: GallerySchema, *, replace: bool = False, rows_per_part: int = ROWS_PER_PART
    ) -> None:
        make_dirs(url)
        self.url = url
        self.schema = schema
        self._replace = replace
        self._rows_per_part = rows_per_part
        create(url, Manifest(generation=0, schema=schema))
        self._manifest = read_manifest(url)
        check_same(self._manifest.rows_schema, schema, url)
        self._fields = arrow_schema(schema)
        self._known = KnownIds(url)
        self._pending: set[str] = set()
        self._group = _RowGroup(schema)
        self._part: NewPart | None = None
        self._part_ids: list[str] = []

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of ``ids`` that are in the gallery, or were written since."""
        asked = list(ids)
        return {*self._pending.intersection(asked), *self._known.find(asked, self._manifest.parts)}

    def write(
        self,
        ids: Sequence[str],
        subjects: Sequence[str],
        vectors: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Add rows. vectors: array [n, D] float16 or float32 of norm 1. columns: those the schema names, n values each.

        Raises OccframeError naming the row: not finite, not of norm 1, another dimension, an id that is there already.
        Then none of these rows was added.
        """
        columns = columns or {}
        check_vectors(vectors, ids, dim=self.schema.dim)
        lengths = {"subject": len(subjects)} | {name: len(values) for name, values in columns.items()}
        if set(columns) != set(self.schema.columns) or set(lengths.values()) - {len(ids)}:
            raise OccframeError(
                f"{len(ids)} rows came with the columns {lengths}; the gallery has {['subject', *self.schema.columns]}",
                remedy="give one value a row for each column of the gallery",
            )
        given = {"id": ids, "subject": subjects, **columns}
        arrays = {name: column_array(self._fields.field(name), values) for name, values in given.items()}
        if self._replace and not self._pending.isdisjoint(ids):
            self.commit()
        self._pending |= check_new_ids(ids, set() if self._replace else self.known(ids))
        start = 0
        while start < len(ids):
            start += self._group.put(arrays, vectors, start)
            if self._group.full:
                self._flush()

    def commit(self) -> None:
        """Publish all rows written so far. After it returns they survive a kill and every reader sees them."""
        self._flush(close=True)

    def _flush(self, close: bool = False) -> None:
        if self._group.rows:
            if self._part is None:
                self._part = NewPart(self.url, len(self._manifest.parts), self.schema)
            batch = self._group.take()
            self._part_ids += batch.column("id").to_pylist()
            self._part.write(batch)
        if self._part is not None and (close or self._part.rows >= self._rows_per_part):
            self._publish(self._part)

    def _publish(self, file: NewPart) -> None:
        part, ids = file.close(), self._part_ids
        self._part, self._part_ids = None, []

        def add(current: Manifest) -> Manifest:
            if any(part.file == there.file for there in current.parts):
                return current
            try:
                check_same(current.rows_schema, self.schema, self.url)
                if self._replace:
                    current = current.bury(by_part(find_ids(self.url, current.parts, ids)))
                else:
                    self._refuse_added(current)
            except OccframeError:
                file.remove()
                raise
            return current.model_copy(update={"parts": (*current.parts, part)})

        try:
            self._manifest = commit(self.url, add)
        finally:
            file.settled()
            self._pending -= set(ids)

    def _refuse_added(self, current: Manifest) -> None:
        """Raises OccframeError where another writer has added one of our ids since we looked."""
        seen = {part.file for part in self._manifest.parts}
        added = [part for part in current.parts if part.file not in seen]
        check_new_ids(list(self._pending), find_ids(self.url, added, list(self._pending)).keys())

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            if self._part is not None:
                self._part.discard()


class _RowGroup:
    """Rows on their way into the file: one buffer of vectors, filled again and again."""

    def __init__(self, schema: GallerySchema) -> None:
        self._arrow = arrow_schema(schema)
        self._vectors = np.empty((rows_per_group(schema), schema.dim), np.dtype(schema.dtype).newbyteorder("<"))
        self._columns: dict[str, list[pa.Array]] = {name: [] for name in self._arrow.names if name != "embedding"}
        self.rows = 0

    @property
    def full(self) -> bool:
        return self.rows == len(self._vectors)

    def put(self, columns: Mapping[str, pa.Array], vectors: np.ndarray, start: int) -> int:
        """Take rows from ``start`` on, as many as there is room for; how many that were."""
        count = min(len(self._vectors) - self.rows, len(vectors) - start)
        self._vectors[self.rows : self.rows + count] = vectors[start : start + count]
        for name, values in columns.items():
            self._columns[name].append(values.slice(start, count))
        self.rows += count
        return count

    def take(self) -> pa.RecordBatch:
        """The rows as one record batch, which shares the buffer: write it before the next ``put``."""
        arrays = [
            embedding_array(self._vectors[: self.rows])
            if name == "embedding"
            else pa.concat_arrays(self._columns[name])
            for name in self._arrow.names
        ]
        self.rows = 0
        for pieces in self._columns.values():
            pieces.clear()
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)


def column_array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Raises OccframeError naming the column: values of another type, or None where there must be one."""
    try:
        array = values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)
    except (pa.ArrowException, TypeError) as error:
        raise OccframeError(
            f"column `{field.name}` holds {field.type}: {error}", remedy="convert its values, or change the schema"
        ) from error
    if array.null_count and not field.nullable:
        raise OccframeError(f"column `{field.name}` has a value that is None", remedy="give every row one")
    return array


def check_same(there: GallerySchema, ours: GallerySchema, url: str) -> None:
    if there == ours:
        return
    if there.model_fingerprint != ours.model_fingerprint:
        raise OccframeError(
            f"the gallery {url} is of model {there.model_fingerprint}, these rows are of {ours.model_fingerprint}",
            remedy="scores between two models mean nothing: write to a gallery of its own, or embed everything again",
        )
    differing = [name for name in GallerySchema.model_fields if getattr(there, name) != getattr(ours, name)]
    details = "; ".join(f"{name} is {getattr(there, name)}, not {getattr(ours, name)}" for name in differing)
    raise OccframeError(f"the gallery {url} is laid out differently: {details}", remedy="write to a gallery of its own")
