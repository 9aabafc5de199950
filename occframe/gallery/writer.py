"""Adding rows to a gallery: streamed into a part, and there for readers once the part is committed."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from occframe.errors import OccframeError
from occframe.gallery.checks import check_new_ids, check_vectors
from occframe.gallery.layout import WRITE_OPTIONS, arrow_schema, embedding_array, rows_per_group
from occframe.gallery.manifest import MANIFEST, GallerySchema, Manifest, Part, publish, read_manifest
from occframe.gallery.parts import part_ids
from occframe.storage import create_file, exists, join, make_dirs

ROWS_PER_PART = 131_072


class GalleryWriter:
    """Appends rows to the gallery at ``url``, which is made where there is none.

    A context manager: leaving it commits what is left, an exception discards the rows since the last commit. Memory
    holds one row group of vectors, and the ids of the whole gallery, because an id is unique in it.

    Raises OccframeError where the gallery there has another dimension, dtype, columns, or model.
    """

    def __init__(self, url: str, schema: GallerySchema, *, rows_per_part: int = ROWS_PER_PART) -> None:
        make_dirs(url)
        self.url = url
        self.schema = schema
        self._rows_per_part = rows_per_part
        if exists(join(url, MANIFEST)):
            self._manifest = read_manifest(url)
            _check_same(self._manifest.rows_schema, schema, url)
        else:
            self._manifest = Manifest(generation=0, schema=schema)
            publish(url, self._manifest)
        self._ids = {item for part in self._manifest.parts for item in part_ids(url, part)}
        self._group = _RowGroup(schema)
        self._part: _OpenPart | None = None

    @property
    def ids(self) -> set[str]:
        """Every id in the gallery, and every one written since; do not change it."""
        return self._ids

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
        fresh = check_new_ids(ids, self._ids)
        self._ids |= fresh
        start = 0
        while start < len(ids):
            end = start + self._group.put(ids, subjects, vectors, columns, start)
            start = end
            if self._group.full:
                self._flush()

    def commit(self) -> None:
        """Publish all rows written so far. After it returns they survive a kill and every reader sees them."""
        self._flush(close=True)

    def _flush(self, close: bool = False) -> None:
        if self._group.rows:
            if self._part is None:
                self._part = _OpenPart(self.url, len(self._manifest.parts), self.schema)
            self._part.write(self._group.take())
        if self._part is not None and (close or self._part.rows >= self._rows_per_part):
            part, self._part = self._part.close(), None
            following = self._manifest.model_copy(
                update={"generation": self._manifest.generation + 1, "parts": (*self._manifest.parts, part)}
            )
            publish(self.url, following)
            self._manifest = following

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
        self._values: dict[str, list[Any]] = {name: [] for name in self._arrow.names if name != "embedding"}
        self.rows = 0

    @property
    def full(self) -> bool:
        return self.rows == len(self._vectors)

    def put(
        self,
        ids: Sequence[str],
        subjects: Sequence[str],
        vectors: np.ndarray,
        columns: Mapping[str, Sequence[Any]],
        start: int,
    ) -> int:
        """Take rows from ``start`` on, as many as there is room for; how many that were."""
        count = min(len(self._vectors) - self.rows, len(ids) - start)
        self._vectors[self.rows : self.rows + count] = vectors[start : start + count]
        for name, values in {"id": ids, "subject": subjects, **columns}.items():
            self._values[name].extend(values[start : start + count])
        self.rows += count
        return count

    def take(self) -> pa.RecordBatch:
        """The rows as one record batch, which shares the buffer: write it before the next ``put``."""
        arrays = [
            embedding_array(self._vectors[: self.rows]) if field.name == "embedding" else self._array(field)
            for field in self._arrow
        ]
        self.rows = 0
        for values in self._values.values():
            values.clear()
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _array(self, field: pa.Field) -> pa.Array:
        try:
            array = pa.array(self._values[field.name], field.type)
        except (pa.ArrowException, TypeError) as error:
            raise OccframeError(
                f"column `{field.name}` holds {field.type}: {error}", remedy="convert its values, or change the schema"
            ) from error
        if array.null_count and not field.nullable:
            raise OccframeError(f"column `{field.name}` has a value that is None", remedy="give every row one")
        return array


class _OpenPart:
    """A part being written; nobody knows it yet."""

    def __init__(self, url: str, number: int, schema: GallerySchema) -> None:
        # The random tail keeps a second writer, or the next attempt after a kill, off this file.
        self._name = f"part-{number:06}-{uuid.uuid4().hex[:8]}.parquet"
        self._stack = ExitStack()
        self._file = _HashingFile(self._stack.enter_context(create_file(join(url, self._name))))
        self._parquet = pq.ParquetWriter(self._file, arrow_schema(schema), **WRITE_OPTIONS)
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._parquet.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> Part:
        self._parquet.close()
        self._stack.close()
        return Part(file=self._name, rows=self.rows, bytes=self._file.size, sha256=self._file.hash.hexdigest())

    def discard(self) -> None:
        # Closed first, or Arrow closes it some time later and writes into a file that is gone.
        with suppress(OSError, pa.ArrowException):
            self._parquet.close()
        self._stack.__exit__(_Discarded, _Discarded(), None)


class _Discarded(Exception):
    """Tells ``create_file`` that the part is not wanted."""


class _HashingFile:
    """Passes bytes on and remembers their hash, so that a part is not read back to be described."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def _check_same(there: GallerySchema, ours: GallerySchema, url: str) -> None:
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
