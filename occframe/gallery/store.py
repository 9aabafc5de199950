"""A gallery: embeddings with ids and subjects, in Parquet on any file system, of one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occframe.errors import OccframeError
from occframe.gallery.checks import NORM_TOLERANCE
from occframe.gallery.layout import vectors_of
from occframe.gallery.manifest import GallerySchema, Manifest, Part, publish, read_manifest
from occframe.gallery.parts import part_ids, row_groups, verify_part
from occframe.gallery.writer import GalleryWriter
from occframe.storage import join
from occframe.types import EmbeddingTable


@dataclass(frozen=True)
class GalleryBatch:
    """Rows of one row group. vectors: array [n, D] float16 or float32, read-only and valid as long as the batch is.

    columns: the further columns asked for, arrays of n values by name.
    """

    ids: list[str]
    subjects: list[str]
    vectors: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


class Gallery:
    """Open with ``Gallery.open(url)``: sees what was committed then, and what it adds or deletes itself."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url = url
        self._manifest = manifest

    @classmethod
    def open(cls, url: str) -> Gallery:
        """Raises OccframeError where there is none, or its manifest is not one this version reads."""
        return cls(url, read_manifest(url))

    @property
    def schema(self) -> GallerySchema:
        return self._manifest.rows_schema

    @property
    def count(self) -> int:
        return self._manifest.count

    @property
    def dim(self) -> int:
        return self.schema.dim

    @property
    def fingerprint(self) -> str:
        """Of the model that made the embeddings."""
        return self.schema.model_fingerprint

    @property
    def content_hash(self) -> str:
        """Changes with every row added, deleted or different: what an index is valid for."""
        return self._manifest.content_hash

    # --- reading ------------------------------------------------------------------------------------------------------

    def iter_batches(self, *, columns: Sequence[str] = ()) -> Iterator[GalleryBatch]:
        """All rows in order of writing, one row group (about 4 MiB of vectors) at a time.

        The vectors are Arrow's own memory and not a copy of it. columns: further columns to read.
        Raises OccframeError: a part is missing, damaged, of another model or without such a column.
        """
        wanted = ["id", "subject", "embedding", *columns]
        for part in self._manifest.parts:
            first, dead = 0, np.asarray(part.tombstones, np.int64)
            for batch in row_groups(self.url, part, self.schema, wanted):
                rows = dead[(dead >= first) & (dead < first + batch.num_rows)] - first
                first += batch.num_rows
                vectors = vectors_of(batch.column("embedding"), self.schema, join(self.url, part.file))
                if len(rows):
                    alive = np.delete(np.arange(batch.num_rows), rows)
                    batch, vectors = batch.take(alive), vectors[alive]
                if batch.num_rows:
                    yield GalleryBatch(
                        batch.column("id").to_pylist(),
                        batch.column("subject").to_pylist(),
                        vectors,
                        {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns},
                    )

    def read(self) -> EmbeddingTable:
        """Everything at once: vectors [count, D] float32, normalised anew after the rounding of float16.

        Raises OccframeError, also for a stored vector that is not of norm 1: then the file was damaged.
        """
        vectors = np.empty((self.count, self.dim), np.float32)
        ids: list[str] = []
        subjects: list[str] = []
        for batch in self.iter_batches():
            rows = slice(len(ids), len(ids) + len(batch.ids))
            vectors[rows] = batch.vectors
            ids += batch.ids
            subjects += batch.subjects
            norms = np.linalg.norm(vectors[rows], axis=1, keepdims=True)
            bad = np.flatnonzero(~(np.abs(norms[:, 0] - 1) <= 2 * NORM_TOLERANCE))
            if len(bad):
                raise OccframeError(
                    f"{self.url}: the stored embedding of `{batch.ids[bad[0]]}` has norm {norms[bad[0], 0]:.4g}, not 1",
                    remedy="the part was damaged after it was written: restore it from a copy, or embed again",
                )
            vectors[rows] /= norms
        return EmbeddingTable(ids, subjects, vectors)

    def verify(self) -> None:
        """Read every part and compare it with what was written. Raises OccframeError naming the first that differs."""
        for part in self._manifest.parts:
            verify_part(self.url, part)

    # --- changing -----------------------------------------------------------------------------------------------------

    def append(
        self,
        ids: Sequence[str],
        subjects: Sequence[str],
        vectors: np.ndarray,
        *,
        model_fingerprint: str,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Add rows and commit them. vectors: array [n, D] float16 or float32 of norm 1, made by that model.

        Raises OccframeError, and changes nothing: see ``GalleryWriter``.
        """
        schema = self.schema.model_copy(update={"model_fingerprint": model_fingerprint})
        with GalleryWriter(self.url, schema) as writer:
            writer.write(ids, subjects, vectors, columns)
        self._manifest = read_manifest(self.url)

    def delete(self, ids: Sequence[str]) -> None:
        """No reader sees these rows again; the ids may be added anew. Their bytes stay until the gallery is compacted.

        Raises OccframeError, and deletes nothing, where an id is not there.
        """
        unknown = set(ids)
        parts = tuple(self._bury(part, unknown) for part in self._manifest.parts)
        if unknown:
            raise OccframeError(
                f"the gallery {self.url} has no id `{min(unknown)}` ({len(unknown)} of {len(set(ids))} are unknown)",
                remedy="nothing was deleted; leave out what is not there",
            )
        following = self._manifest.model_copy(update={"generation": self._manifest.generation + 1, "parts": parts})
        publish(self.url, following)
        self._manifest = following

    def _bury(self, part: Part, wanted: set[str]) -> Part:
        """``part`` with tombstones on the rows of ``wanted``, which are taken out of that set."""
        alive = np.setdiff1d(np.arange(part.rows), part.tombstones)
        found = {item: int(row) for row, item in zip(alive, part_ids(self.url, part), strict=True) if item in wanted}
        if not found:
            return part
        wanted -= set(found)
        return part.model_copy(update={"tombstones": tuple(sorted({*part.tombstones, *found.values()}))})
